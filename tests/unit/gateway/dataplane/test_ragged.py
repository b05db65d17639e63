from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane import ragged
from gateway.oip.request import Input
from gateway.routing.snapshot import Queueing, Tensor
from protos import inference_pb2 as pb
from tests.unit.gateway.dataplane.fakes import FakeCall, Frame, LaneBench, pool, result

PAD = Queueing(pad_ragged=True)
X = (Tensor("X", "FP32", (-1, -1)),)
Y = (Tensor("Y", "FP32", (-1, -1)),)


def ragged_lane(**changes: Any) -> LaneBench:
    fields: dict[str, Any] = {"inputs": X, "outputs": Y, "queueing": PAD, "max_batch_size": 64}
    return LaneBench(**(fields | changes))


def ask(bench: LaneBench, values: "np.ndarray[Any, Any]", **fields: Any) -> FakeCall:
    message = pb.ModelInferRequest(model_name="m", raw_input_contents=[values.astype("<f4").tobytes()], **fields)
    message.inputs.add(name="X", datatype="FP32", shape=values.shape)
    return bench.send(message.SerializeToString())


def doubled(asked: Frame) -> bytes:
    """The model Y = 2 X, whatever the width."""
    (section,) = asked.sections
    x = np.frombuffer(section.tensors[0], "<f4")
    width = x.size // asked.rows
    return result(asked.number, [("Y", "FP32", [width], (2 * x).tobytes())], asked.rows)


def test_requests_of_different_widths_are_padded_joined_and_cut_back() -> None:
    bench = ragged_lane()
    given = [np.arange(rows * width, dtype="f4").reshape(rows, width) + 1 for rows, width in ((1, 5), (2, 8), (1, 6))]
    calls = [ask(bench, values) for values in given]
    bench.turn()
    (asked,) = bench.worker.frames()
    assert asked.sections[0].signature.rstrip() == b'[["X","FP32",[8]]]'
    padded = np.frombuffer(asked.sections[0].tensors[0], "<f4").reshape(4, 8)
    assert padded[0].tolist() == [1, 2, 3, 4, 5, 0, 0, 0]
    assert padded[3].tolist() == [1, 2, 3, 4, 5, 6, 0, 0]
    bench.worker.answer(doubled)
    assert [call.array() for call in calls] == [(2 * values).tolist() for values in given]


def test_widths_far_apart_are_not_joined() -> None:
    bench = ragged_lane()
    for width in (5, 9, 8):
        ask(bench, np.ones((1, width)))
    bench.turn()
    assert [frame.sections[0].signature.rstrip() for frame in bench.worker.frames()] == [
        b'[["X","FP32",[8]]]',
        b'[["X","FP32",[9]]]',
    ]


def test_without_the_setting_nothing_is_padded() -> None:
    bench = ragged_lane(queueing=Queueing())
    for width in (5, 6):
        ask(bench, np.ones((1, width)))
    bench.turn()
    assert [frame.rows for frame in bench.worker.frames()] == [1, 1]


def test_requests_of_one_width_are_joined_as_ever() -> None:
    bench = ragged_lane()
    calls = [ask(bench, np.full((1, 5), value)) for value in (1.0, 2.0)]
    bench.turn()
    (asked,) = bench.worker.frames()
    assert asked.sections[0].signature.rstrip() == b'[["X","FP32",[5]]]'
    bench.worker.answer(doubled)
    assert [call.array() for call in calls] == [[[2.0] * 5], [[4.0] * 5]]


def test_a_fixed_answer_is_left_whole() -> None:
    bench = ragged_lane(outputs=(Tensor("Y", "FP32", (-1, 8)),))
    calls = [ask(bench, np.ones((1, width))) for width in (5, 8)]
    bench.turn()
    bench.worker.answer(lambda asked: result(asked.number, [("Y", "FP32", [8], bytes(64))], 2))
    assert [len(call.array()[0]) for call in calls] == [8, 8]


