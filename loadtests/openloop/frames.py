"""What a client of one unary gRPC method sends: HTTP/2 frames rendered beforehand. Pure.

Each call is a HEADERS and some DATA frames on a stream of its own (RFC 9113, section 8.1). The first call puts its
fields into the server's dynamic table; from then on the header block is nothing but indices and the same for every
call, as with clients whose metadata stays the same.
"""

import struct
from collections.abc import Sequence
from typing import Final

from hpack import Encoder

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 5, 6, 7, 8, 9
ACK, END_STREAM, END_HEADERS, PADDED, PRIORITY = 1, 1, 4, 8, 32
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_STREAMS, INITIAL_WINDOW, MAX_FRAME = 1, 2, 3, 4, 5
HEADER: Final = struct.Struct(">LBL")
"""length << 8 | type, flags, stream id."""
HEADER_BYTES: Final = 9
MAX_WINDOW_BYTES: Final = 2**31 - 1
DEFAULT_WINDOW_BYTES: Final = 65535
DEFAULT_FRAME_BYTES: Final = 16384
DEFAULT_TABLE_BYTES: Final = 4096
_SETTLED_AFTER: Final = 8
"""By so many calls a block repeats itself, or it never does."""

Fields = Sequence[tuple[str, str]]


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Any frame."""
    return HEADER.pack(len(payload) << 8 | kind, flags, stream_id) + payload


def greeting() -> bytes:
    """The client's preface: no pushes, and windows so wide that none holds a server back."""
    settings = struct.pack(">HLHL", ENABLE_PUSH, 0, INITIAL_WINDOW, MAX_WINDOW_BYTES)
    return PREFACE + frame(SETTINGS, 0, 0, settings) + window_update(MAX_WINDOW_BYTES - DEFAULT_WINDOW_BYTES)


def window_update(increment_bytes: int) -> bytes:
    """Opens the connection's window."""
    return frame(WINDOW_UPDATE, 0, 0, struct.pack(">L", increment_bytes))


def fields(authority: str, path: str, deadline_s: float, metadata: Fields) -> list[tuple[str, str]]:
    """The header list of a call; `deadline_s` 0: without one."""
    timeout = [("grpc-timeout", grpc_timeout(deadline_s))] if deadline_s else []
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        *timeout,
        *metadata,
    ]


def grpc_timeout(deadline_s: float) -> str:
    """The value of `grpc-timeout`: at most eight digits and a unit, rounded up."""
    value = max(1, -int(-deadline_s * 1_000_000 // 1))
    for unit, size in (("u", 1), ("m", 1000), ("S", 1_000_000)):
        if -(-value // size) <= 99_999_999:
            return f"{-(-value // size)}{unit}"
    return "99999999S"


class Calls:
    """Renders the calls of one connection."""

    def __init__(self, headers: Fields, message: bytes, table_bytes: int = DEFAULT_TABLE_BYTES) -> None:
        """`message` comes with its gRPC prefix. `table_bytes`: what the server lets us use of its dynamic table."""
        self._encoder = Encoder()
        if table_bytes < DEFAULT_TABLE_BYTES:
            self._encoder.header_table_size = table_bytes
        self._headers = headers
        self._block = b""
        self._rendered = 0
        self._settled = False
        pieces = [message[at : at + DEFAULT_FRAME_BYTES] for at in range(0, len(message), DEFAULT_FRAME_BYTES)]
        self._pieces = [(len(piece) << 8 | DATA, piece) for piece in pieces[:-1]]
        self._last = pieces[-1]
        self._last_word = len(self._last) << 8 | DATA

    def render(self, stream_id: int) -> bytes:
        """The next call. Streams are to be used in order: the first blocks change the server's table."""
        if not self._settled:
            self._next_block()
        block = self._block
        data = b"".join([HEADER.pack(word, 0, stream_id) + piece for word, piece in self._pieces])
        return b"".join(
            (
                HEADER.pack(len(block) << 8 | HEADERS, END_HEADERS, stream_id),
                block,
                data,
                HEADER.pack(self._last_word, END_STREAM, stream_id),
                self._last,
            )
        )

    def _next_block(self) -> None:
        """Encodes until two blocks in a row are the same: then nothing enters the table any more."""
        block = self._encoder.encode(self._headers)
        self._settled = block == self._block
        self._block = block
        self._rendered += 1
        if self._rendered > _SETTLED_AFTER and not self._settled:
            raise ValueError(f"{sum(map(len, self._headers))} header fields do not fit the server's table")
