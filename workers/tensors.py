"""Tensors three ways: the protocol's words and bytes, numpy's arrays, ONNX's type names.

BF16 has no numpy dtype: it is held as its bits in uint16, which `workers.session` hands to ONNX Runtime as BF16.
BYTES tensors are object arrays, of str where ONNX Runtime sees them and of bytes where they are only compared.
"""

from math import prod
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.errors import ModelFailed, Refused
from workers.wire import SIZE

Array = NDArray[Any]
Bytes = bytes | bytearray | memoryview


class Tensor(NamedTuple):
    """One input or output of a model. `datatype` is the protocol's word; -1 in `shape`: any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(object),
}

DATATYPES: Final[dict[str, str]] = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(bfloat16)": "BF16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}
"""ONNX Runtime's type names that the protocol has a word for."""

FLOATS: Final = frozenset({"FP16", "BF16", "FP32", "FP64"})


def fixed(datatype: str, shape: tuple[int, ...], buffer: Bytes, offset: int) -> Array:
    """The tensor at an offset, without copying it where that is safe.

    It is a view: valid until the buffer changes. BOOL is normalized (any byte but 0 is true) and an offset that is no
    multiple of the element size makes a copy, since ONNX Runtime's kernels may rely on both. The caller has checked the
    size.
    """
    if datatype == "BOOL":
        return np.asarray(np.ndarray(shape, np.uint8, buffer, offset) != 0)
    dtype = DTYPES[datatype]
    array: Array = np.ndarray(shape, dtype, buffer, offset)
    return array.copy() if offset % dtype.itemsize else array


def split_elements(name: str, shape: tuple[int, ...], data: bytes) -> list[bytes]:
    """The elements of a BYTES tensor. Raises Refused when they do not fill the data or the shape."""
    elements: list[bytes] = []
    at = 0
    while at < len(data):
        begin = at + SIZE.size
        if begin > len(data):
            raise Refused(f"{name}: element {len(elements)} has no length (u32, little-endian)")
        at = begin + SIZE.unpack_from(data, begin - SIZE.size)[0]
        if at > len(data):
            raise Refused(f"{name}: element {len(elements)} is longer than the tensor")
        elements.append(data[begin:at])
    if len(elements) != prod(shape):
        raise Refused(f"{name}: {len(elements)} elements where the shape {list(shape)} has {prod(shape)}")
    return elements


def texts(name: str, shape: tuple[int, ...], data: bytes) -> Array:
    """A BYTES tensor as ONNX Runtime takes it: an object array of str. Raises Refused, also for what is not UTF-8."""
    decoded = []
    for index, element in enumerate(split_elements(name, shape, data)):
        try:
            decoded.append(element.decode())
        except UnicodeDecodeError as error:
            raise Refused(f"{name}: element {index} is not UTF-8, and the model takes text only") from error
    return np.array(decoded, dtype=object).reshape(shape)


def raw_elements(name: str, shape: tuple[int, ...], data: bytes) -> Array:
    """A BYTES tensor as an object array of bytes. Raises Refused."""
    return np.array(split_elements(name, shape, data), dtype=object).reshape(shape)


def encoded_elements(array: Array) -> list[bytes]:
    """The elements of an array of str in row-major order, in UTF-8. Raises ModelFailed for what cannot be encoded."""
    try:
        return [element.encode() for element in array.ravel().tolist()]
    except UnicodeEncodeError as error:
        raise ModelFailed("the model answered with text that UTF-8 cannot carry") from error


def joined(array: Array) -> bytes:
    """An array of str as the bytes of a BYTES tensor."""
    pieces = []
    for element in encoded_elements(array):
        pieces.append(SIZE.pack(len(element)))
        pieces.append(element)
    return b"".join(pieces)


def widened(array: Array, datatype: str) -> NDArray[np.float64]:
    """A floating-point tensor as float64."""
    if datatype == "BF16":  # the upper half of a float32's bits
        array = (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return array.astype(np.float64)
