"""Frames as a proxy writes and reads them, for tests of workers."""

import json
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers import wire

Array = NDArray[Any]

DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "object": "BYTES",
}


class Answer(NamedTuple):
    """One frame of a worker. `flags`: the gRPC code of an ERROR."""

    kind: int
    batch: int
    flags: int
    micros: int
    body: bytes

    @property
    def text(self) -> str:
        """Of an ERROR."""
        return self.body.decode()

    @property
    def comparison(self) -> tuple[int, int, int, float]:
        """Rows, agreed, incomparable and maximum difference of a COMPARED."""
        rows, agreed, incomparable, _, difference = wire.COMPARISON.unpack(self.body)
        return rows, agreed, incomparable, difference

    def tensors(self, *, batched: bool = True) -> dict[str, Array]:
        """The outputs of a RESULT. BF16 as its bits, BYTES as objects."""
        assert self.kind == wire.RESULT, self
        signature_size, count, rows = wire.SECTION.unpack_from(self.body)
        sizes = struct.unpack_from(f"<{count}I", self.body, wire.SECTION.size)
        at = wire.SECTION.size + 4 * count
        signature = json.loads(self.body[at : at + signature_size])
        at += signature_size
        found: dict[str, Array] = {}
        for (name, datatype, shape), size in zip(signature, sizes, strict=True):
            data = self.body[at : at + size]
            found[name] = from_bytes(datatype, [rows, *shape] if batched else shape, data)
            at += size
        assert at == len(self.body)
        return found


def from_bytes(datatype: str, shape: list[int], data: bytes) -> Array:
    """A tensor's bytes as an array."""
    if datatype == "BYTES":
        elements = []
        at = 0
        while at < len(data):
            (size,) = wire.SIZE.unpack_from(data, at)
            elements.append(data[at + 4 : at + 4 + size])
            at += 4 + size
        return np.array(elements, dtype=object).reshape(shape)
    names = {word: name for name, word in DATATYPES.items()} | {"BF16": "uint16"}
    return np.frombuffer(data, np.dtype(names[datatype])).reshape(shape)


def to_bytes(array: Array) -> bytes:
    """An array as a tensor's bytes; objects are str or bytes."""
    if array.dtype != object:
        return array.tobytes()
    elements = [element.encode() if isinstance(element, str) else element for element in array.ravel()]
    return b"".join(wire.SIZE.pack(len(element)) + element for element in elements)


def signature(
    tensors: Mapping[str, Array], *, batched: bool = True, datatypes: Mapping[str, str] | None = None
) -> bytes:
    """The signature of tensors; `datatypes` overrides what numpy's dtypes say (BF16)."""
    words = datatypes or {}
    return json.dumps(
        [
            [name, words.get(name, DATATYPES[array.dtype.name]), list(array.shape[1:] if batched else array.shape)]
            for name, array in tensors.items()
        ]
    ).encode()


def section(tensors: Mapping[str, Array], *, batched: bool = True, datatypes: Mapping[str, str] | None = None) -> bytes:
    """One section."""
    rows = len(next(iter(tensors.values()))) if batched and tensors else 1
    text = signature(tensors, batched=batched, datatypes=datatypes)
    return b"".join(wire.section(text, rows, [to_bytes(array) for array in tensors.values()]))


def frame(kind: int, batch: int, *sections: bytes) -> bytes:
    """One frame."""
    body = b"".join(sections)
    return wire.HEADER.pack(len(body), batch, kind, 0, 0, 0) + body


def run(batch: int, tensors: Mapping[str, Array], *, batched: bool = True) -> bytes:
    """A RUN frame."""
    return frame(wire.RUN, batch, section(tensors, batched=batched))


def compare(batch: int, inputs: Mapping[str, Array], outputs: Mapping[str, Array], *, batched: bool = True) -> bytes:
    """A COMPARE frame."""
    return frame(wire.COMPARE, batch, section(inputs, batched=batched), section(outputs, batched=batched))


def parse(data: bytes) -> Answer:
    """One whole frame of a worker."""
    length, batch, kind, flags, slot, micros = wire.HEADER.unpack_from(data)
    assert bool(slot) == (kind == wire.RESULT and flags == wire.SLOT)
    assert length == len(data) - wire.HEADER.size
    return Answer(kind, batch, flags, micros, data[wire.HEADER.size :])
