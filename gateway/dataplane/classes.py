"""The classification extension: an output as its largest values, "value:index" or "value:index:label" each.

Numbers are written as Triton does (C++'s std::to_string): floats with six decimals, integers plainly. Pure.
"""

import heapq
import struct
from collections.abc import Sequence
from typing import Final

from gateway.errors import InvalidRequest
from gateway.oip.request import Raw

MAX_VALUES: Final = 1 << 16
"""Of one request's output, all rows together: they are sorted here, and meanwhile nobody else is answered."""
MAX_CLASSES: Final = 4096
"""Of one request's output, all rows together: each is written as text, which takes far longer than a value."""

_LETTERS: Final = {
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP16": "e",
    "BF16": "f",
    "FP32": "f",
    "FP64": "d",
}
_FLOATS: Final = frozenset({"FP16", "BF16", "FP32", "FP64"})
_LENGTH: Final = struct.Struct("<I")


def check_datatype(name: str, datatype: str) -> None:
    """Raises InvalidRequest for what has no order."""
    if datatype not in _LETTERS:
        raise InvalidRequest(f"output '{name}': 'classification' needs numbers, and it is {datatype}")


class Classes:
    """How one output becomes classes. rows: of the request, 1 when not batched; values: in each row."""

    __slots__ = ("_classes", "_datatype", "_labels", "_name", "_rows", "_values")

    def __init__(self, name: str, datatype: str, rows: int, values: int, most: int, labels: Sequence[str]) -> None:
        """`most`: how many classes are wanted; there are fewer when a row has fewer values."""
        self._name = name
        self._datatype = datatype
        self._rows = rows
        self._values = values
        self._classes = min(most, values)
        self._labels = labels

    @property
    def classes(self) -> int:
        """Elements of each row of the answer."""
        return self._classes

    def encode(self, tensor: Raw) -> bytes:
        """The BYTES tensor. Raises InvalidRequest when there is too much to sort or to write."""
        self._check_bounds()
        values = self._values
        numbers = unpack(self._datatype, tensor)
        elements: list[bytes] = []
        for row in range(0, self._rows * values, values or 1):
            elements += self._row(numbers[row : row + values])
        return b"".join([piece for element in elements for piece in (_LENGTH.pack(len(element)), element)])

    def _check_bounds(self) -> None:
        what = f"output '{self._name}': 'classification'"
        if (values := self._rows * self._values) > MAX_VALUES:
            raise InvalidRequest(f"{what} of {values} values; at most {MAX_VALUES} in one request, send fewer rows")
        if (classes := self._rows * self._classes) > MAX_CLASSES:
            raise InvalidRequest(
                f"{what} into {classes} classes; at most {MAX_CLASSES} in one request, ask for fewer or send fewer rows"
            )

    def _row(self, numbers: Sequence[float]) -> list[bytes]:
        """Largest first; of equal ones that of the lower index. NaN is the least."""
        rank = numbers
        if self._datatype in _FLOATS:
            rank = [number if number == number else -float("inf") for number in numbers]
        best = heapq.nlargest(self._classes, range(len(rank)), key=rank.__getitem__)
        return [self._element(index, numbers[index]) for index in best]

    def _element(self, index: int, number: float) -> bytes:
        text = f"{number:f}:{index}" if self._datatype in _FLOATS else f"{number}:{index}"
        label = self._labels[index] if index < len(self._labels) else ""
        return (f"{text}:{label}" if label else text).encode()


def unpack(datatype: str, tensor: Raw) -> Sequence[float]:
    """The numbers of a raw tensor."""
    if datatype == "BF16":  # the upper half of an FP32
        wide = bytearray(2 * len(tensor))
        wide[2::4], wide[3::4] = tensor[::2], tensor[1::2]
        tensor = bytes(wide)
    letter = _LETTERS[datatype]
    return struct.unpack(f"<{len(tensor) // struct.calcsize('<' + letter)}{letter}", tensor)
