import pytest

from gateway.dataplane import batcher
from gateway.dataplane.door import QUICK_US
from gateway.dataplane.job import Load
from gateway.dataplane.lane import Lane
from gateway.errors import Code, NotReady, QueueFull
from gateway.routing.snapshot import Tensor
from protos import inference_pb2 as pb
from tests.unit.gateway.dataplane.fakes import FakeCall, LaneBench, ManualLoop, floats, infer, job_of, pool
from workers import wire


def test_an_idle_worker_takes_what_is_there_in_one_batch() -> None:
    bench = LaneBench()
    calls = [bench.submit((1, 2), (3, 4)), bench.submit((5, 6)), bench.submit((7, 8), id="c")]
    bench.turn()
    (asked,) = bench.worker.frames()
    assert asked.kind == wire.RUN
    assert asked.rows == 4
    assert asked.sections[0].tensors == [floats(1, 2, 3, 4, 5, 6, 7, 8)]
    assert bench.load.in_flight == 3
    bench.worker.answer()
    assert [call.array() for call in calls] == [[[1, 2], [3, 4]], [[5, 6]], [[7, 8]]]
    assert [call.response.id for call in calls] == ["", "", "c"]
    assert bench.load.in_flight == 0
    assert bench.lane.idle


def test_one_extra_batch_is_in_flight_and_never_two() -> None:
    bench = LaneBench()
    calls = []
    for value in range(6):
        calls.append(bench.submit((value, value)))
        bench.turn()
    assert [frame.rows for frame in bench.worker.frames()] == [1, 1]
    assert bench.lane.queued == 4
    bench.worker.answer()
    bench.turn()
    assert [frame.rows for frame in bench.worker.frames()] == [1, 4], "the batch grew while the worker was busy"
    bench.worker.answer()
    bench.worker.answer()
    assert [call.array() for call in calls] == [[[value, value]] for value in range(6)]


def test_behind_a_quick_batch_the_next_grows_until_it_is_as_large() -> None:
    bench = LaneBench()
    bench.lane.door.answered(1, QUICK_US - 1)
    bench.submit((1, 2), (3, 4), (5, 6))
    bench.turn()
    bench.submit((1, 2), (3, 4))
    bench.turn()
    assert [frame.rows for frame in bench.worker.frames()] == [3]
    bench.submit((5, 6))
    bench.turn()
    assert [frame.rows for frame in bench.worker.frames()] == [3, 3]


def test_what_grew_behind_a_quick_batch_is_sent_when_that_is_answered() -> None:
    bench = LaneBench()
    bench.lane.door.answered(1, QUICK_US - 1)
    bench.submit((1, 2), (3, 4), (5, 6))
    bench.turn()
    call = bench.submit((1, 2))
    bench.turn()
    assert [frame.rows for frame in bench.worker.frames()] == [3]
    bench.worker.answer()
    bench.turn()
    assert [frame.rows for frame in bench.worker.frames()] == [1]
    bench.worker.answer()
    assert call.array() == [[1, 2]]


def test_behind_a_batch_that_is_not_quick_whatever_waits_is_sent() -> None:
    bench = LaneBench()
    bench.lane.door.answered(1, QUICK_US)
    bench.submit((1, 2), (3, 4))
    bench.turn()
    bench.submit((5, 6))
    bench.turn()
    assert [frame.rows for frame in bench.worker.frames()] == [2, 1]


def test_an_idle_worker_is_preferred_to_a_busy_one() -> None:
    bench = LaneBench(workers=2)
    for value in range(2):
        bench.submit((value, value))
        bench.turn()
    assert [len(worker.frames()) for worker in bench.workers] == [1, 1]


def test_a_batch_stays_within_the_rows_of_the_pool() -> None:
    bench = LaneBench(max_batch_size=4)
    for _ in range(3):
        bench.submit((1, 2), (3, 4))
    bench.turn()
    assert [frame.rows for frame in bench.worker.frames()] == [4, 2]


