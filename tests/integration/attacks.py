"""Bytes that attackers send."""

import struct
from collections.abc import Iterator

from gateway.transport.h2.frames import END_HEADERS, PREFACE, FrameType, frame
from gateway.transport.h2.hpack import encode
from tests.unit.gateway.transport.h2.peer import data, message, settings

MIB = 1 << 20
MANY = 20_000
STREAMS = 128
"""Concurrent streams by default."""
PING = frame(FrameType.PING, 0, 0, bytes(8))
SHUT = PREFACE + settings(initial_window_size=0)
"""A greeting that lets no reply through."""


def block(path: str, *more: tuple[bytes, bytes]) -> bytes:
    """The header block of a call, without the dynamic table."""
    fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/test/" + path.encode())]
    return encode([*fields, (b"content-type", b"application/grpc"), *more])


def begin(stream_id: int, path: str = "Echo", *more: tuple[bytes, bytes]) -> bytes:
    """HEADERS of a call."""
    return frame(FrameType.HEADERS, END_HEADERS, stream_id, block(path, *more))


def call(stream_id: int, path: str, body: bytes = b"") -> bytes:
    """A whole call."""
    return begin(stream_id, path) + data(stream_id, message(body))


def giant(stream_id: int, path: str = "Echo", size: int = 500 * MIB, sent: int = 1000) -> bytes:
    """The beginning of a message of this size."""
    return begin(stream_id, path) + data(stream_id, struct.pack(">BL", 0, size) + bytes(sent), end=False)


def odd(count: int = MANY, start: int = 1) -> range:
    """Stream ids."""
    return range(start, start + 2 * count, 2)


def insert(name: bytes, value: bytes) -> bytes:
    """A field of less than 127 + 127 * 128 octets that goes into the dynamic table."""
    rest = len(value) - 127
    return b"\x40" + bytes([len(name)]) + name + bytes([0x7F, rest & 0x7F | 0x80, rest >> 7]) + value


NEWEST = b"\xbe"
"""A reference to the newest field of the dynamic table: one octet."""


def crumbs(stream_id: int, count: int, path: str = "Echo") -> bytes:
    """A call whose metadata is references; each with a field of its own, so that nobody may share it."""
    unique = b"\x00\x01n\x08%08x" % stream_id
    return frame(FrameType.HEADERS, END_HEADERS, stream_id, block(path) + NEWEST * count + unique)


def pieces(body: bytes, stream_id: int, size: int = 16_000) -> Iterator[bytes]:
    """DATA frames of a request that does not end."""
    yield from (data(stream_id, body[at : at + size], end=False) for at in range(0, len(body), size))
