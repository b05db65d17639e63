"""Arrays become the protocol's bytes, and no number changes on the way."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from loadtests import tensors
from loadtests.tensors import RowsError, TensorSpec
from protos.inference_pb2 import ModelMetadataResponse


def spec(datatype: str, *shape: int) -> TensorSpec:
    return TensorSpec("x", datatype, (-1, *shape), batched=True)


@pytest.mark.parametrize(
    ("datatype", "values", "raw"),
    [
        ("FP32", [[1.5, -2.0]], "0000c03f000000c0"),
        ("FP64", [[1.5]], "000000000000f83f"),
        ("FP16", [[1.5, 65504.0]], "003eff7b"),
        ("BF16", [[1.5, float("nan")]], "c03fc07f"),
        ("INT8", [[-1, 127]], "ff7f"),
        ("INT64", [[2**53 + 1]], "0100000000002000"),
        ("UINT16", [[258]], "0201"),
        ("UINT64", [[1.0]], "0100000000000000"),
        ("BOOL", [[True, False]], "0100"),
        ("BOOL", [[1, 0]], "0100"),
        ("BYTES", [["é", ""]], "02000000c3a900000000"),
    ],
)
def test_bytes_on_the_wire(datatype: str, values: list[list[object]], raw: str) -> None:
    made = spec(datatype, len(values[0]))
    assert tensors.raw(tensors.fit(np.array(values), made)[0], made).hex() == raw


def test_bf16_rounds_to_nearest_even() -> None:
    bits = np.array([[0x3F800000, 0x3F808000, 0x3F818000, 0x3F808001]], "<u4").view("<f4")
    assert tensors.fit(bits, spec("BF16", 4)).tolist() == [[0x3F80, 0x3F80, 0x3F82, 0x3F81]]


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        ("INT8", [[128]]),
        ("UINT8", [[-1]]),
        ("INT64", [[1.5]]),
        ("INT64", [[float("nan")]]),
        ("BOOL", [[2]]),
        ("FP16", [[1e6]]),
        ("FP32", [[1e300]]),
    ],
)
def test_a_number_that_would_change_is_refused(datatype: str, values: list[list[float]]) -> None:
    with pytest.raises(RowsError, match="cannot hold every number"):
        tensors.fit(np.array(values), spec(datatype, 1))


def test_rounding_of_real_numbers_is_no_change() -> None:
    assert tensors.fit(np.array([[0.1]]), spec("FP32", 1)).dtype == np.float32
    assert np.isinf(tensors.fit(np.array([[np.inf]]), spec("FP16", 1))[0, 0])


def test_text_is_parsed_as_the_model_wants_it() -> None:
    assert tensors.fit(np.array([["1", "-2"]]), spec("INT64", 2)).tolist() == [[1, -2]]
    assert tensors.fit(np.array([["1e-3"]]), spec("FP64", 1)).tolist() == [[0.001]]
    with pytest.raises(RowsError, match="could not convert string"):
        tensors.fit(np.array([["one"]]), spec("FP32", 1))
    with pytest.raises(RowsError, match="invalid literal"):
        tensors.fit(np.array([["1.5"]]), spec("INT64", 1))


@pytest.mark.parametrize("values", [np.array([[1 + 2j]]), np.array([["2024-01-01"]], "datetime64[D]")])
def test_other_kinds_are_refused(values: NDArray[Any]) -> None:
    with pytest.raises(RowsError, match="cannot be read from"):
        tensors.fit(values, spec("FP32", 1))


def test_numbers_are_not_text() -> None:
    with pytest.raises(RowsError, match="takes text"):
        tensors.fit(np.array([[1]]), spec("BYTES", 1))


def test_shapes() -> None:
    assert tensors.fit(np.zeros((5, 7, 2)), spec("FP32", -1, 2)).shape == (5, 7, 2)
    assert tensors.fit(np.zeros(5), spec("FP32", 1)).shape == (5, 1)
    assert tensors.fit(np.zeros(5), spec("FP32")).shape == (5,)
    fixed = TensorSpec("x", "FP32", (2, 3), batched=False)
    assert tensors.fit(np.zeros((5, 2, 3)), fixed).shape == (5, 2, 3)
    for wrong in (np.zeros((5, 3)), np.zeros((5, 7, 3)), np.zeros(5), np.zeros(())):
        with pytest.raises(RowsError, match="takes rows of shape"):
            tensors.fit(wrong, spec("FP32", -1, 2))


def test_specs_of_metadata() -> None:
    tensor = ModelMetadataResponse.TensorMetadata
    first, second = tensor(name="a", datatype="FP32", shape=[-1, 4]), tensor(name="b", datatype="BYTES", shape=[-1])
    assert tensors.specs([first, second]) == (
        TensorSpec("a", "FP32", (-1, 4), batched=True),
        TensorSpec("b", "BYTES", (-1,), batched=True),
    )
    assert not tensors.specs([first, tensor(name="c", datatype="FP32", shape=[4])])[0].batched
    assert str(tensors.specs([first])[0]) == "'a' FP32 [-1, 4]"
    with pytest.raises(RowsError, match="unknown data type 'FP4'"):
        tensors.specs([tensor(name="a", datatype="FP4", shape=[-1])])


@pytest.mark.parametrize("datatype", ["FP32", "FP16", "BF16", "INT8", "UINT64", "BOOL", "BYTES"])
def test_random_rows_fit_their_spec(datatype: str) -> None:
    made = spec(datatype, 3, -1)
    assert tensors.fit(tensors.random(made, 10, np.random.default_rng(0)), made).shape == (10, 3, 1)
