"""Releases as they change."""

# ruff: noqa: N802  # RPCs are named by the proto
from collections.abc import AsyncIterator

from gateway.controlplane import names
from gateway.controlplane.messages import release_message
from gateway.controlplane.releases import Releases
from gateway.controlplane.statuses import Context
from gateway.errors import InvalidRequest, QueueFull
from protos import admin_pb2 as pb

MAX_WATCHES = 64
"""Watches never end, so they must not take all the calls there are."""
WATCH_PUSHBACK_MS = 5_000


class Watching:
    """Streams releases to whoever wants to know at once."""

    def __init__(self, releases: Releases) -> None:
        self._releases = releases
        self._watches = 0

    async def WatchReleases(self, request: pb.WatchReleasesRequest, context: Context) -> AsyncIterator[pb.Release]:
        model = names.model_of_release(request.name) if request.name else None
        if self._watches >= MAX_WATCHES:
            raise QueueFull(f"{MAX_WATCHES} clients watch already; end one of them", WATCH_PUSHBACK_MS)
        self._watches += 1
        try:
            if request.after_sequence < 0:
                raise InvalidRequest("after_sequence must not be negative", "after_sequence")
            await self._releases.check_sequence(request.after_sequence)
            with self._releases.subscribe(model, request.after_sequence) as watch:
                async for release in watch:
                    yield release_message(release)
        finally:
            self._watches -= 1
