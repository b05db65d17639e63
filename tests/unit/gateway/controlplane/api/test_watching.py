"""Through a real channel in tests/integration/test_admin.py."""

import pytest

from gateway.controlplane.api import watching
from gateway.controlplane.api.watching import Watching
from gateway.errors import InvalidRequest, OutOfRange, QueueFull
from protos import admin_pb2 as pb
from tests.unit.gateway.controlplane.api.conftest import World


async def test_a_watch_that_ends_makes_room_for_another(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MAX_WATCHES", 1)
    room = Watching(world.releases)
    first = room.WatchReleases(pb.WatchReleasesRequest(), world.context)
    assert (await anext(first)).model == "iris"
    with pytest.raises(QueueFull, match="1 clients watch already"):
        await anext(room.WatchReleases(pb.WatchReleasesRequest(), world.context))
    await first.aclose()  # type: ignore[attr-defined]  # an asynchronous generator
    assert (await anext(room.WatchReleases(pb.WatchReleasesRequest(), world.context))).revision == 1


async def test_a_watch_resumes_after_what_was_seen(world: World) -> None:
    await world.releases.register("wine", 1)
    room = Watching(world.releases)
    resumed = room.WatchReleases(pb.WatchReleasesRequest(after_sequence=1), world.context)
    assert (await anext(resumed)).model == "wine"
    await world.releases.register("digits", 1)
    assert (await anext(resumed)).sequence == 3
    with pytest.raises(OutOfRange):
        await anext(room.WatchReleases(pb.WatchReleasesRequest(after_sequence=4), world.context))
    with pytest.raises(InvalidRequest) as caught:
        await anext(room.WatchReleases(pb.WatchReleasesRequest(after_sequence=-1), world.context))
    assert caught.value.field == "after_sequence"
