"""A gRPC client that costs next to nothing per call: requests rendered beforehand, replies counted by frame headers.

h2load sends the same header block again and again. Real clients do not: grpc-go (golang.org/x/net/http2/hpack), Envoy
(nghttp2) and grpc-java (Netty) put every field that is not marked sensitive into the dynamic table, the ones that are
new on each call too; Go and Envoy Huffman-code them. `Headers` says which fields change, `render_*` writes what such a
client would, and `Replies` reads what comes back. No sockets here; see `tests.bench.drive`.
"""

import random
import struct
import uuid
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from hpack import Encoder, NeverIndexedHeaderTuple

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MAX_WINDOW_BYTES: Final = 2**31 - 1
DEFAULT_WINDOW_BYTES: Final = 65535
AUTHORITY: Final = "inference.bench.internal:8001"
"""The same for every server, so that one rendering serves all."""

HEADER: Final = struct.Struct(">LBL")
"""length << 8 | type, flags, stream id."""
HEADER_BYTES: Final = 9
DATA, HEADERS, SETTINGS, WINDOW_UPDATE = 0, 1, 4, 8
END_STREAM, END_HEADERS = 1, 4
_INITIAL_WINDOW, _MAX_STREAMS = 4, 3


class Headers(Enum):
    """Which of the ten fields of a call are new on each call, and how they are written."""

    SAME = "same block"
    """None: from the second call on, ten indices."""
    LITERAL = "request id, never indexed"
    """x-request-id, as a literal that enters no table."""
    INDEXED = "request id, indexed"
    """x-request-id, with incremental indexing: the table changes, and soon evicts, with each call."""
    CHURN = "deadline, trace and request id, indexed"
    """grpc-timeout, traceparent and x-request-id, as grpc-go sends them under a deadline and a tracer."""


class Fields:
    """The header lists of one connection's calls, in grpc-go's order."""

    def __init__(self, path: str, kind: Headers, seed: int) -> None:
        self._kind = kind
        self._random = random.Random(seed)  # noqa: S311 - ids that only need to differ
        self._head = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", AUTHORITY),
            ("content-type", "application/grpc"),
            ("user-agent", "grpc-go/1.75.0"),
            ("te", "trailers"),
        ]
        self._timeout, self._trace, self._id = self._new_timeout(), self._new_trace(), self._new_id()

    def next(self) -> list[tuple[str, str]]:
        """The ten fields of the next call."""
        kind = self._kind
        if kind is Headers.CHURN:
            self._timeout, self._trace = self._new_timeout(), self._new_trace()
        if kind is not Headers.SAME:
            self._id = self._new_id()
        last = ("x-request-id", self._id)
        return [
            *self._head,
            ("grpc-timeout", self._timeout),
            ("traceparent", self._trace),
            NeverIndexedHeaderTuple(*last) if kind is Headers.LITERAL else last,
        ]

    def _new_timeout(self) -> str:
        """What is left of five seconds, in microseconds."""
        return f"{self._random.randrange(4_990_000, 5_000_000)}u"

    def _new_trace(self) -> str:
        """W3C Trace Context."""
        return f"00-{self._random.getrandbits(128):032x}-{self._random.getrandbits(64):016x}-01"

    def _new_id(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))


@dataclass(frozen=True)
class Script:
    """What one connection sends, item by item: an item is what one answer pays for.

    blob: all items. ends: where each ends. item_bytes: DATA bytes of an item, which flow control counts.
    answer_bytes: DATA bytes of the answer to an item. tail: what is sent after the last item.
    """

    blob: bytes
    ends: "array[int]"
    item_bytes: int
    answer_bytes: int
    streamed: bool = False
    """Answers are messages of one stream; else each ends a stream of its own."""
    tail: bytes = b""

    @property
    def items(self) -> int:
        """How many."""
        return len(self.ends)


def prefixed(message: bytes) -> bytes:
    """A gRPC Length-Prefixed-Message, not compressed."""
    return struct.pack(">BL", 0, len(message)) + message


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Any frame."""
    return HEADER.pack(len(payload) << 8 | kind, flags, stream_id) + payload


def greeting() -> bytes:
    """The client's preface: windows as wide as they may be, so that none holds a server back."""
    settings = struct.pack(">HLHL", _INITIAL_WINDOW, MAX_WINDOW_BYTES, _MAX_STREAMS, 0)
    return PREFACE + frame(SETTINGS, 0, 0, settings) + window_update(MAX_WINDOW_BYTES - DEFAULT_WINDOW_BYTES)


def window_update(increment_bytes: int) -> bytes:
    """Opens the connection's window."""
    return frame(WINDOW_UPDATE, 0, 0, struct.pack(">L", increment_bytes))


def render_unary(path: str, kind: Headers, message: bytes, calls: int, seed: int = 0) -> Script:
    """Unary calls, each a HEADERS and a DATA frame on a stream of its own; the answer is the message."""
    encoder, fields, body = Encoder(), Fields(path, kind, seed), prefixed(message)
    blob, ends = bytearray(), array("Q")
    for number in range(calls):
        stream_id = 2 * number + 1
        blob += frame(HEADERS, END_HEADERS, stream_id, encoder.encode(fields.next()))
        blob += frame(DATA, END_STREAM, stream_id, body)
        ends.append(len(blob))
    return Script(bytes(blob), ends, len(body), len(body))


def render_bidi(path: str, message: bytes, messages: int) -> Script:
    """One stream on which each message is answered by one as large."""
    block, body = Encoder().encode(Fields(path, Headers.SAME, 0).next()), prefixed(message)
    one = frame(DATA, 0, 1, body)
    first = frame(HEADERS, END_HEADERS, 1, block) + one
    ends = array("Q", range(len(first), len(first) + messages * len(one), len(one)))
    return Script(first + one * (messages - 1), ends, len(body), len(body), True, frame(DATA, END_STREAM, 1))


def render_many(path: str, message: bytes, replies: int) -> Script:
    """One stream: a single message, answered by `replies` as large. What it asks for is up to the message."""
    block, body = Encoder().encode(Fields(path, Headers.SAME, 0).next()), prefixed(message)
    blob = frame(HEADERS, END_HEADERS, 1, block) + frame(DATA, END_STREAM, 1, body)
    return Script(blob, array("Q", [len(blob)]), len(body), len(body) * replies, True)


def blocks(script: Script) -> Iterator[bytes]:
    """The header blocks of a script, for whoever wants to look at them."""
    position = 0
    while position < len(script.blob):
        word, _, _ = HEADER.unpack_from(script.blob, position)
        end = position + HEADER_BYTES + (word >> 8)
        if word & 0xFF == HEADERS:
            yield script.blob[position + HEADER_BYTES : end]
        position = end
