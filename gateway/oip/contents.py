"""Typed tensor contents to raw bytes (row-major, little-endian), as research of the protocol fixes them."""

import struct
from collections.abc import Sequence
from typing import Final

from gateway.errors import InvalidRequest
from protos import inference_pb2 as pb
from workers.wire import FIXED_SIZES

ELEMENT_BYTES: Final = FIXED_SIZES
"""Bytes per element; BYTES has none."""

_FIELDS: Final[dict[str, tuple[str, str]]] = {
    "BOOL": ("bool_contents", "?"),
    "UINT8": ("uint_contents", "B"),
    "UINT16": ("uint_contents", "H"),
    "UINT32": ("uint_contents", "I"),
    "UINT64": ("uint64_contents", "Q"),
    "INT8": ("int_contents", "b"),
    "INT16": ("int_contents", "h"),
    "INT32": ("int_contents", "i"),
    "INT64": ("int64_contents", "q"),
    "FP32": ("fp32_contents", "f"),
    "FP64": ("fp64_contents", "d"),
    "BYTES": ("bytes_contents", ""),
}

_LENGTH: Final = struct.Struct("<I")


def to_raw(name: str, datatype: str, contents: pb.InferTensorContents) -> bytes:
    """Raw bytes of one input's typed contents. Raises InvalidRequest naming the input."""
    filled = [field.name for field, _ in contents.ListFields()]
    field, letter = _FIELDS.get(datatype, ("", ""))
    if not field:
        raise InvalidRequest(f"input '{name}': {datatype} has no typed contents; send it in raw_input_contents")
    if filled and filled != [field]:
        raise InvalidRequest(f"input '{name}': datatype {datatype} belongs in {field}, not in {', '.join(filled)}")
    values = getattr(contents, field)
    if datatype == "BYTES":
        return b"".join(_LENGTH.pack(len(value)) + value for value in values)
    return _pack(name, datatype, letter, values)


def _pack(name: str, datatype: str, letter: str, values: Sequence[float]) -> bytes:
    try:
        return struct.pack(f"<{len(values)}{letter}", *values)
    except struct.error as error:
        raise InvalidRequest(f"input '{name}': a value does not fit {datatype}") from error


def count_elements(raw: bytes | memoryview, most: int) -> int:
    """The number of elements in a BYTES tensor (u32 length, then the payload, each); -1 when malformed.

    Counts no further than `most` + 1: what comes behind so many is not looked at.
    """
    position, end, count = 0, len(raw), 0
    length_at = _LENGTH.unpack_from
    try:
        while position < end and count <= most:
            position += 4 + length_at(raw, position)[0]
            count += 1
    except struct.error:  # no room for a length
        return -1
    return count if position <= end else -1


def element_offset(raw: bytes | memoryview, position: int, count: int) -> int:
    """The position behind `count` BYTES elements that start at `position`. The tensor must be well formed."""
    for _ in range(count):
        position += 4 + int.from_bytes(raw[position : position + 4], "little")
    return position
