"""Reads a ModelInferRequest: one pass over the top-level tags; what repeats from call to call is read from a cache.

Clients send the same `inputs` and `outputs` submessages again and again, so their bytes together (the head) are a
dictionary key; only ids, parameters and tensors change. Anything unusual (typed contents, unknown fields, other wire
types, another order) is left to the protobuf library: slower, same answer. Tensors above COPY_LIMIT_BYTES are views.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from google.protobuf.message import DecodeError

from gateway.errors import InvalidRequest
from gateway.oip.contents import ELEMENT_BYTES, to_raw
from gateway.oip.reserved import REGION, Place, input_place, output_wish
from protos import inference_pb2 as pb

COPY_LIMIT_BYTES: Final = 16_384
"""Below this a slice is cheaper than a view."""
CACHED_HEADS: Final = 4096
CACHED_BYTES: Final = 2048
"""Larger heads are parsed each time: a peer cannot grow the cache beyond CACHED_HEADS x CACHED_BYTES."""
MAX_MODEL_BYTES: Final = 256
"""The size of the head is remembered only for names up to this."""
MAX_DIMENSIONS: Final = 64
"""Of one tensor; numpy's limit."""
JOINED_PARAMETERS_BYTES: Final = 4096
"""Parameters are joined one by one up to this, which would take quadratic time for many."""

NO_WISHES: Final[Mapping[str, int | Place]] = {}

Raw = bytes | memoryview

_MODEL, _VERSION, _ID, _PARAMETERS, _RAW = 0x0A, 0x12, 0x1A, 0x22, 0x3A
_HEAD_TAGS = b"\x2a\x32"
"""`inputs` and `outputs`"""


class Input:
    """One input tensor without its contents. `shape` has no negative size; `datatype` is a word of the protocol.

    place: where it lies in shared memory; None: it comes with the request.
    """

    __slots__ = ("datatype", "name", "place", "shape")

    def __init__(self, name: str, datatype: str, shape: tuple[int, ...], place: Place | None = None) -> None:
        self.name = name
        self.datatype = datatype
        self.shape = shape
        self.place = place


