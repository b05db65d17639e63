"""Plans: how requests with one head travel to one pool, checked and laid out once.

Pure but for the tensors of requests that lie in shared memory.
"""

import json
from collections.abc import Sequence
from math import prod
from struct import Struct
from typing import Final, Protocol

from gateway.dataplane.classes import Classes, check_datatype
from gateway.dataplane.ragged import joins, last_axes
from gateway.dataplane.regions import Regions, Shared, Sharing
from gateway.errors import InvalidRequest, NotReady
from gateway.oip import reply
from gateway.oip.contents import ELEMENT_BYTES, count_elements
from gateway.oip.request import Head, Input, Raw
from gateway.oip.reserved import SIZE, Place
from gateway.routing.snapshot import Pool, Tensor
from workers import wire

MAX_ROWS: Final = 0xFFFF_FFFF
"""The frame format counts rows in 32 bits; tensors without elements can claim more."""
MAX_STRINGS: Final = 1 << 20
"""BYTES elements of one request, all inputs together: they are counted here, and meanwhile nobody else is answered."""
NO_REGIONS: Final = Regions()
"""None is registered."""
MAX_REPLY_SHAPES: Final = 256
"""Kept per plan: outputs of any size may differ from answer to answer."""


class Special(Protocol):
    """How an output comes that does not come as usual."""

    def encode(self, tensor: Raw) -> bytes:
        """What stands for the tensor in the reply. Raises RequestError."""


class ReplyShape:
    """How an answer to one plan is cut out of a result.

    head: fields 1, 2, 5 of the response. parts: per requested output (index in the result, what stands before the raw
    tensor, byte size of the raw tensor); both are empty for BYTES, whose size differs from row to row. special: per
    requested output how it comes, None: as usual; empty when all do.
    """

    __slots__ = ("cells", "head", "parts", "special")

    def __init__(
        self, head: bytes, parts: tuple[tuple[int, bytes, int], ...], special: tuple[Special | None, ...] = ()
    ) -> None:
        self.head = head
        self.parts = parts
        self.special = special
        self.cells = [Struct(f"{size}s") for _, _, size in parts]
        """Cut a whole tensor into one request's share after the other."""


class Cut:
    """Where the outputs lie in results that begin with the same bytes: of one signature, and so many rows.

    rows: of the batch; size: of the whole section; columns: per requested output (what stands before it in a reply, how
    it is cut into one request's share after the other, where it begins and ends in the section).
    """

    __slots__ = ("columns", "head", "rows", "size")

    def __init__(self, head: bytes, rows: int, size: int, columns: tuple[tuple[bytes, Struct, int, int], ...]) -> None:
        self.head = head
        self.rows = rows
        self.size = size
        self.columns = columns


