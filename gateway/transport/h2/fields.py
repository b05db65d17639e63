"""A request's header list becomes metadata, if HTTP/2 and gRPC allow it.

RFC 9113 section 8 and grpc doc/PROTOCOL-HTTP2.md. What one field says is worked out once and kept with its entry.
"""

import re
from collections.abc import Callable
from typing import Final

from gateway.errors import Code
from gateway.transport.call import PEER_ADDRESS, PEER_IDENTITY, Handler, Metadata, Streaming
from gateway.transport.h2.errors import ErrorCode, Refusal, StreamFault
from gateway.transport.h2.grpc import timeout_s
from gateway.transport.h2.hpack import Entry
from gateway.transport.peers import CLAIMS

PSEUDO: Final = frozenset((b":method", b":scheme", b":path", b":authority"))
REQUIRED: Final = (":method", ":scheme", ":path")
CONNECTION_SPECIFIC: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
"""Must not appear (section 8.2.2)."""
SPECIAL: Final = CLAIMS | {
    *("content-length", "content-type", "cookie", "grpc-timeout", "host", "te"),
    *(PEER_ADDRESS, PEER_IDENTITY),
}
"""Keys that mean something here."""
MAX_NAMES: Final = 1024
"""Header names remembered as valid, by all connections together."""
MAX_NAME_BYTES: Final = 64
"""Longer names are checked each time."""

_is_grpc = re.compile(r"application/grpc(?:[+;].*)?", re.IGNORECASE | re.DOTALL).fullmatch
_bad_name = re.compile(rb"[^\x21-\x39\x3b-\x40\x5b-\x7e]").search
"""Section 8.2.1: no control character, space, colon, upper case or non-ASCII byte."""
_bad_value = re.compile(rb"[\x00\r\n]|\A[ \t]|[ \t]\Z").search
_names: dict[bytes, tuple[str, bool]] = {}


def read(fields: list[Entry], resolve: Callable[[str], Handler | Streaming | None]) -> Metadata:
    """The metadata of a gRPC request.

    Raises StreamFault PROTOCOL_ERROR for a malformed request (section 8.1.1), Refusal for one that is not a gRPC call
    that can be served: 405 and 415 as HTTP says, INVALID_ARGUMENT for a malformed grpc-timeout, UNIMPLEMENTED for an
    unknown path.
    """
    pseudo, values = _split(fields)
    for name in REQUIRED:
        if not pseudo.get(name):
            raise _malformed(f"request without {name}")
    authority = pseudo.get(":authority")
    if authority and authority != values.get("host", authority):
        raise _malformed("host differs from :authority")
    if pseudo[":method"] != "POST":
        raise Refusal(Code.UNIMPLEMENTED, "gRPC calls are POST requests", http_status=405)
    if not _is_grpc(values.get("content-type", "")):
        raise Refusal(Code.INVALID_ARGUMENT, "content-type must be application/grpc", http_status=415)
    timeout = values.get("grpc-timeout")
    seconds = None if timeout is None else timeout_s(timeout)
    path = pseudo[":path"]
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


def check_trailers(fields: list[Entry]) -> None:
    """Raises StreamFault PROTOCOL_ERROR when request trailers are malformed: pseudo-headers above all (section 8.1)."""
    pseudo, _ = _split(fields)
    if pseudo:
        raise _malformed("pseudo-header in trailers")


def understand(entry: Entry) -> str:
    """Works out what the entry says, and keeps it there; its key.

    key: of the metadata; text: the value; plain: it changes nothing but that; fault: what is wrong with it, or "".
    """
    value = entry.value
    entry.text = text = _text(value)
    entry.fault = ""
    try:
        key, entry.plain = _names.get(entry.name) or _key(entry.name)
    except StreamFault as fault:
        key, entry.plain, entry.fault = "", False, str(fault)
    else:
        # Printable text without blanks at its ends is what nearly all values are; the rest is looked at more closely.
        if (not text.isprintable() or text != text.strip()) and _bad_value(value):
            entry.plain, entry.fault = False, f"forbidden character in the value of {key!r}"
    entry.key = key
    return key


def _split(fields: list[Entry]) -> tuple[dict[str, str], dict[str, str]]:
    """Pseudo-headers, and the rest as metadata values."""
    pseudo: dict[str, str] = {}
    values: dict[str, str] = {}
    for entry in fields:
        key = understand(entry) if entry.key is None else entry.key
        if entry.fault:
            raise _malformed(entry.fault)
        if key[0] == ":":
            if key in pseudo or values:
                raise _malformed(f"repeated or late pseudo-header {key!r}")
            pseudo[key] = entry.text
        elif key in values:
            glue = "; " if key == "cookie" else ","  # a cookie may come in crumbs (section 8.2.3)
            values[key] = f"{values[key]}{glue}{entry.text}"
        else:
            values[key] = entry.text
    if values.get("te", "trailers") != "trailers":
        raise _malformed("te may only be trailers")
    return pseudo, values


def _key(name: bytes) -> tuple[str, bool]:
    """A header name as metadata key, checked, and whether it means nothing here."""
    if name[:1] == b":":
        if name not in PSEUDO:
            raise _malformed(f"unknown pseudo-header {_text(name)!r}")
    elif not name or _bad_name(name):
        raise _malformed(f"forbidden character in the header name {_text(name)!r}")
    elif name in CONNECTION_SPECIFIC:
        raise _malformed(f"connection-specific header {_text(name)!r}")
    key = name.decode("ascii")
    known = key, key[0] != ":" and key not in SPECIAL
    if len(name) <= MAX_NAME_BYTES:
        if len(_names) >= MAX_NAMES:
            _names.clear()
        _names[name] = known
    return known


def _text(value: bytes) -> str:
    """Metadata is ASCII by its specification; UTF-8 is what clients that do not know so send."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _malformed(message: str) -> StreamFault:
    return StreamFault(ErrorCode.PROTOCOL_ERROR, message)
