import re
import struct
from typing import Any

import numpy as np
import pytest

from gateway.errors import InvalidRequest
from gateway.oip.contents import ELEMENT_BYTES, count_elements, element_offset, to_raw
from protos import inference_pb2 as pb
from workers import wire

CASES: list[tuple[str, str, list[Any], str]] = [
    ("BOOL", "bool_contents", [True, False, True], "?"),
    ("UINT8", "uint_contents", [0, 255], "u1"),
    ("UINT16", "uint_contents", [0, 65535], "<u2"),
    ("UINT32", "uint_contents", [0, (1 << 32) - 1], "<u4"),
    ("UINT64", "uint64_contents", [0, (1 << 64) - 1], "<u8"),
    ("INT8", "int_contents", [-128, 127], "i1"),
    ("INT16", "int_contents", [-32768, 32767], "<i2"),
    ("INT32", "int_contents", [-(1 << 31), (1 << 31) - 1], "<i4"),
    ("INT64", "int64_contents", [-(1 << 63), (1 << 63) - 1], "<i8"),
    ("FP32", "fp32_contents", [1.5, -0.0, float("inf"), float("nan")], "<f4"),
    ("FP64", "fp64_contents", [0.1, float("-inf")], "<f8"),
]


@pytest.mark.parametrize(("datatype", "field", "values", "dtype"), CASES, ids=[case[0] for case in CASES])
def test_typed_contents_become_what_numpy_would_send(datatype: str, field: str, values: list[Any], dtype: str) -> None:
    contents = pb.InferTensorContents()
    getattr(contents, field).extend(values)
    assert to_raw("X", datatype, contents) == np.asarray(values, dtype).tobytes()


def test_strings_get_their_lengths() -> None:
    contents = pb.InferTensorContents(bytes_contents=["Ü".encode(), b"", b"\0\xff"])
    assert to_raw("X", "BYTES", contents) == b"\x02\0\0\0\xc3\x9c" + b"\0\0\0\0" + b"\x02\0\0\0\0\xff"


@pytest.mark.parametrize("datatype", ["FP32", "BYTES", "BOOL"])
def test_nothing_becomes_nothing(datatype: str) -> None:
    assert to_raw("X", datatype, pb.InferTensorContents()) == b""


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_precision_travels_raw_only(datatype: str) -> None:
    with pytest.raises(InvalidRequest, match=f"input 'X': {datatype} has no typed contents; send it in raw"):
        to_raw("X", datatype, pb.InferTensorContents(fp32_contents=[1]))


def test_the_wrong_field_is_named() -> None:
    contents = pb.InferTensorContents(fp64_contents=[1], int_contents=[1])
    text = "input 'X': datatype FP32 belongs in fp32_contents, not in int_contents, fp64_contents"
    with pytest.raises(InvalidRequest, match=re.escape(text)):
        to_raw("X", "FP32", contents)


@pytest.mark.parametrize(("datatype", "value"), [("INT8", 128), ("INT16", -40_000)])
def test_a_value_out_of_range_is_refused(datatype: str, value: int) -> None:
    with pytest.raises(InvalidRequest, match=f"input 'X': a value does not fit {datatype}"):
        to_raw("X", datatype, pb.InferTensorContents(int_contents=[value]))


def test_sizes_agree_with_the_workers() -> None:
    assert ELEMENT_BYTES == wire.FIXED_SIZES


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (b"", 0),
        (b"\0\0\0\0", 1),
        (b"\x01\0\0\0a\0\0\0\0", 2),
        (b"\x01\0\0\0", -1),
        (b"\0\0\0", -1),
        (b"\x01\0\0\0ab", -1),
        (b"\xff\xff\xff\xffa", -1),
    ],
)
def test_elements_are_counted_and_broken_ones_found(raw: bytes, found: int) -> None:
    assert count_elements(raw, 2) == found
    assert count_elements(memoryview(raw), 2) == found


@pytest.mark.parametrize(("most", "found"), [(0, 1), (1, 2), (2, 3), (3, -1), (4, -1)])
def test_what_comes_behind_the_most_is_not_looked_at(most: int, found: int) -> None:
    assert count_elements(b"\0\0\0\0" * 3 + b"broken", most) == found


def test_the_last_element_that_is_looked_at_must_be_whole() -> None:
    assert count_elements(b"\0\0\0\0" + b"\xff\0\0\0a", 1) == -1


def test_the_offset_behind_some_elements() -> None:
    raw = b"??" + b"".join(struct.pack("<I", len(value)) + value for value in (b"a", b"", b"ccc"))
    assert [element_offset(raw, 2, count) for count in range(4)] == [2, 7, 11, 18]
