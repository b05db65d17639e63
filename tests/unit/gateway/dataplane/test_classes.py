import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane.classes import MAX_CLASSES, MAX_VALUES, Classes, check_datatype, unpack
from gateway.errors import InvalidRequest
from workers.tensors import DTYPES


def elements(encoded: bytes) -> list[str]:
    found, position = [], 0
    while position < len(encoded):
        (size,) = struct.unpack_from("<I", encoded, position)
        found.append(encoded[position + 4 : position + 4 + size].decode())
        position += 4 + size
    return found


def encode(datatype: str, rows: list[list[float]], most: int, labels: tuple[str, ...] = ()) -> list[str]:
    array = np.array(rows, DTYPES[datatype])
    made = Classes("Y", datatype, len(rows), len(rows[0]), most, labels)
    return elements(made.encode(memoryview(array.tobytes())))


def test_each_row_gives_its_largest_values_in_order() -> None:
    found = encode("FP32", [[0.1, 0.7, 0.2], [3, 1, 2]], 2)
    assert found == ["0.700000:1", "0.200000:2", "3.000000:0", "2.000000:2"]


def test_labels_are_appended_where_there_are_any() -> None:
    found = encode("FP64", [[1, 2, 3, 4]], 4, ("cat", "", "dog: small"))
    assert found == ["4.000000:3", "3.000000:2:dog: small", "2.000000:1", "1.000000:0:cat"]


def test_there_are_no_more_classes_than_values() -> None:
    assert Classes("Y", "FP32", 1, 2, 5, ()).classes == 2
    assert encode("INT64", [[5, -7]], 5) == ["5:0", "-7:1"]


@pytest.mark.parametrize("datatype", ["UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"])
def test_integers_are_written_plainly(datatype: str) -> None:
    top = int(np.iinfo(DTYPES[datatype]).max)
    assert encode(datatype, [[0, top, 1]], 2) == [f"{top}:1", "1:2"]


def test_floats_are_written_as_cpp_does() -> None:
    assert encode("FP16", [[0.5, 1.5]], 1) == ["1.500000:1"]
    assert encode("FP32", [[1e10, 1e-7, -0.0]], 3) == ["10000000000.000000:0", "0.000000:1", "-0.000000:2"]
    inf, nan = math.inf, math.nan
    assert encode("FP32", [[nan, 1, inf, -inf]], 4) == ["inf:2", "1.000000:1", "nan:0", "-inf:3"]
    upper_halves = np.array([1.0, -2.0, 3.5], "<f4").view("<u2")[1::2].tobytes()
    assert elements(Classes("Y", "BF16", 1, 3, 2, ()).encode(memoryview(upper_halves))) == ["3.500000:2", "1.000000:0"]


def test_equal_values_keep_their_order() -> None:
    assert encode("FP32", [[1, 2, 2, 1]], 4) == ["2.000000:1", "2.000000:2", "1.000000:0", "1.000000:3"]


def test_rows_without_values_and_no_rows_give_nothing() -> None:
    assert Classes("Y", "FP32", 3, 0, 2, ()).encode(b"") == b""
    assert Classes("Y", "FP32", 0, 3, 2, ()).encode(b"") == b""


def test_too_much_to_sort_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=f"output 'Y': 'classification' of {MAX_VALUES + 1} values; at most"):
        Classes("Y", "UINT8", 1, MAX_VALUES + 1, 1, ()).encode(bytes(MAX_VALUES + 1))


@pytest.mark.parametrize(("rows", "values", "most"), [(1, MAX_CLASSES + 1, MAX_CLASSES + 1), (2049, 3, 2)])
def test_too_much_to_write_is_refused(rows: int, values: int, most: int) -> None:
    text = f"output 'Y': 'classification' into {rows * most} classes; at most {MAX_CLASSES} in one request"
    with pytest.raises(InvalidRequest, match=text):
        Classes("Y", "UINT8", rows, values, most, ()).encode(bytes(rows * values))


@pytest.mark.parametrize(("rows", "values", "most"), [(1, MAX_CLASSES, 10**9), (2048, 3, 2)])
def test_what_can_just_be_written(rows: int, values: int, most: int) -> None:
    encoded = Classes("Y", "UINT8", rows, values, most, ()).encode(bytes(rows * values))
    assert len(elements(encoded)) == MAX_CLASSES


@pytest.mark.parametrize("datatype", ["BOOL", "BYTES"])
def test_what_is_no_number_cannot_be_classified(datatype: str) -> None:
    with pytest.raises(InvalidRequest, match=f"output 'Y': 'classification' needs numbers, and it is {datatype}"):
        check_datatype("Y", datatype)
    check_datatype("Y", "BF16")


@given(st.lists(st.floats(width=32), max_size=20), st.integers(1, 25))
def test_the_order_is_that_of_a_stable_sort(values: list[float], most: int) -> None:
    found = elements(Classes("Y", "FP32", 1, len(values), most, ()).encode(np.array(values, "<f4").tobytes()))
    ranked = sorted(range(len(values)), key=lambda i: -math.inf if math.isnan(values[i]) else values[i], reverse=True)
    assert [int(text.split(":")[1]) for text in found] == ranked[:most]


@given(st.lists(st.integers(-(2**15), 2**15 - 1)))
def test_tensors_are_unpacked_as_numpy_does(values: list[int]) -> None:
    assert list(unpack("INT16", np.array(values, "<i2").tobytes())) == values
