"""What gRPC puts inside HTTP/2: message prefixes, timeouts, status trailers (grpc doc/PROTOCOL-HTTP2.md)."""

import base64
import re
import struct
from typing import Final

from gateway.errors import Code
from gateway.transport import compression
from gateway.transport.call import NO_TRAILERS, Metadata, Trailers
from gateway.transport.h2.errors import Refusal
from gateway.transport.h2.hpack import encode
from gateway.transport.h2.limits import Limits

PREFIX: Final = struct.Struct(">BL")
"""Length-Prefixed-Message: compressed flag, length."""
PREFIX_BYTES: Final = 5
MAX_STATUS_MESSAGE: Final = 2048
"""Bytes of a grpc-message before its percent-encoding, which makes three of one; clients refuse more than 8 KiB of
metadata in all, and whoever breaks off a connection over a frame of more than 16 KiB does so to all calls on it."""

_UNITS_S: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_timeout = re.compile(r"([0-9]{1,8})([HMSmun])").fullmatch
_unprintable = re.compile(rb"[^ -$&-~]")

HEADERS_BLOCK: Final = encode([(b":status", b"200"), (b"content-type", b"application/grpc")])
"""Header block of every answer with HTTP status 200."""
_STATUS_BLOCKS: Final = {code: encode([(b"grpc-status", b"%d" % code)]) for code in Code}
_OK_BLOCK: Final = _STATUS_BLOCKS[Code.OK]
_ACCEPTED: Final = Trailers(("grpc-accept-encoding", compression.ACCEPTED))


def timeout_s(value: str) -> float:
    """A grpc-timeout in seconds: at most 8 digits and a unit. Raises Refusal INVALID_ARGUMENT."""
    match = _timeout(value)
    if match is None:
        raise Refusal(
            Code.INVALID_ARGUMENT, f"malformed grpc-timeout {value!r}: up to 8 digits, then one of H M S m u n"
        )
    return int(match[1]) * _UNITS_S[match[2]]


def read_prefix(
    data: bytes | bytearray | memoryview, start: int, metadata: Metadata, limits: Limits
) -> tuple[bool, int]:
    """(compressed, length) of the message whose prefix is at `data[start:]`.

    Raises Refusal: UNIMPLEMENTED for an encoding that is not known (INTERNAL when none was named, grpc
    doc/compression.md), RESOURCE_EXHAUSTED for a message above the limit.
    """
    compressed, size = PREFIX.unpack_from(data, start)
    if compressed:
        encoding = metadata.values.get("grpc-encoding", "identity")
        if compressed > 1 or encoding == "identity":
            raise Refusal(Code.INTERNAL, f"message has compressed flag {compressed} but grpc-encoding is {encoding}")
        if encoding not in compression.ENCODINGS:
            text = f"grpc-encoding {encoding} is not supported; use one of {compression.ACCEPTED}"
            raise Refusal(Code.UNIMPLEMENTED, text, trailers=_ACCEPTED)
    if size > limits.max_message_bytes:
        text = f"message of {size} bytes is larger than the limit of {limits.max_message_bytes} bytes"
        raise Refusal(Code.RESOURCE_EXHAUSTED, text, reason="message_size")
    return bool(compressed), int(size)


def unpack(message: bytes, metadata: Metadata, limits: Limits) -> bytes:
    """A compressed message. Raises Refusal: RESOURCE_EXHAUSTED when it is too large unpacked, INTERNAL when broken."""
    limit_bytes = min(limits.max_message_bytes, limits.max_decompressed_bytes)
    try:
        return compression.decompress(metadata.values["grpc-encoding"], message, limit_bytes)
    except compression.Oversized as error:
        raise Refusal(Code.RESOURCE_EXHAUSTED, str(error), reason="decompressed_size") from None
    except compression.Corrupt as error:
        raise Refusal(Code.INTERNAL, str(error)) from None


def percent_encode(message: str) -> bytes:
    """A grpc-message: UTF-8, all but printable ASCII, and `%`, as %XX. Cut at MAX_STATUS_MESSAGE bytes of UTF-8."""
    text = message[:MAX_STATUS_MESSAGE].encode("utf-8", "replace")
    if len(text) > MAX_STATUS_MESSAGE:
        text = text[:MAX_STATUS_MESSAGE].decode("utf-8", "ignore").encode()
    return _unprintable.sub(lambda match: b"%%%02X" % match[0][0], text)


def trailers_block(trailers: Trailers) -> bytes:
    """Header block of the trailers of a reply: the pairs, then grpc-status 0. Cached in `trailers.block`."""
    block = trailers.block
    if block is None:
        block = trailers.block = _pairs_block(trailers) + _OK_BLOCK
    return block


def headers_block(headers: Trailers, encoding: str = "") -> bytes:
    """Header block that begins an answer: metadata, and the encoding of its messages."""
    block = HEADERS_BLOCK
    if encoding:
        block += encode([(b"grpc-encoding", encoding.encode())])
    return block + _pairs_block(headers) if headers.pairs else block


def status_block(code: Code, message: str, trailers: Trailers = NO_TRAILERS) -> bytes:
    """Header block of the trailers of a failed answer whose headers are sent already."""
    block = _STATUS_BLOCKS[code] + encode([(b"grpc-message", percent_encode(message))])
    return block + trailers_block(trailers)[: -len(_OK_BLOCK)] if trailers.pairs else block


def failure_block(code: Code, message: str, trailers: Trailers = NO_TRAILERS, http_status: int = 200) -> bytes:
    """Header block of a trailers-only answer."""
    head = HEADERS_BLOCK if http_status == 200 else _http_block(http_status)
    return head + status_block(code, message, trailers)


def _http_block(http_status: int) -> bytes:
    return encode([(b":status", b"%d" % http_status), (b"content-type", b"application/grpc")])


def _pairs_block(trailers: Trailers) -> bytes:
    return encode([(key.encode("ascii"), _value(value)) for key, value in trailers.pairs])


def _value(value: str | bytes) -> bytes:
    """Binary values travel as base64 without padding (grpc doc/PROTOCOL-HTTP2.md, "Binary-Value")."""
    return value.encode("ascii") if isinstance(value, str) else base64.b64encode(value).rstrip(b"=")
