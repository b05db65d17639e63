from typing import cast

from gateway.controlplane import audit
from gateway.controlplane.api import copying
from gateway.controlplane.api.copying import Copying
from gateway.controlplane.commands import Register
from gateway.controlplane.release import apply, unborn
from gateway.controlplane.statuses import Context
from gateway.controlplane.store import backup
from gateway.controlplane.store.memory import MemoryStore
from protos import admin_pb2 as pb


async def test_a_backup_is_the_lines_of_the_store_in_pieces() -> None:
    store = MemoryStore()
    births = []
    for number in range(500):
        after, (fact,) = apply(unborn(f"model-{number}"), Register(1), now_ms=1)
        births.append((after, audit.draft(fact, actor="ada", reason="", request_id="")))
    await store.enrol(births)
    pieces = [piece.lines async for piece in Copying(store).Backup(pb.BackupRequest(), cast("Context", None))]
    assert len(pieces) > 2
    assert all(len(piece) >= copying.CHUNK_BYTES and piece.endswith(b"\n") for piece in pieces[:-1])
    records = list(backup.read(b"".join(pieces).splitlines(keepends=True)))
    assert len(records) == 1_000
