"""Sections of frames: reading inputs and production's answers, writing results. No socket, no clock.

A signature arrives with every frame but changes rarely, so what it means is worked out once and kept by its bytes.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, Final, NamedTuple

from workers.errors import BadFrame, ModelFailed, Refused
from workers.tensors import Array, Bytes, Tensor, fixed, joined, raw_elements, texts
from workers.wire import FIXED_SIZES, HEADER, RESULT, SECTION, front

MAX_KNOWN: Final = 1024
"""Signatures kept per reader; clients choose dynamic shapes, so there may be any number."""
MAX_KNOWN_BYTES: Final = 4096
"""A longer signature is worked out anew each time."""
MAX_EMPTY_EXTENT: Final = 1 << 16
MAX_RANK: Final = 32
"""More axes than any tensor needs and fewer than numpy's limit."""


class Item(NamedTuple):
    """One tensor of a signature. `row_bytes`: of one row (of the whole tensor when not batched); 0 for BYTES."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    row_bytes: int


class Signature(NamedTuple):
    """What a signature means. `refusal`: why the model does not take it; empty if it does."""

    items: tuple[Item, ...]
    sizes: struct.Struct
    refusal: str
    plain: bool
    """No strings: what stands before the tensors says all about them."""


class Section(NamedTuple):
    """One section, read. The tensors are views of the frame's buffer. `end` is the offset behind it."""

    tensors: dict[str, Array]
    datatypes: dict[str, str]
    rows: int
    end: int


class _Same(NamedTuple):
    """What sections say that begin with the same bytes. tensors: name, datatype, shape, offset from the start."""

    tensors: tuple[tuple[str, str, tuple[int, ...], int], ...]
    datatypes: dict[str, str]
    rows: int
    size: int


class Reader:
    """Reads sections of one kind.

    expected: name -> datatype of the model's inputs; None to take any tensors, BYTES left as bytes.
    """

    def __init__(self, *, batched: bool, expected: Mapping[str, str] | None) -> None:
        self._batched = batched
        self._expected = expected
        self._known: dict[bytes, Signature] = {}
        self._seen: dict[bytes, _Same] = {}
        """By all that stands before the tensors."""
        self._head_bytes = 0
        """How long that was, the last time."""

    def read(self, buffer: Bytes, start: int, stop: int) -> Section:
        """The section at buffer[start:]; it must end at or before `stop`.

        Raises BadFrame when counts and sizes do not fit each other, Refused when they do but the model takes no such
        input.
        """
        view = memoryview(buffer)
        same = self._seen.get(bytes(view[start : start + self._head_bytes]))
        if same is not None and start + same.size <= stop:
            tensors = {
                name: fixed(datatype, shape, buffer, start + offset) for name, datatype, shape, offset in same.tensors
            }
            return Section(tensors, same.datatypes, same.rows, start + same.size)
        if start + SECTION.size > stop:
            raise BadFrame("a section shorter than its head")
        signature_size, count, rows = SECTION.unpack_from(buffer, start)
        sizes_at = start + SECTION.size
        at = sizes_at + 4 * count
        end = at + signature_size
        if end > stop:
            raise BadFrame("a signature longer than its frame")
        text = bytes(view[at:end])
        signature = self._known.get(text) or self._learn(text)
        if len(signature.items) != count:
            raise BadFrame(f"{count} tensors where the signature has {len(signature.items)}")
        if signature.refusal:
            raise Refused(signature.refusal)
        section = self._tensors(signature, buffer, sizes_at, end, stop, rows)
        if signature.plain and section.end - end:
            self._remember(bytes(view[start:end]), section, signature, section.end - start)
        return section

    def _remember(self, head: bytes, section: Section, signature: Signature, size: int) -> None:
        """So that another section that begins with the same bytes need not be checked again."""
        if len(head) > MAX_KNOWN_BYTES:
            return
        if len(self._seen) >= MAX_KNOWN:
            self._seen.clear()
        places, offset = [], len(head)
        for name, datatype, _, _ in signature.items:
            array = section.tensors[name]
            places.append((name, datatype, array.shape, offset))
            offset += array.nbytes
        self._seen[head] = _Same(tuple(places), section.datatypes, section.rows, size)
        self._head_bytes = len(head)

    def _tensors(self, signature: Signature, buffer: Bytes, sizes_at: int, at: int, stop: int, rows: int) -> Section:
        if not self._batched and rows != 1:
            raise BadFrame(f"{rows} rows for a model that is not batched")
        tensors: dict[str, Array] = {}
        datatypes: dict[str, str] = {}
        for (name, datatype, shape, row_bytes), size in zip(
            signature.items, signature.sizes.unpack_from(buffer, sizes_at), strict=True
        ):
            end = at + size
            if end > stop:
                raise BadFrame(f"tensor '{name}' is longer than its frame")
            if self._batched:
                shape = (rows, *shape)  # noqa: PLW2901 - the shape as the model sees it
            datatypes[name] = datatype
            if not row_bytes:
                check_extent(name, shape)
            if datatype == "BYTES":
                data = bytes(memoryview(buffer)[at:end])
                tensors[name] = (raw_elements if self._expected is None else texts)(name, shape, data)
            elif size != rows * row_bytes:
                raise BadFrame(f"tensor '{name}' has {size} bytes where its shape has {rows * row_bytes}")
            else:
                tensors[name] = fixed(datatype, shape, buffer, at)
            at = end
        return Section(tensors, datatypes, rows, at)

    def _learn(self, text: bytes) -> Signature:
        items = parse(text)
        plain = all(item.datatype != "BYTES" for item in items)
        signature = Signature(items, struct.Struct(f"<{len(items)}I"), self._refusal(items), plain)
        if len(text) <= MAX_KNOWN_BYTES:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[text] = signature
        return signature

    def _refusal(self, items: tuple[Item, ...]) -> str:
        if self._expected is None:
            return ""
        for item in items:
            datatype = self._expected.get(item.name)
            if datatype is None:
                return f"the model has no input '{item.name}', only {_names(self._expected)}"
            if datatype != item.datatype:
                return f"input '{item.name}' is {item.datatype}, the model takes {datatype}"
        missing = self._expected.keys() - {item.name for item in items}
        return f"input {_names(sorted(missing))} is missing" if missing else ""


