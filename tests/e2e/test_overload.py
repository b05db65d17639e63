"""More than a version can do, through a whole gateway: who is refused, who is served, and in which order."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from protos import inference_pb2 as pb
from protos.inference_pb2_grpc import GRPCInferenceServiceStub
from tests import models
from tests.e2e.calls import FEATURES, request
from tests.serving import Gateway, serving
from tests.unit.gateway.dataplane.fakes import until
from workers.session import load


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Models that take a while for each row, and bounds of some rows' time where there are any."""
    folder = tmp_path_factory.mktemp("overload")
    content = models.slow(rounds=25)
    row_ms = 1000 * run_s(models.save(folder / "probe", "slow", 1, content))
    for name, settings in {
        "impatient": f'max_queue_wait = "{max(1, round(25 * row_ms))}ms"',
        "patient": 'max_queue_wait = "0s"',
        "ranked": 'max_queue_wait = "0s"\npriority_levels = 2',
        "timed": f'max_queue_wait = "0s"\nqueue_timeout = "{max(1, round(10 * row_ms))}ms"',
    }.items():
        path = models.save(folder / "models", name, 1, content)
        path.with_name("model.toml").write_text(f'batching = "off"\n{settings}\n')
    with serving(folder / "models", folder / "state") as running:
        yield running


def run_s(path: Path) -> float:
    """How long the model takes for a row on this machine, now."""
    model = load(path, 1)
    row = {"X": np.ones((1, FEATURES), np.float32)}
    durations_s = []
    for _ in range(5):
        started_s = time.perf_counter()
        model.run(row)
        durations_s.append(time.perf_counter() - started_s)
    return sorted(durations_s)[2]


class Clients:
    """Calls on one connection; `done` are their names in the order of their ends, `codes` their statuses."""

    def __init__(self, stub: GRPCInferenceServiceStub) -> None:
        self._stub = stub
        self.done: list[str] = []
        self.codes: dict[str, Counter[grpc.StatusCode]] = {}
        self.pushbacks: list[int] = []

    async def ask(self, model: str, name: str, *, timeout_s: float = 60.0, **parameters: int) -> grpc.StatusCode:
        message = request(model)
        for key, value in parameters.items():
            message.parameters[key].int64_param = value
        try:
            reply: pb.ModelInferResponse = await self._stub.ModelInfer(
                message, timeout=timeout_s, metadata=(("x-user-id", name),)
            )
            assert reply.model_name == model
            code = grpc.StatusCode.OK
        except grpc.aio.AioRpcError as error:
            code = error.code()
            trailers = dict(error.trailing_metadata() or ())
            if code == grpc.StatusCode.RESOURCE_EXHAUSTED:
                self.pushbacks.append(int(trailers["grpc-retry-pushback-ms"]))
        self.done.append(name)
        self.codes.setdefault(name, Counter())[code] += 1
        return code

    async def ask_many(self, count: int, model: str, name: str) -> None:
        await asyncio.gather(*(self.ask(model, name) for _ in range(count)))


@pytest.fixture
async def clients(gateway: Gateway) -> AsyncIterator[Clients]:
    async with grpc.aio.insecure_channel(gateway.target) as channel:
        yield Clients(GRPCInferenceServiceStub(channel))


OK, EXHAUSTED, LATE = (
    grpc.StatusCode.OK,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
)


async def test_who_would_wait_too_long_is_refused_and_told_when_to_come_back(clients: Clients) -> None:
    await clients.ask_many(100, "impatient", "all")
    found = clients.codes["all"]
    assert set(found) == {OK, EXHAUSTED}
    assert found.total() == 100
    assert len(clients.pushbacks) == found[EXHAUSTED]
    assert all(10 <= ms <= 10_000 for ms in clients.pushbacks)
    assert await clients.ask("impatient", "after") == OK, "nothing is left of it"


async def test_who_asks_for_most_is_refused_and_who_asks_for_little_is_served(clients: Clients) -> None:
    flood = asyncio.get_running_loop().create_task(_flood(clients))
    await until(lambda: EXHAUSTED in clients.codes.get("flood", ()))
    guests = [await clients.ask("impatient", "guest") for _ in range(5)]
    flood.cancel()
    assert guests == [OK] * 5


async def _flood(clients: Clients) -> None:
    while True:
        await clients.ask_many(60, "impatient", "flood")


async def test_who_comes_late_to_a_long_queue_is_served_in_turn(clients: Clients) -> None:
    many = asyncio.get_running_loop().create_task(clients.ask_many(60, "patient", "many"))
    await until(lambda: clients.done)
    await clients.ask("patient", "late")
    assert clients.done.index("late") < 30, "it does not wait for all that came before"
    await many
    assert clients.codes == {"many": {OK: 60}, "late": {OK: 1}}


async def test_a_higher_priority_is_served_first(clients: Clients) -> None:
    low = asyncio.get_running_loop().create_task(clients.ask_many(60, "ranked", "low"))
    await until(lambda: clients.done)
    assert await clients.ask("ranked", "high", priority=1) == OK
    assert clients.done.index("high") < 30
    await low
    assert clients.codes["low"] == {OK: 60}


async def test_a_deadline_that_cannot_be_met_is_refused_on_arrival(gateway: Gateway, clients: Clients) -> None:
    many = asyncio.get_running_loop().create_task(clients.ask_many(60, "patient", "many"))
    await until(lambda: clients.done)
    error = await _error(gateway, "patient", timeout_us=1000)
    assert "before a worker is free" in (error.details() or "")
    assert error.code() == LATE
    await many


async def _error(gateway: Gateway, model: str, timeout_us: int) -> grpc.aio.AioRpcError:
    message = request(model)
    message.parameters["timeout"].int64_param = timeout_us
    async with grpc.aio.insecure_channel(gateway.target) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await GRPCInferenceServiceStub(channel).ModelInfer(message, timeout=60, metadata=(("x-user-id", "many"),))
    return caught.value


async def test_nobody_waits_longer_than_the_queue_timeout(gateway: Gateway, clients: Clients) -> None:
    await clients.ask_many(200, "timed", "all")
    found = clients.codes["all"]
    assert set(found) == {OK, LATE}
    assert await clients.ask("timed", "after") == OK
    await until(lambda: gateway.metric("cutover_in_flight_requests") == 0)
