"""Work that goes on after the call that asked for it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from gateway.controlplane import operations as module
from gateway.controlplane.operations import KEPT_MS, MAX_DONE, Asked, Cancelled, Operations
from gateway.errors import InvalidRequest, NotFound, QueueFull, Refused
from protos import admin_pb2 as pb

LOAD = Asked("load", "models/iris/versions/2")
LONG_S = 60.0


class World:
    """Operations that end when told to."""

    def __init__(self) -> None:
        self.now_ms = 1_000
        self.operations = Operations(lambda: self.now_ms)
        self.may_end = asyncio.Event()
        self.failure: Exception | None = None

    async def work(self) -> pb.Version:
        await self.may_end.wait()
        if self.failure:
            raise self.failure
        return pb.Version(version=2)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.operations.close()


async def test_it_runs_until_it_has_a_response(world: World) -> None:
    begun = world.operations.start(LOAD, world.work, "ada")
    assert (begun.done, begun.actor, begun.created_ms) == (False, "ada", 1_000)
    assert world.operations.get(begun.key) is begun
    assert not (await world.operations.wait(begun.key, 0)).done
    world.now_ms = 3_000
    world.may_end.set()
    ended = await world.operations.wait(begun.key, LONG_S)
    assert (ended.response, ended.error, ended.ended_ms) == (pb.Version(version=2), None, 3_000)


@pytest.mark.parametrize("failure", [Refused("it is broken"), KeyError("secret")])
async def test_it_ends_with_an_error(world: World, failure: Exception) -> None:
    world.failure = failure
    world.may_end.set()
    begun = world.operations.start(LOAD, world.work, "ada")
    with capture_logs() as logs:
        ended = await world.operations.wait(begun.key, LONG_S)
    assert (ended.response, ended.error) == (None, failure)
    surprises = [line for line in logs if line["log_level"] == "error"]
    assert len(surprises) == isinstance(failure, KeyError)


async def test_it_can_be_cancelled(world: World) -> None:
    begun = world.operations.start(LOAD, world.work, "ada")
    world.operations.cancel(begun.key)
    ended = await world.operations.wait(begun.key, LONG_S)
    assert isinstance(ended.error, Cancelled)
    world.operations.cancel(begun.key)


async def test_the_end_of_the_gateway_ends_it_and_tells_who_waits(world: World) -> None:
    begun = world.operations.start(LOAD, world.work, "ada")
    waiting = asyncio.get_running_loop().create_task(world.operations.wait(begun.key, LONG_S))
    await asyncio.sleep(0)
    await world.operations.close()
    assert isinstance((await waiting).error, Cancelled)


async def test_the_same_request_again_gets_the_same_operation(world: World) -> None:
    first = world.operations.start(LOAD, world.work, "ada", "id-1")
    assert world.operations.start(LOAD, world.work, "ada", "id-1") is first
    assert world.operations.start(LOAD, world.work, "ada", "id-2") is not first
    assert world.operations.start(LOAD, world.work, "ada") is not world.operations.start(LOAD, world.work, "ada")
    with pytest.raises(InvalidRequest, match="id-1 was used for another operation") as caught:
        world.operations.start(Asked("warm", LOAD.target, "60"), world.work, "ada", "id-1")
    assert caught.value.field == "request_id"


async def test_one_that_is_done_may_be_deleted_and_is_forgotten_after_a_while(world: World) -> None:
    first, second, third = (world.operations.start(LOAD, world.work, "ada") for _ in range(3))
    with pytest.raises(Refused, match="is running"):
        world.operations.delete(first.key)
    world.may_end.set()
    for begun in (first, second, third):
        await world.operations.wait(begun.key, LONG_S)
    world.operations.delete(first.key)
    with pytest.raises(NotFound):
        world.operations.get(first.key)
    assert world.operations.list() == sorted([second, third], key=lambda operation: operation.key)
    world.now_ms += KEPT_MS + 1
    assert world.operations.list() == []


async def test_not_too_many_are_remembered(world: World) -> None:
    world.may_end.set()
    first = world.operations.start(LOAD, world.work, "ada")
    await world.operations.wait(first.key, LONG_S)
    world.now_ms += 1
    for _ in range(MAX_DONE):
        begun = world.operations.start(LOAD, world.work, "ada")
        await world.operations.wait(begun.key, LONG_S)
    with pytest.raises(NotFound):
        world.operations.get(first.key)
    assert len(world.operations.list()) == MAX_DONE


async def test_not_too_many_run_at_once(world: World) -> None:
    for _ in range(module.MAX_RUNNING):
        world.operations.start(LOAD, world.work, "ada")
    with pytest.raises(QueueFull, match="64 operations are running"):
        world.operations.start(LOAD, world.work, "ada")


async def test_not_too_many_wait(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITS", 0)
    begun = world.operations.start(LOAD, world.work, "ada")
    with pytest.raises(QueueFull, match="wait for operations already"):
        await world.operations.wait(begun.key, LONG_S)