def parse(text: bytes) -> tuple[Item, ...]:
    """The tensors a signature names. Raises BadFrame."""
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadFrame("a signature that is not JSON") from error
    if not isinstance(entries, list):
        raise BadFrame("a signature that is not a list")
    items = tuple(_item(entry) for entry in entries)
    if len({item.name for item in items}) != len(items):
        raise BadFrame("a signature with the same name twice")
    return items


def _item(entry: object) -> Item:
    match entry:
        case [str(name), str(datatype), list(shape)] if datatype in FIXED_SIZES or datatype == "BYTES":
            if len(shape) < MAX_RANK and all(type(size) is int and 0 <= size < 1 << 32 for size in shape):
                return Item(name, datatype, tuple(shape), prod(shape) * FIXED_SIZES.get(datatype, 0))
    raise BadFrame("a signature entry that is not [name, datatype, shape]")


def check_extent(name: str, shape: tuple[int, ...]) -> None:
    """Raises Refused for an empty tensor whose other axes are large: a few bytes must not ask for billions of rows."""
    if 0 in shape and prod(size for size in shape if size) > MAX_EMPTY_EXTENT:
        raise Refused(f"{name}: a tensor without elements, yet of shape {list(shape)}")


def _names(names: Sequence[str] | Mapping[str, str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


class Head(NamedTuple):
    """What is the same in all results with the same shapes: their length behind HEADER, and all that stands between
    HEADER and the tensors.
    """

    length: int
    rest: bytes


class Writer:
    """Writes RESULT frames."""

    def __init__(self, outputs: Sequence[Tensor], *, batched: bool) -> None:
        self._outputs = tuple(outputs)
        self._has_texts = any(output.datatype == "BYTES" for output in outputs)
        self._batched = batched
        self._heads: dict[tuple[int, tuple[tuple[int, ...], ...]], Head] = {}
        """By rows and shapes, where those tell the sizes: not of strings."""
        self._signatures: dict[tuple[tuple[int, ...], ...], bytes] = {}

    def result(self, batch: int, rows: int, arrays: Sequence[Array], micros: int) -> list[Any]:
        """The pieces of a frame, to be sent one behind the other. Arrays are not copied.

        Raises ModelFailed when the model's answer does not have the request's rows, or fits no frame.
        """
        if self._has_texts:
            payloads: list[Any] = [
                joined(array) if output.datatype == "BYTES" else array
                for output, array in zip(self._outputs, arrays, strict=True)
            ]
            sizes = [len(payload) if isinstance(payload, bytes) else payload.nbytes for payload in payloads]
            head = self._head(rows, arrays, sizes)
        else:
            payloads = list(arrays)
            shapes = rows, tuple([array.shape for array in arrays])
            known = self._heads.get(shapes)
            head = self._learn(shapes, arrays) if known is None else known
        return [HEADER.pack(head.length, batch, RESULT, 0, 0, micros) + head.rest, *payloads]

    def _learn(self, shapes: tuple[int, tuple[tuple[int, ...], ...]], arrays: Sequence[Array]) -> Head:
        head = self._head(shapes[0], arrays, [array.nbytes for array in arrays])
        if len(self._heads) >= MAX_KNOWN:
            self._heads.clear()
        self._heads[shapes] = head
        return head

    def _head(self, rows: int, arrays: Sequence[Array], sizes: Sequence[int]) -> Head:
        if self._batched:
            for output, array in zip(self._outputs, arrays, strict=True):
                if array.shape[:1] != (rows,):
                    raise ModelFailed(f"output '{output.name}' has shape {list(array.shape)} for {rows} rows")
        skip = 1 if self._batched else 0
        text = self._signature(tuple([array.shape[skip:] for array in arrays]))
        numbers = front(len(sizes))
        length = numbers.size - HEADER.size + len(text) + sum(sizes)
        try:
            packed = numbers.pack(length, 0, RESULT, 0, 0, 0, len(text), len(sizes), rows, *sizes)
        except struct.error as error:
            raise ModelFailed(
                f"an answer of {len(sizes)} tensors and {sum(sizes)} bytes does not fit a frame"
            ) from error
        return Head(length, packed[HEADER.size :] + text)

    def _signature(self, shapes: tuple[tuple[int, ...], ...]) -> bytes:
        text = self._signatures.get(shapes)
        if text is None:
            entries = [
                [output.name, output.datatype, list(shape)] for output, shape in zip(self._outputs, shapes, strict=True)
            ]
            text = json.dumps(entries, separators=(",", ":")).encode()
            if len(self._signatures) >= MAX_KNOWN:
                self._signatures.clear()
            self._signatures[shapes] = text
        return text
