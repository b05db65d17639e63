"""A copy of the store, for a file."""

# ruff: noqa: N802  # RPCs are named by the proto
from collections.abc import AsyncIterator
from typing import Final

from gateway.controlplane.statuses import Context
from gateway.controlplane.store import Store
from protos import admin_pb2 as pb

CHUNK_BYTES: Final = 64 << 10


class Copying:
    """Gives away what the store holds."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def Backup(self, request: pb.BackupRequest, context: Context) -> AsyncIterator[pb.BackupResponse]:
        """The lines of a backup, many in each message."""
        lines = bytearray()
        async for line in self._store.dump():
            lines += line
            if len(lines) >= CHUNK_BYTES:
                yield pb.BackupResponse(lines=bytes(lines))
                lines.clear()
        yield pb.BackupResponse(lines=bytes(lines))