def test_a_request_with_more_rows_than_the_pool_joins_goes_alone() -> None:
    bench = LaneBench(max_batch_size=4)
    call = bench.submit(*[(row, row) for row in range(9)])
    bench.submit((1, 2))
    bench.turn()
    assert [frame.rows for frame in bench.worker.frames()] == [9, 1]
    bench.worker.answer()
    assert len(call.array()) == 9


def test_strings_count_towards_the_bytes_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher, "MAX_BATCH_BYTES", 100)
    bench = LaneBench(inputs=(Tensor("X", "BYTES", (-1,)),))
    message = pb.ModelInferRequest(model_name="m")
    message.inputs.add(name="X", datatype="BYTES", shape=[1])
    message.raw_input_contents.append(wire.SIZE.pack(36) + b"x" * 36)
    for _ in range(3):
        bench.send(message.SerializeToString())
    bench.turn()
    assert [frame.rows for frame in bench.worker.frames()] == [2, 1]


def test_numbers_count_towards_the_bytes_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher, "MAX_BATCH_BYTES", 24)
    bench = LaneBench()
    for _ in range(4):
        bench.submit((1, 2))
    bench.turn()
    assert [frame.rows for frame in bench.worker.frames()] == [3, 1]


def test_only_equal_signatures_are_joined_and_those_passed_over_go_next() -> None:
    bench = LaneBench(workers=2, inputs=(Tensor("X", "FP32", (-1, -1)),), outputs=(Tensor("Y", "FP32", (-1, -1)),))
    wide = pb.ModelInferRequest(model_name="m")
    wide.inputs.add(name="X", datatype="FP32", shape=[1, 3])
    wide.raw_input_contents.append(floats(7, 8, 9))
    bench.submit((1, 2))
    bench.submit((3, 4))
    bench.send(wide.SerializeToString())
    bench.submit((5, 6))
    bench.turn()
    frames = sorted((frame for worker in bench.workers for frame in worker.frames()), key=lambda frame: frame.number)
    assert [(f.sections[0].signature.rstrip(), f.sections[0].tensors) for f in frames] == [
        (b'[["X","FP32",[2]]]', [floats(1, 2, 3, 4, 5, 6)]),
        (b'[["X","FP32",[3]]]', [floats(7, 8, 9)]),
    ]


def test_without_a_batch_axis_requests_run_one_by_one() -> None:
    bench = LaneBench(
        batched=False, inputs=(Tensor("X", "FP32", (1, 2)),), outputs=(Tensor("Y", "FP32", (1, 2)),), max_batch_size=1
    )
    for _ in range(3):
        bench.submit((1, 2))
    bench.turn()
    frames = bench.worker.frames()
    assert [frame.rows for frame in frames] == [1, 1]
    assert frames[0].sections[0].signature.rstrip() == b'[["X","FP32",[1,2]]]'
    assert bench.lane.queued == 1


def test_two_inputs_are_joined_input_by_input() -> None:
    inputs = (Tensor("A", "FP32", (-1, 2)), Tensor("B", "INT64", (-1,)))
    bench = LaneBench(inputs=inputs)
    for value in (1, 2):
        message = pb.ModelInferRequest(model_name="m")  # B first: the wire has the order of the model
        message.inputs.add(name="B", datatype="INT64", shape=[1])
        message.inputs.add(name="A", datatype="FP32", shape=[1, 2])
        message.raw_input_contents.extend([value.to_bytes(8, "little"), floats(value, value)])
        bench.send(message.SerializeToString())
    bench.turn()
    (asked,) = bench.worker.frames()
    assert asked.sections[0].tensors == [
        floats(1, 1, 2, 2),
        (1).to_bytes(8, "little") + (2).to_bytes(8, "little"),
    ]


def test_a_request_without_rows_is_answered() -> None:
    bench = LaneBench()
    calls = [bench.submit(), bench.submit((1, 2)), bench.submit()]
    bench.turn()
    while bench.worker.frames():
        bench.worker.answer()
        bench.turn()
    assert [call.response.outputs[0].shape for call in calls] == [[0, 2], [1, 2], [0, 2]]
    assert [call.response.raw_output_contents[0] for call in calls] == [b"", floats(1, 2), b""]