class Plan:
    """One head, checked against one pool.

    signature: of the wire section (equal for everything that may be joined); rows: of one request; order: index of the
    request's raw tensor for each input of the model; sizes: expected bytes, None for BYTES; elements: expected count;
    size: bytes of all tensors together, 0 when strings make it differ from request to request; special: an output does
    not come as usual.
    """

    __slots__ = (
        "_regions",
        "_sharing",
        "_wishes",
        "cuts",
        "elements",
        "joinable",
        "joins",
        "lasts",
        "only_size",
        "order",
        "outputs",
        "pool",
        "replies",
        "result_head_bytes",
        "rows",
        "signature",
        "size",
        "sizes",
        "special",
        "weight",
    )

    def __init__(self, head: Head, pool: Pool, regions: Regions = NO_REGIONS) -> None:
        given = {tensor.name: index for index, tensor in enumerate(head.inputs)}
        _check_names(head, pool)
        for spec in pool.inputs:
            _check_input(head.inputs[given[spec.name]], spec)
        self.pool = pool
        self.order = tuple(given[spec.name] for spec in pool.inputs)
        ordered = [head.inputs[index] for index in self.order]
        self.rows = _rows(ordered) if pool.batched else 1
        if self.rows > MAX_ROWS:
            raise InvalidRequest(f"{self.rows} rows are more than one request can have ({MAX_ROWS})")
        self.weight = self.rows or 1
        """Rows for which a request counts where it waits."""
        self.joinable = pool.batched and self.rows > 0
        skip = 1 if pool.batched else 0
        self.signature = signature([(tensor.name, tensor.datatype, tensor.shape[skip:]) for tensor in ordered])
        self.lasts = last_axes(ordered, pool)
        """Last axes that may be padded so that it can be joined with others; empty: none."""
        self.joins = joins(ordered, self.lasts) if self.lasts else self.signature
        """Requests of which it is the same may be joined."""
        self.elements = tuple(prod(tensor.shape) for tensor in ordered)
        _check_strings(ordered, self.elements)
        self.sizes = tuple(
            None if tensor.datatype == "BYTES" else count * ELEMENT_BYTES[tensor.datatype]
            for tensor, count in zip(ordered, self.elements, strict=True)
        )
        self.size = 0 if None in self.sizes else sum(filter(None, self.sizes))
        self._regions = regions
        self._wishes = head.wishes
        self._sharing = Sharing.of(head, regions)
        self._check_places(ordered)
        simple = len(self.sizes) == 1 and self.sizes[0] is not None and self._sharing is None
        self.only_size = self.size if simple else -1
        """Byte size of the one input, which then need not be arranged; -1: there are several, its size is not fixed, or
        shared memory is used.
        """
        self.special = bool(head.wishes)
        self.outputs = head.outputs
        self.replies: dict[bytes, ReplyShape] = {}
        self.cuts: dict[bytes, Cut] = {}
        """By what stands before the tensors in a result that was cut into replies to this plan alone."""
        self.result_head_bytes = 0
        """How long that was, the last time."""

    def _check_places(self, ordered: Sequence[Input]) -> None:
        for tensor, size in zip(ordered, self.sizes, strict=True):
            if tensor.place is not None and size is not None and tensor.place.size != size:
                raise InvalidRequest(
                    f"input '{tensor.name}': '{SIZE}' is {tensor.place.size}, but its shape and datatype take {size}"
                )
        self._regions.check_size(sum(tensor.place.size for tensor in ordered if tensor.place is not None))

    def arrange(self, raw: Sequence[Raw]) -> Sequence[Raw]:
        """The raw tensors in the order of the model. Raises InvalidRequest when count or byte sizes do not fit."""
        if self._sharing is not None:
            raw = self._sharing.complete(raw)
        if len(raw) != len(self.order):
            raise InvalidRequest(
                f"{len(raw)} raw_input_contents for {len(self.order)} inputs; send one for each, in the order of inputs"
            )
        ordered = [raw[index] for index in self.order]
        for index, tensor in enumerate(ordered):
            if len(tensor) != self.sizes[index]:
                self._check_size(index, tensor)
        return ordered

    def _check_size(self, index: int, tensor: Raw) -> None:
        name, expected, elements = self.pool.inputs[index].name, self.sizes[index], self.elements[index]
        if expected is not None:
            raise InvalidRequest(f"input '{name}': {len(tensor)} bytes, but its shape and datatype take {expected}")
        found = count_elements(tensor, elements)
        if found < 0:
            raise InvalidRequest(f"input '{name}': BYTES elements need a 4-byte little-endian length each")
        if found != elements:
            many = f"more than {elements}" if found > elements else found
            raise InvalidRequest(f"input '{name}': {many} elements, but its shape takes {elements}")

    def reply_shape(self, outputs_signature: bytes) -> ReplyShape:
        """The shape of answers cut out of results with this signature. Raises InvalidRequest for an unknown output."""
        shape = self.replies.get(outputs_signature)
        if shape is None:
            if len(self.replies) >= MAX_REPLY_SHAPES:
                self.replies.clear()
            shape = self.replies[outputs_signature] = self._make_reply_shape(json.loads(outputs_signature))
        return shape

    def keep_cut(self, head: bytes, cut: Cut) -> None:
        """For the next result that begins like this."""
        if len(self.cuts) >= MAX_REPLY_SHAPES:
            self.cuts.clear()
        self.cuts[head] = cut
        self.result_head_bytes = len(head)

    def _make_reply_shape(self, outputs: list[tuple[str, str, list[int]]]) -> ReplyShape:
        index_of = {name: index for index, (name, _, _) in enumerate(outputs)}
        rows = (self.rows,) if self.pool.batched else ()
        wanted = self.outputs or tuple(index_of)
        described: list[tuple[str, str, tuple[int, ...]]] = []
        parts: list[tuple[int, bytes, int]] = []
        special = {name: self._special(*outputs[index_of[name]]) for name in self._wishes}
        for name in wanted:
            index = index_of[name]
            _, datatype, inner = outputs[index]
            shape = (*rows, *inner)
            kind = special.get(name)
            described.append(
                (name, "BYTES", (*rows, kind.classes)) if isinstance(kind, Classes) else (name, datatype, shape)
            )
            if datatype == "BYTES":
                parts.append((index, b"", 0))
            else:
                size = prod(shape) * ELEMENT_BYTES[datatype]
                parts.append((index, reply.raw_prefix(size), size))
        places = {name: wish for name, wish in self._wishes.items() if isinstance(wish, Place)}
        head = reply.head(self.pool.model, self.pool.version, described, places)
        return ReplyShape(head, tuple(parts), tuple(map(special.get, wanted)) if special else ())

    def _special(self, name: str, datatype: str, inner: Sequence[int]) -> Special:
        wish = self._wishes[name]
        if isinstance(wish, Place):
            return Shared(name, wish, self._regions)
        return Classes(name, datatype, self.rows, prod(inner), wish, self.pool.labels.get(name, ()))