def test_the_ragged_axis_of_an_answer_need_not_be_its_last() -> None:
    bench = ragged_lane(outputs=(Tensor("Y", "FP32", (-1, -1, 2)),))
    calls = [ask(bench, np.ones((1, width))) for width in (3, 4)]
    bench.turn()
    body = np.arange(16, dtype="<f4").tobytes()
    bench.worker.answer(lambda asked: result(asked.number, [("Y", "FP32", [4, 2], body)], 2))
    assert calls[0].array() == [[[0, 1], [2, 3], [4, 5]]]
    assert calls[1].array() == [[[8, 9], [10, 11], [12, 13], [14, 15]]]


def test_classes_are_those_of_the_cut_answer() -> None:
    bench = ragged_lane()
    output = pb.ModelInferRequest.InferRequestedOutputTensor(name="Y")
    output.parameters["classification"].int64_param = 8
    calls = [ask(bench, np.ones((1, 5)), outputs=[output]), ask(bench, np.ones((1, 8)))]
    bench.turn()
    bench.worker.answer(doubled)
    assert list(calls[0].response.outputs[0].shape) == [1, 5]
    assert calls[1].array() == [[2.0] * 8]


def test_texts_and_fixed_axes_are_not_padded() -> None:
    texts = pool(inputs=(Tensor("X", "BYTES", (-1, -1)),), queueing=PAD)
    fixed = pool(queueing=PAD)
    flat = pool(inputs=(Tensor("X", "FP32", (-1,)),), queueing=PAD)
    single = pool(inputs=X, batched=False, queueing=PAD)
    for each in (texts, fixed, flat, single):
        (spec,) = each.inputs
        assert ragged.last_axes([Input("X", spec.datatype, (1, 2)[: len(spec.shape)])], each) == ()


shapes = st.lists(st.integers(1, 5), min_size=1, max_size=4)


@given(shapes.flatmap(lambda shape: st.tuples(st.just(shape), st.tuples(*[st.integers(1, size) for size in shape]))))
def test_cutting_is_slicing(case: tuple[list[int], tuple[int, ...]]) -> None:
    shape, own = case
    whole = np.arange(np.prod(shape), dtype="<i4").reshape(shape)
    expected = whole[tuple(slice(size) for size in own)]
    assert bytes(ragged.cut(memoryview(whole.tobytes()), shape, own, 4)) == expected.tobytes()


@given(
    st.integers(1, 70).flatmap(
        lambda chunk: st.tuples(st.just(chunk), st.integers(1, chunk), st.integers(1, 70), st.integers(0, 5))
    )
)
def test_both_ways_to_move_runs_agree(case: tuple[int, int, int, int]) -> None:
    chunk_bytes, kept_bytes, chunks, more_bytes = case
    raw = memoryview(np.random.default_rng(0).bytes(chunk_bytes * chunks))
    ways = (ragged._run_by_run, ragged._byte_by_byte)
    one, other = (way(raw, chunk_bytes, kept_bytes, kept_bytes + more_bytes) for way in ways)
    assert one == other
    assert len(one) == chunks * (kept_bytes + more_bytes)


def test_many_short_runs_are_moved_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ragged, "_run_by_run", None)
    raw = np.ones((1000, 3), "<f4").tobytes()
    padded = ragged._pad(raw, 12, 16)
    assert np.frombuffer(padded, "<f4").reshape(1000, 4)[:, 3].tolist() == [0] * 1000
    assert ragged.cut(padded, (1000, 4), (1000, 3), 4) == raw


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 40)), min_size=1, max_size=12))
def test_whoever_is_joined_with_whomever_everybody_gets_the_own_answer(asked: list[tuple[int, int]]) -> None:
    bench = ragged_lane()
    given = [np.random.default_rng(i).random(shape).astype("f4") for i, shape in enumerate(asked)]
    calls = [ask(bench, values) for values in given]
    bench.turn()
    while bench.worker.frames():
        bench.worker.answer(doubled)
        bench.turn()
    for call, values in zip(calls, given, strict=True):
        np.testing.assert_array_equal(np.asarray(call.array(), "f4"), 2 * values)