def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    bench = LaneBench(workers=0, max_queue=2)
    bench.submit((1, 2))
    bench.submit((1, 2))
    with pytest.raises(QueueFull, match="m version 1: 2 requests wait already") as caught:
        bench.submit((1, 2))
    assert caught.value.pushback_ms == 100, "nothing is known of the model yet"
    assert bench.load.in_flight == 2


def test_a_failed_pool_refuses_with_its_error() -> None:
    bench = LaneBench(workers=0, state="failed", error="not an ONNX model")
    with pytest.raises(NotReady, match="m version 1 is not ready: not an ONNX model"):
        bench.submit((1, 2))
    assert bench.load.in_flight == 0


def test_a_request_waits_for_a_worker_to_come() -> None:
    bench = LaneBench(workers=0)
    call = bench.submit((1, 2))
    bench.turn()
    before = bench.lane.ready
    bench.add_worker()
    assert (before, bench.lane.ready) == (False, True)
    bench.turn()
    bench.worker.answer()
    assert call.array() == [[1, 2]]


def test_a_new_description_replaces_the_plans_only_when_the_tensors_changed() -> None:
    lane = Lane(pool(), Load(1), ManualLoop().real, 1, 1.0)
    before = lane.plans
    lane.update(pool(state="failed", error="gone"), ())
    assert lane.plans is before
    assert lane.plans.pool.error == "gone"
    lane.update(pool(inputs=(Tensor("Z", "FP32", (-1, 2)),)), ())
    assert lane.plans is not before


def test_answered_batches_are_counted_and_mirrored() -> None:
    bench = LaneBench()
    copied = []
    bench.lane.mirror = lambda batch, data, start, stop: copied.append((len(batch.jobs), bytes(data[start:stop])))
    bench.submit((1, 2))
    bench.submit((3, 4))
    bench.turn()
    bench.worker.answer()
    report = bench.lane.tap.take()
    assert report is not None
    assert (report.batches, report.rows, report.sizes, report.compute_us) == (1, 2, {2: 1}, 7)
    assert copied == [], "copies are made after the replies have left"
    bench.turn()
    assert [jobs for jobs, _ in copied] == [2]
    assert copied[0][1].endswith(floats(1, 2, 3, 4))


def test_a_result_that_does_not_fit_fails_its_batch_alone_and_is_not_mirrored() -> None:
    bench = LaneBench()
    bench.lane.mirror = lambda *_: pytest.fail("mirrored")
    bad = bench.submit((1, 2))
    bench.turn()
    good = bench.submit((3, 4))
    bench.turn()
    asked = bench.worker.frames()[0]
    bench.worker.waiting.popleft()
    bench.worker.channel.data_received(wire.HEADER.pack(3, asked.number, wire.RESULT, 0, 0, 0) + b"???")
    assert bad.code == Code.INTERNAL
    assert "does not fit" in bad.text
    bench.lane.mirror = None
    bench.worker.answer()
    assert good.array() == [[3, 4]]
    assert bench.load.in_flight == 0


@pytest.mark.parametrize("kind", [wire.COMPARED, wire.RUN, 77])
def test_another_kind_of_frame_is_no_result(kind: int) -> None:
    bench = LaneBench()
    call = bench.submit((1, 2))
    bench.turn()
    asked = bench.worker.frames()[0]
    bench.worker.channel.data_received(wire.HEADER.pack(0, asked.number, kind, 0, 0, 0))
    assert call.code == Code.INTERNAL
    assert f"kind {kind}" in call.text
    assert bench.load.in_flight == 0


def test_a_call_without_a_plan_never_reaches_the_queue() -> None:
    lane = Lane(pool(inputs=(), outputs=(), state="loading"), Load(1), ManualLoop().real, 1, 1.0)
    with pytest.raises(NotReady, match="it is loading"):
        job_of(lane, FakeCall(infer((1, 2))))
