"""Tests of `workers.warmup`."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests import models
from workers import warmup
from workers.session import Model, load
from workers.tensors import Array
from workers.warmup import MAX_INPUT_BYTES, WarmUp, warm_up


def warm(directory: Path, content: bytes, *, batching: bool = True, rows: int = 8) -> WarmUp:
    return warm_up(load(models.save(directory, "m", 1, content), 1), batching=batching, max_batch_size=rows)


@pytest.mark.parametrize(
    "content",
    [
        models.classifier(),
        models.two_inputs(),
        models.regressor(),
        models.inner_sum(),
        models.lookup(),
        models.crasher(),
        models.text_labels("0", "1"),
        models.text_join(),
        *(models.identity(datatype) for datatype in models.ELEMENT_TYPES),
    ],
)
def test_models_whose_rows_are_independent_are_batched(tmp_path: Path, content: bytes) -> None:
    found = warm(tmp_path, content)
    assert found.batched, found.note
    assert found.note == ""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (models.normalizes_batch(), "output 'Y' of a row depends on the other rows of its batch"),
        (models.repeats_rows(), "the first axis of output 'Y' is not the input's rows"),
        (models.scalar(), "input 'X' has no dynamic first axis"),
        (models.identity("FP32", (4, 2)), "input 'X' has no dynamic first axis"),
    ],
)
def test_models_whose_rows_are_not_independent_run_one_by_one(tmp_path: Path, content: bytes, words: str) -> None:
    found = warm(tmp_path, content)
    assert not found.batched
    assert found.note == f"requests run one by one: {words}"


def test_batching_can_be_turned_off(tmp_path: Path) -> None:
    found = warm(tmp_path, models.classifier(), batching=False)
    assert not found.batched
    assert "batching is off" in found.note


def test_a_model_that_refuses_every_made_up_input_is_still_served(tmp_path: Path) -> None:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(  # takes multiples of seven columns only
        [helper.make_node("Reshape", ["X", "shape"], ["Y"])],
        "g",
        [info("X", TensorProto.FLOAT, ["n", "k"])],
        [info("Y", TensorProto.FLOAT, ["n", "m"])],
        [helper.make_tensor("shape", TensorProto.INT64, [2], [-1, 7 * 11])],
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    found = warm(tmp_path, content)
    assert not found.batched
    assert found.note.startswith("requests run one by one: warm-up inputs were refused: the model refuses the input:")
    assert "\n" not in found.note


def test_a_model_that_needs_larger_inner_axes_is_warmed_with_them(tmp_path: Path) -> None:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(  # a 3x3 convolution without padding refuses 1x1 images
        [
            helper.make_node("Conv", ["X", "kernel"], ["C"], kernel_shape=[3, 3]),
            helper.make_node("GlobalAveragePool", ["C"], ["Y"]),
        ],
        "g",
        [info("X", TensorProto.FLOAT, ["n", 1, "h", "w"])],
        [info("Y", TensorProto.FLOAT, ["n", 1, 1, 1])],
        [helper.make_tensor("kernel", TensorProto.FLOAT, [1, 1, 3, 3], [1.0] * 9)],
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    found = warm(tmp_path, content)
    assert found.batched, found.note


def test_integers_that_only_know_zero_are_found(tmp_path: Path) -> None:
    assert warm(tmp_path, models.lookup(entries=1)).batched


def test_an_output_of_unknown_rank_gets_the_rank_that_was_seen(tmp_path: Path) -> None:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["X", "S"], ["Y"])],
        "g",
        [info("X", TensorProto.FLOAT, ["n"]), info("S", TensorProto.INT64, ["k"])],
        [info("Y", TensorProto.FLOAT, None)],
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    found = warm(tmp_path, content)
    assert found.outputs == (("Y", "FP32", (-1,)),)


class Spy(Model):
    """Keeps what it was run on."""

    def __init__(self, model: Model) -> None:
        self.__dict__ |= model.__dict__
        self.seen: list[Array] = []

    def run(self, feed: Mapping[str, Array]) -> list[Array]:
        self.seen.append(feed["X"])
        return super().run(feed)


def test_made_up_rows_differ_but_not_from_run_to_run(tmp_path: Path) -> None:
    path = models.save(tmp_path, "m", 1, models.identity("INT32", (-1, 4)))
    first, again = Spy(load(path, 1)), Spy(load(path, 1))
    for spy in (first, again):
        assert warm_up(spy, batching=True, max_batch_size=4).batched
    assert set(np.unique(np.concatenate(first.seen))) == {1, 2}
    assert not np.array_equal(first.seen[0], first.seen[2])
    for a, b in zip(first.seen, again.seen, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_largest_batch_is_run_twice_and_bounded_in_bytes(tmp_path: Path) -> None:
    spy = Spy(load(models.save(tmp_path, "m", 1, models.identity("FP32", (-1, 1 << 20))), 1))
    assert warm_up(spy, batching=True, max_batch_size=1000).batched
    assert [len(array) for array in spy.seen] == [1, 1, 1, 2, MAX_INPUT_BYTES >> 22, MAX_INPUT_BYTES >> 22]


def test_a_slow_batch_is_run_only_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warmup, "SLOW_US", 0)
    spy = Spy(load(models.save(tmp_path, "m", 1, models.identity("FP32", (-1, 4))), 1))
    assert warm_up(spy, batching=True, max_batch_size=8).batched
    assert [len(array) for array in spy.seen] == [1, 1, 1, 2, 8]


@pytest.mark.parametrize(("batching", "rows"), [(True, [1, 8]), (False, [1])])
def test_what_a_batch_costs_is_found_out(tmp_path: Path, batching: bool, rows: list[int]) -> None:
    model = load(models.save(tmp_path, "m", 1, models.identity("FP32", (-1, 4))), 1)
    warm = warm_up(model, batching=batching, max_batch_size=8)
    assert [n for n, _ in warm.costs] == rows
    assert all(us >= 1 for _, us in warm.costs)
