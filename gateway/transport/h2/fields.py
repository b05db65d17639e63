"""A request's header list becomes metadata, if HTTP/2 and gRPC allow it.

RFC 9113 section 8 and grpc doc/PROTOCOL-HTTP2.md.
"""

import re
from collections.abc import Callable, Iterable
from typing import Final

from gateway.errors import Code
from gateway.transport.call import Handler, Metadata
from gateway.transport.h2.errors import ErrorCode, Refusal, StreamFault
from gateway.transport.h2.grpc import timeout_s

Fields = list[tuple[bytes, bytes]]

PSEUDO: Final = frozenset((b":method", b":scheme", b":path", b":authority"))
REQUIRED: Final = (b":method", b":scheme", b":path")
CONNECTION_SPECIFIC: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
"""Must not appear (section 8.2.2)."""
GRPC_CONTENT_TYPE: Final = re.compile(rb"application/grpc(?:[+;].*)?", re.IGNORECASE | re.DOTALL)

_bad_name = re.compile(rb"[^\x21-\x39\x3b-\x40\x5b-\x7e]").search
"""Section 8.2.1: no control character, space, colon, upper case or non-ASCII byte."""
_bad_value = re.compile(rb"[\x00\r\n]|\A[ \t]|[ \t]\Z").search


def read(fields: Fields, resolve: Callable[[str], Handler | None]) -> Metadata:
    """The metadata of a gRPC request.

    Raises StreamFault PROTOCOL_ERROR for a malformed request (section 8.1.1), Refusal for one that is not a gRPC call
    that can be served: 405 and 415 as HTTP says, INVALID_ARGUMENT for a malformed grpc-timeout, UNIMPLEMENTED for an
    unknown path.
    """
    pseudo, values = _split(fields)
    for name in REQUIRED:
        if not pseudo.get(name):
            raise _malformed(f"request without {name.decode()}")
    authority = pseudo.get(b":authority")
    if authority and _text(authority) != values.get("host", _text(authority)):
        raise _malformed("host differs from :authority")
    if pseudo[b":method"] != b"POST":
        raise Refusal(Code.UNIMPLEMENTED, "gRPC calls are POST requests", http_status=405)
    if not GRPC_CONTENT_TYPE.fullmatch(values.get("content-type", "").encode()):
        raise Refusal(Code.INVALID_ARGUMENT, "content-type must be application/grpc", http_status=415)
    timeout = values.get("grpc-timeout")
    seconds = None if timeout is None else timeout_s(timeout)
    path = _text(pseudo[b":path"])
    handler = resolve(path)
    if handler is None:
        raise Refusal(Code.UNIMPLEMENTED, f"unknown method {path}")
    return Metadata(path, values, seconds, handler)


def content_length(metadata: Metadata) -> int | None:
    """How many DATA bytes the request says it has. Raises StreamFault PROTOCOL_ERROR when that is not a number."""
    text = metadata.values.get("content-length")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise _malformed(f"malformed content-length {text[:40]!r}")
    return int(text)


def check_trailers(fields: Fields) -> None:
    """Raises StreamFault PROTOCOL_ERROR when request trailers are malformed: pseudo-headers above all (section 8.1)."""
    pseudo, _ = _split(fields)
    if pseudo:
        raise _malformed("pseudo-header in trailers")


def _split(fields: Iterable[tuple[bytes, bytes]]) -> tuple[dict[bytes, bytes], dict[str, str]]:
    """Pseudo-headers, and the rest as metadata values."""
    pseudo: dict[bytes, bytes] = {}
    values: dict[str, str] = {}
    for name, value in fields:
        if _bad_value(value):
            raise _malformed(f"forbidden character in the value of {_text(name)!r}")
        if name[:1] == b":":
            if name not in PSEUDO or name in pseudo or values:
                raise _malformed(f"unknown, repeated or late pseudo-header {_text(name)!r}")
            pseudo[name] = value
            continue
        if not name or _bad_name(name):
            raise _malformed(f"forbidden character in the header name {_text(name)!r}")
        if name in CONNECTION_SPECIFIC or (name == b"te" and value != b"trailers"):
            raise _malformed(f"connection-specific header {_text(name)!r}")
        key = name.decode("ascii")
        text = _text(value)
        values[key] = f"{values[key]},{text}" if key in values else text
    return pseudo, values


def _text(value: bytes) -> str:
    """Metadata is ASCII by its specification; UTF-8 is what clients that do not know so send."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _malformed(message: str) -> StreamFault:
    return StreamFault(ErrorCode.PROTOCOL_ERROR, message)
