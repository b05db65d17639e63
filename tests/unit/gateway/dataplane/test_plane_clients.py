"""What clients may do besides asking, as a plane sees it; and whose requests count apart."""

from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic

import msgspec
import pytest

from gateway.dataplane.regions import Regions
from gateway.errors import Code
from gateway.routing.link import Tracing
from gateway.routing.snapshot import Canary, Policy, Pool, Range, Region
from protos import inference_pb2 as pb
from tests.unit.gateway.dataplane.fakes import FakeCall, Frame, echo, floats, infer, until
from tests.unit.gateway.dataplane.plane_bench import PlaneBench, version


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[PlaneBench]:
    made = PlaneBench(tmp_path)
    yield made
    await made.stop()


async def test_requests_for_versions_that_are_not_stable_are_counted_apart(bench: PlaneBench) -> None:
    canary = Canary(2, (Range(0, 10_000),))
    bench.apply(Policy(1, canaries=(canary,), salt="s"), version(1), version(2))
    for user in ("a", "b"):
        bench.infer(user)
    bench.plane.pipeline.infer(FakeCall(infer((1, 2)), {"cutover-arm": "stable"}))
    assert (bench.plane.pipeline.load.minor, bench.plane.in_flight) == (2, 3)
    for lane in bench.plane._lanes.values():
        lane.sweep(monotonic())
        lane.sweep(monotonic() + 3600)


async def test_an_unloaded_model_answers_what_it_holds_and_nobody_else(bench: PlaneBench) -> None:
    hold: list[Frame] = []

    def keep(asked: Frame) -> None:
        hold.append(asked)

    address = await bench.start("a", answer=keep)
    loaded = version(1, address)
    bench.apply(Policy(1), loaded)
    await until(lambda: bench.plane.ready("m", 1))
    running = bench.infer()
    await until(lambda: hold)
    bench.workers["a"].answer = echo
    waiting = [bench.infer() for _ in range(3)]
    bench.apply(Policy(1), msgspec.structs.replace(loaded, state="unloaded", error="unloaded; load it"))
    late = bench.infer()
    assert (late.code, late.text) == (Code.UNAVAILABLE, "m version 1 is not ready: unloaded; load it")
    assert not bench.plane.ready("m", 1)
    assert bench.plane.settled, "nobody wants it to be ready"
    for writer in bench.workers["a"]._writers:
        writer.write(echo(hold[0]))
    await until(lambda: running.closed and all(call.closed for call in waiting))
    assert {call.code for call in (running, *waiting)} == {Code.OK}
    bench.apply(Policy(1), Pool("m", 1, shadow=False, state="unloaded", error="unloaded; load it"))
    assert bench.infer().code == Code.UNAVAILABLE
    bench.apply(Policy(1), version(1, await bench.start("b")))
    await bench.plane.until_connected()
    assert bench.plane.ready("m", 1)
    assert await bench.answered(bench.infer()) == Code.OK


async def test_traces_are_picked_at_the_rate_of_the_model_and_reported(bench: PlaneBench) -> None:
    bench.plane.trace(Tracing(rate=1, models={"m": 2}))
    bench.apply(Policy(1), version(1, await bench.start("a")))
    await bench.plane.until_connected()
    for name in "abcd":
        call = FakeCall(infer((1, 2), id=name), {}, monotonic())
        bench.plane.pipeline.infer(call)
        assert await bench.answered(call) == Code.OK
    traced = bench.plane.report(0).traces
    assert [(trace.model, trace.version, trace.request_id) for trace in traced] == [("m", 1, "b"), ("m", 1, "d")]
    assert traced[0].arrived_ns <= traced[0].sent_ns <= traced[0].run_ns <= traced[0].ended_ns
    bench.plane.trace(Tracing(rate=1))
    assert await bench.answered(bench.infer()) == Code.OK
    bench.plane.trace(Tracing(rate=1, models={"m": 0}))
    assert await bench.answered(bench.infer()) == Code.OK
    assert len(bench.plane.report(0).traces) == 1
    assert bench.plane.report(0).traces == ()


def shared_input(region: str) -> FakeCall:
    message = pb.ModelInferRequest(model_name="m")
    tensor = message.inputs.add(name="X", datatype="FP32", shape=[1, 2])
    tensor.parameters["shared_memory_region"].string_param = region
    tensor.parameters["shared_memory_byte_size"].int64_param = 8
    return FakeCall(message.SerializeToString(), {}, monotonic())


async def test_shared_memory_is_what_the_snapshot_says(bench: PlaneBench, tmp_path: Path) -> None:
    bench.plane._regions = Regions(tmp_path)
    (tmp_path / "object").write_bytes(floats(3, 4))
    status = (tmp_path / "object").stat()
    region = Region("r", "/object", 0, 8, status.st_dev, status.st_ino)
    address = await bench.start("one")
    loading = version(1, state="loading", inputs=(), outputs=())
    for pools in ((loading,), (version(1, address),)):  # a version's tensors become known later
        bench.apply(Policy(1), *pools, regions=(region,))
    call = shared_input("r")
    bench.plane.pipeline.infer(call)
    assert await bench.answered(call) == Code.OK
    assert call.array() == [[3, 4]]
    bench.apply(Policy(1), version(1, address))
    gone = shared_input("r")
    bench.plane.pipeline.infer(gone)
    assert (gone.code, "'r' is not registered" in gone.text) == (Code.INVALID_ARGUMENT, True)


async def test_where_shared_memory_is_off_the_switch_is_named(bench: PlaneBench) -> None:
    bench.apply(Policy(1), version(1, await bench.start("one")))
    call = shared_input("r")
    bench.plane.pipeline.infer(call)
    assert (call.code, "set shared_memory = true" in call.text) == (Code.INVALID_ARGUMENT, True)
