"""Through a real channel in tests/integration/test_operations.py."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.controlplane.api.loading import MAX_KEEP_S, Loading
from gateway.controlplane.api.versions import Versions
from gateway.controlplane.operations import Operations
from gateway.errors import InvalidRequest
from protos import admin_pb2 as pb
from tests.unit.gateway.controlplane.api.conftest import World
from tests.unit.gateway.controlplane.fake_fleet import status

IRIS_2 = "models/iris/versions/2"


@pytest.fixture
async def operations() -> AsyncIterator[Operations]:
    made = Operations()
    yield made
    await made.close()


def room(world: World, operations: Operations) -> Loading:
    world.fleet.known = [status("iris", 2)]
    return Loading(world.fleet, Versions(world.releases, world.fleet, world.known), operations)


async def ended(operations: Operations, message: Any) -> Any:
    return await operations.wait(message.name.removeprefix("operations/"), 60.0)


async def test_a_version_is_loaded(world: World, operations: Operations) -> None:
    begun = await room(world, operations).LoadVersion(pb.LoadVersionRequest(name=IRIS_2), world.context)
    done = await ended(operations, begun)
    assert (done.response.version, done.actor, done.asked.verb) == (2, "ada", "load")
    assert world.fleet.prepared == [("iris", 2, False)]


async def test_a_version_is_kept_warm(world: World, operations: Operations) -> None:
    loading = room(world, operations)
    for keep_s in (0, 60):
        request = pb.WarmVersionRequest(name=IRIS_2, keep_s=keep_s)
        await ended(operations, await loading.WarmVersion(request, world.context))
    assert world.fleet.kept == [("iris", 2, 3_600), ("iris", 2, 60)]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.WarmVersionRequest(name="iris"), "name"),
        (pb.WarmVersionRequest(name=IRIS_2, keep_s=MAX_KEEP_S + 1), "keep_s"),
        (pb.WarmVersionRequest(name=IRIS_2, keep_s=-1), "keep_s"),
        (pb.WarmVersionRequest(name=IRIS_2, request_id="x" * 129), "request_id"),
    ],
)
async def test_what_is_wrong_begins_nothing(
    world: World, operations: Operations, request_: pb.WarmVersionRequest, field: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await room(world, operations).WarmVersion(request_, world.context)
    assert (caught.value.field, operations.list()) == (field, [])