class Head:
    """All inputs and requested outputs of a request. Equal bytes give the same object, so it serves as a cache key.

    outputs: the names asked for, in order; empty: all. wishes: by output, what is not to come as usual: the number of
    classes, or the place in shared memory.
    """

    __slots__ = ("cached", "inputs", "outputs", "wishes")

    def __init__(
        self,
        inputs: tuple[Input, ...],
        outputs: tuple[str, ...],
        cached: bool,
        wishes: Mapping[str, int | Place] = NO_WISHES,
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.cached = cached
        self.wishes = wishes


class Request:
    """One ModelInferRequest without its tensors: names still UTF-8 bytes, parameters still encoded.

    Messages that differ in their tensors alone may share one: it is never changed.
    """

    __slots__ = ("head", "id", "model", "parameters", "version")

    def __init__(self, model: bytes, version: bytes, id_: bytes, parameters: bytes, head: Head) -> None:
        self.model = model
        self.version = version
        self.id = id_
        self.parameters = parameters
        self.head = head


class _Unusual(Exception):
    """The fast path gives up; the protobuf library decides."""


_heads: dict[bytes, Head] = {}
_head_sizes: dict[bytes, int] = {}
"""By model: the size of the head seen last, to find the next one with a single slice."""
_Same = tuple[Request, int]
"""What such messages say, and the size of a whole one."""
_prefixes: dict[bytes, _Same] = {}
"""By everything that stands before the one raw tensor of a request without id and parameters."""
_splits: dict[int, int] = {}
"""By size of the whole message: the size of the prefix seen last, to find the next one with a single slice."""
_NO_HEAD: Final = Head((), (), True)


def read(message: bytes) -> tuple[Request, Sequence[Raw]]:
    """The request and its raw tensors, one for each input but those in shared memory.

    Raises InvalidRequest naming what is wrong.
    """
    size = len(message)
    split = _splits.get(size)
    if split is not None:
        same = _prefixes.get(message[:split])
        if same is not None and same[1] == size:
            return same[0], (message[split:],)
    try:
        return _read_fast(message)
    except (IndexError, _Unusual):
        return _read_slow(message)


def _read_fast(message: bytes) -> tuple[Request, list[Raw]]:  # noqa: C901, PLR0912 - one loop, no calls: this runs for every request
    end = len(message)
    position = 0
    model = version = id_ = parameters = b""
    head = None
    raw: list[Raw] = []
    while position < end:
        start = position
        tag = message[position]
        if tag in _HEAD_TAGS:
            if head is not None or raw:
                raise _Unusual
            position += _head_sizes.get(model, 0)
            found = _heads.get(message[start:position]) if position < end and message[position] == _RAW else None
            if found is None:
                position = _skip_head(message, start, end)
                found = _head(message[start:position])
                if found.cached:
                    _remember_size(model, position - start)
            head = found
            continue
        size = message[position + 1]
        position += 2
        if size > 127:
            size, position = _long_size(message, position, size)
        stop = position + size
        if stop > end:
            raise _Unusual
        if tag == _RAW:
            raw.append(message[position:stop] if size <= COPY_LIMIT_BYTES else memoryview(message)[position:stop])
        elif tag == _MODEL:
            model = message[position:stop]
        elif tag == _VERSION:
            version = message[position:stop]
        elif tag == _ID:
            id_ = message[position:stop]
            if not id_.isascii():
                text("id", id_)  # the reply repeats it, so it must be checked
        elif tag == _PARAMETERS:
            if len(parameters) > JOINED_PARAMETERS_BYTES:
                raise _Unusual
            parameters += message[start:stop]
        else:
            raise _Unusual
        position = stop
    request = Request(model, version, id_, parameters, head or _NO_HEAD)
    if len(raw) == 1 and tag == _RAW and head is not None and not id_ and not parameters:
        _remember_prefix(message, end - len(raw[0]), (request, end))
    return request, raw


def _remember_prefix(message: bytes, split: int, same: _Same) -> None:
    if split <= CACHED_BYTES and len(message) - split <= COPY_LIMIT_BYTES and same[0].head.cached:
        if len(_prefixes) >= CACHED_HEADS:
            _prefixes.clear()
            _splits.clear()
        _prefixes[message[:split]] = same
        _splits[len(message)] = split


def _long_size(message: bytes, position: int, first: int) -> tuple[int, int]:
    """The rest of a multi-byte length: (size, position behind it)."""
    size, shift = first & 127, 7
    while True:
        byte = message[position]
        position += 1
        size |= (byte & 127) << shift
        if byte < 128:
            return size, position
        shift += 7
        if shift > 28:
            raise _Unusual


def _skip_head(message: bytes, position: int, end: int) -> int:
    """The position behind the run of `inputs` and `outputs` that starts here."""
    while position < end and message[position] in _HEAD_TAGS:
        size = message[position + 1]
        position += 2
        if size > 127:
            size, position = _long_size(message, position, size)
        position += size
    if position > end:
        raise _Unusual
    return position


def _remember_size(model: bytes, size: int) -> None:
    if len(model) > MAX_MODEL_BYTES:
        return
    if len(_head_sizes) >= CACHED_HEADS:
        _head_sizes.clear()
    _head_sizes[model] = size


def _head(encoded: bytes) -> Head:
    head = _heads.get(encoded)
    if head is not None:
        return head
    try:
        message = pb.ModelInferRequest.FromString(encoded)
    except DecodeError as error:
        raise InvalidRequest("the message is not a ModelInferRequest") from error
    if any(tensor.HasField("contents") for tensor in message.inputs):
        raise _Unusual
    head = _parse_head(message, cached=len(encoded) <= CACHED_BYTES)
    if head.cached:
        if len(_heads) >= CACHED_HEADS:
            _heads.clear()
        _heads[encoded] = head
    return head


def _parse_head(message: pb.ModelInferRequest, *, cached: bool) -> Head:
    for tensor in message.inputs:
        if tensor.datatype != "BYTES" and tensor.datatype not in ELEMENT_BYTES:
            raise InvalidRequest(f"input '{tensor.name}': unknown datatype '{tensor.datatype}'")
        if len(tensor.shape) > MAX_DIMENSIONS:
            raise InvalidRequest(
                f"input '{tensor.name}': {len(tensor.shape)} dimensions; a tensor has at most {MAX_DIMENSIONS}"
            )
        if any(size < 0 for size in tensor.shape):
            raise InvalidRequest(f"input '{tensor.name}': shape {list(tensor.shape)} has a negative size")
    _refuse_twice("input", [tensor.name for tensor in message.inputs])
    _refuse_twice("output", [output.name for output in message.outputs])
    inputs = tuple(
        Input(tensor.name, tensor.datatype, tuple(tensor.shape), input_place(tensor.name, tensor.parameters))
        for tensor in message.inputs
    )
    wishes = {output.name: output_wish(output.name, output.parameters) for output in message.outputs}
    unusual = {name: wish for name, wish in wishes.items() if wish is not None}
    return Head(inputs, tuple(wishes), cached, unusual or NO_WISHES)


def _refuse_twice(kind: str, names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InvalidRequest(f"{kind} '{name}' is given twice")
        seen.add(name)


def _read_slow(message: bytes) -> tuple[Request, list[Raw]]:
    try:
        parsed = pb.ModelInferRequest.FromString(message)
    except DecodeError as error:
        raise InvalidRequest("the message is not a ModelInferRequest") from error
    typed = [tensor.name for tensor in parsed.inputs if tensor.HasField("contents")]
    raw: list[Raw] = list(parsed.raw_input_contents)
    if typed and raw:
        raise InvalidRequest(f"input '{typed[0]}' has typed contents beside raw_input_contents; send one kind only")
    if typed:
        raw = [to_raw(tensor.name, tensor.datatype, tensor.contents) for tensor in parsed.inputs if _brings(tensor)]
        for tensor in parsed.inputs:
            tensor.ClearField("contents")
    head = _head(pb.ModelInferRequest(inputs=parsed.inputs, outputs=parsed.outputs).SerializeToString())
    parameters = pb.ModelInferRequest(parameters=parsed.parameters).SerializeToString()
    names = parsed.model_name.encode(), parsed.model_version.encode(), parsed.id.encode()
    return Request(*names, parameters, head), raw


def _brings(tensor: pb.ModelInferRequest.InferInputTensor) -> bool:
    """Whether the tensor comes with the request. Raises InvalidRequest when it lies in shared memory as well."""
    place = input_place(tensor.name, tensor.parameters)
    if place is not None and tensor.HasField("contents"):
        raise InvalidRequest(f"input '{tensor.name}' has contents beside '{REGION}'; send one of them")
    return place is None


def text(name: str, value: bytes) -> str:
    """Decodes a string field. Raises InvalidRequest when it is not UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{name} is not UTF-8") from error


def parameters(request: Request) -> dict[str, bool | int | str | float]:
    """The request's parameters by name."""
    if not request.parameters:
        return {}
    try:
        entries = pb.ModelInferRequest.FromString(request.parameters).parameters
    except DecodeError as error:
        raise InvalidRequest("the request's parameters cannot be read") from error
    chosen = {name: (value, value.WhichOneof("parameter_choice")) for name, value in entries.items()}
    return {name: getattr(value, kind) for name, (value, kind) in chosen.items() if kind}