MAX_PLANS: Final = 1024
ALIGNMENT: Final = 8
"""Bytes; the worker then need not copy a tensor before it is used."""


class Plans:
    """The plans of one pool by head, bounded."""

    __slots__ = ("known", "pool", "regions")

    def __init__(self, pool: Pool, regions: Regions = NO_REGIONS) -> None:
        self.pool = pool
        self.regions = regions
        self.known: dict[Head, Plan] = {}
        """For a look-up without a call; `get` makes what is missing."""

    def get(self, head: Head) -> Plan:
        """Raises InvalidRequest when the head does not fit the pool, NotReady while its inputs are not known."""
        plan = self.known.get(head)
        if plan is None:
            pool = self.pool
            if not pool.inputs and pool.state != "ready":
                reason = pool.error or "it is loading"
                raise NotReady(f"{pool.model} version {pool.version} is not ready: {reason}")
            plan = Plan(head, pool, self.regions)
            if head.cached:
                if len(self.known) >= MAX_PLANS:
                    self.known.clear()
                self.known[head] = plan
        return plan


def signature(tensors: Sequence[tuple[str, str, Sequence[int]]]) -> bytes:
    """The wire signature of a section (see workers.wire), padded so that the tensors of a frame start aligned."""
    described = [[name, datatype, list(shape)] for name, datatype, shape in tensors]
    text = json.dumps(described, separators=(",", ":")).encode()
    before = wire.HEADER.size + wire.SECTION.size + wire.SIZE.size * len(described) + len(text)
    return text + b" " * (-before % ALIGNMENT)


def _check_names(head: Head, pool: Pool) -> None:
    expected = [tensor.name for tensor in pool.inputs]
    given = [tensor.name for tensor in head.inputs]
    for name in given:
        if name not in expected:
            raise InvalidRequest(f"input '{name}' is unknown; {pool.model} takes {', '.join(expected)}")
    for name in expected:
        if name not in given:
            raise InvalidRequest(f"input '{name}' is missing; {pool.model} takes {', '.join(expected)}")
    offered = [tensor.name for tensor in pool.outputs]
    for name in head.outputs:
        if name not in offered:
            raise InvalidRequest(f"output '{name}' is unknown; {pool.model} gives {', '.join(offered)}")
    for spec in pool.outputs:
        if isinstance(head.wishes.get(spec.name), int):
            check_datatype(spec.name, spec.datatype)


def _check_input(tensor: Input, spec: Tensor) -> None:
    if tensor.datatype != spec.datatype:
        raise InvalidRequest(f"input '{spec.name}': datatype {tensor.datatype}, but the model takes {spec.datatype}")
    fits = len(tensor.shape) == len(spec.shape) and all(
        wanted in (-1, size) for size, wanted in zip(tensor.shape, spec.shape, strict=True)
    )
    if not fits:
        raise InvalidRequest(f"input '{spec.name}': shape {list(tensor.shape)}, but the model takes {list(spec.shape)}")


def _check_strings(tensors: Sequence[Input], elements: Sequence[int]) -> None:
    strings = sum(count for tensor, count in zip(tensors, elements, strict=True) if tensor.datatype == "BYTES")
    if strings > MAX_STRINGS:
        raise InvalidRequest(f"{strings} BYTES elements; at most {MAX_STRINGS} in one request, send fewer rows")


def _rows(tensors: Sequence[Input]) -> int:
    rows = {tensor.shape[0] for tensor in tensors}
    if len(rows) > 1:
        sizes = ", ".join(f"'{tensor.name}' {tensor.shape[0]}" for tensor in tensors)
        raise InvalidRequest(f"the inputs differ in axis 0 (the batch): {sizes}")
    return rows.pop()
