"""Writes ModelStreamInferResponse around the bytes of a ModelInferResponse; what streams have for trailers. Pure.

No message object is made for a good answer: field order on the wire is free (protobuf encoding spec), so parameters
are put behind a finished reply. Triton's meaning of the fields: triton-inference-server/server, docs/protocol and
docs/customization_guide/inference_protocols.md.
"""

from collections.abc import Iterable
from typing import Final

from gateway.oip.reply import varint

FINAL: Final = "triton_final_response"
"""Parameter of every response: no further one follows for the same request, as each has exactly one."""
MAX_FIELDS: Final = 64
"""Of a request whose names are looked for; clients write them first."""

_NAMES: Final = b"\x0a\x12\x1a"
"""model_name, model_version and id have the numbers 1, 2, 3 in requests and in responses."""
_OTHERS: Final = b"\x22\x2a\x32\x3a"
"""parameters, inputs, outputs, raw_input_contents."""


def parameters(pairs: Iterable[tuple[str, str]]) -> bytes:
    """Field 4 of a ModelInferResponse: FINAL is true, and the pairs as string parameters."""
    entries = [_entry(FINAL.encode(), b"\x08\x01")]
    entries += [_entry(key.encode(), _field(b"\x1a", value.encode())) for key, value in pairs]
    return b"".join(entries)


def answer(reply: bytes, parameters: bytes) -> bytes:
    """The response that carries a ModelInferResponse with further parameters."""
    return b"".join((b"\x12", varint(len(reply) + len(parameters)), reply, parameters))


def failure(text: str, request: bytes, parameters: bytes) -> bytes:
    """The response to a request that failed: the text, and what the request calls itself."""
    return _field(b"\x0a", text.encode("utf-8", "replace")) + answer(names(request), parameters)


def names(request: bytes) -> bytes:
    """Fields model_name, model_version and id of a request as it came, as far as they can be read."""
    found = []
    position = 0
    for _ in range(MAX_FIELDS):
        start = position
        if start >= len(request) or request[start] not in _NAMES + _OTHERS:
            break
        size, position = _size(request, start + 1)
        position += size
        if size < 0 or position > len(request):
            break
        if request[start] in _NAMES and _is_text(request[position - size : position]):
            found.append(request[start:position])
    return b"".join(found)


def _size(data: bytes, position: int) -> tuple[int, int]:
    """(a length of up to 31 bits, the position behind it); -1 when there is none."""
    size = 0
    for index, byte in enumerate(data[position : position + 5]):
        size |= (byte & 127) << 7 * index
        if byte < 128:
            return size, position + index + 1
    return -1, position


def _is_text(value: bytes) -> bool:
    """A response with what is not UTF-8 in it could not be read by its caller."""
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _entry(key: bytes, value: bytes) -> bytes:
    """One entry of map<string, InferParameter> in field 4."""
    return _field(b"\x22", _field(b"\x0a", key) + _field(b"\x12", value))


def _field(tag: bytes, value: bytes) -> bytes:
    return tag + varint(len(value)) + value
