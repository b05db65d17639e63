"""A client on a bare socket, frame by frame: sees what a library hides, and does what no library would."""

import socket
import struct
import zlib
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import hpack

from gateway.transport.h2.frames import ACK, END_HEADERS, END_STREAM, PADDED, PREFACE, FrameType, frame, window_update
from gateway.transport.h2.settings import Setting
from tests.conformance.interop.methods import SERVICE

FRAME_BYTES = 16_384
WINDOW_BYTES = 65_535
WIDE_BYTES = 1 << 30
Pairs = tuple[tuple[str, str], ...]


@dataclass
class Reply:
    """What has come on one stream."""

    data: bytearray = field(default_factory=bytearray)
    fields: dict[str, str] = field(default_factory=dict)
    """Headers and trailers together."""
    reset: int | None = None
    ended: bool = False

    @property
    def messages(self) -> list[tuple[int, bytes]]:
        """(compressed flag, message as it came) of every whole message."""
        found, rest = [], bytes(self.data)
        while len(rest) >= 5:
            flag, size = struct.unpack_from(">BL", rest)
            if len(rest) < 5 + size:
                break
            found.append((flag, rest[5 : 5 + size]))
            rest = rest[5 + size :]
        return found

    @property
    def status(self) -> int | None:
        """grpc-status, once it has come."""
        return int(self.fields["grpc-status"]) if "grpc-status" in self.fields else None


class Wire:
    """One connection, greeted: the server may send `window_bytes` on each stream and, at first, on all of them.

    Answers SETTINGS and PING. Opens no window again by itself.
    """

    def __init__(self, sock: socket.socket, window_bytes: int = WIDE_BYTES) -> None:
        self.settings: dict[int, int] = {}
        """The server's."""
        self.replies: dict[int, Reply] = {}
        self.pongs: list[bytes] = []
        """Payloads of PING acknowledgements, in order."""
        self.goaway: int | None = None
        self._socket = sock
        self._stream = self._socket.makefile("rb")
        self._encoder, self._decoder = hpack.Encoder(), hpack.Decoder()
        self._next_id = 1
        self._initial_bytes = WINDOW_BYTES
        self._windows = {0: WINDOW_BYTES}
        initial = struct.pack(">HL", Setting.INITIAL_WINDOW_SIZE, window_bytes)
        self.write(PREFACE + frame(FrameType.SETTINGS, 0, 0, initial))
        if window_bytes > WINDOW_BYTES:
            self.write(window_update(0, window_bytes - WINDOW_BYTES))
        while not self.settings:
            self.read()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        self._socket.close()

    def write(self, data: bytes | bytearray) -> None:
        """Any bytes."""
        self._socket.sendall(data)

    def start(self, method: str, *pairs: tuple[str, str], end: bool = False) -> int:
        """HEADERS of a call, to a method of the suite or a whole path; its stream."""
        stream_id, self._next_id = self._next_id, self._next_id + 2
        fields: Pairs = (
            (":method", "POST"),
            (":scheme", "http"),
            (":path", method if method.startswith("/") else SERVICE + method),
            (":authority", "localhost"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            *pairs,
        )
        flags = END_HEADERS | (END_STREAM if end else 0)
        self.write(frame(FrameType.HEADERS, flags, stream_id, self._encoder.encode(fields)))
        self.replies[stream_id] = Reply()
        self._windows[stream_id] = self._initial_bytes
        return stream_id

    def send(
        self, stream_id: int, data: bytes, *, end: bool = True, step: int = FRAME_BYTES, padding: int | None = None
    ) -> None:
        """DATA frames of at most `step` bytes of content, each padded with `padding` bytes; waits for windows.

        Many small frames leave in one write, as many as the windows allow.
        """
        batch = bytearray()
        extra = 0 if padding is None else 1 + padding
        for start in range(0, max(1, len(data)), step):
            piece = data[start : start + step]
            size = len(piece) + extra
            if self.room_bytes(stream_id) < size:
                self.write(batch)
                batch.clear()
                while self.room_bytes(stream_id) < size and not self.replies[stream_id].ended:
                    self.read()
            self._windows[0] -= size
            self._windows[stream_id] -= size
            last = END_STREAM if end and start + step >= len(data) else 0
            if padding is None:
                batch += frame(FrameType.DATA, last, stream_id, piece)
            else:
                batch += frame(FrameType.DATA, last | PADDED, stream_id, bytes([padding]) + piece + bytes(padding))
        self.write(batch)

    def call(self, method: str, body: bytes, *pairs: tuple[str, str]) -> Reply:
        """A whole call with one message."""
        stream_id = self.start(method, *pairs)
        self.send(stream_id, message(body))
        return self.reply(stream_id)

    def reply(self, stream_id: int, messages: int | None = None) -> Reply:
        """What came on a stream, once it has ended, or has as many messages."""
        reply = self.replies[stream_id]
        while not reply.ended and (messages is None or len(reply.messages) < messages):
            self.read()
        return reply

    def room_bytes(self, stream_id: int) -> int:
        """How much may be sent on a stream now."""
        return min(self._windows[0], self._windows[stream_id])

    def open_window(self, stream_id: int, size_bytes: int) -> None:
        """Lets the server send more on a stream."""
        self.write(window_update(stream_id, size_bytes))

    def last_words(self) -> int:
        """The code of the GOAWAY that comes."""
        while self.goaway is None:
            self.read()
        return self.goaway

    def reset(self, stream_id: int, code: int = 8) -> None:
        """RST_STREAM."""
        self.write(frame(FrameType.RST_STREAM, 0, stream_id, struct.pack(">L", code)))

    def ping(self, payload: bytes) -> None:
        """PING."""
        self.write(frame(FrameType.PING, 0, 0, payload))

    def say_goodbye(self) -> None:
        """GOAWAY."""
        self.write(frame(FrameType.GOAWAY, 0, 0, struct.pack(">LL", 0, 0)))

    def read(self) -> None:
        """Takes one frame."""
        head = self._stream.read(9)
        assert len(head) == 9, "the server hung up"
        size, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        stream_id = int.from_bytes(head[5:], "big")
        payload = self._stream.read(size)
        match kind:
            case FrameType.SETTINGS if not flags & ACK:
                self._take_settings(payload)
            case FrameType.PING if flags & ACK:
                self.pongs.append(payload)
            case FrameType.PING:
                self.write(frame(FrameType.PING, ACK, 0, payload))
            case FrameType.WINDOW_UPDATE if stream_id in self._windows:
                self._windows[stream_id] += int.from_bytes(payload, "big")
            case FrameType.GOAWAY:
                self.goaway = int.from_bytes(payload[4:8], "big")
            case FrameType.RST_STREAM:
                self.replies[stream_id].reset = int.from_bytes(payload, "big")
                self.replies[stream_id].ended = True
            case FrameType.HEADERS | FrameType.DATA:
                self._take_reply(kind, flags, self.replies[stream_id], payload)

    def _take_settings(self, payload: bytes) -> None:
        self.settings |= dict(struct.iter_unpack(">HL", payload))
        initial_bytes = self.settings.get(Setting.INITIAL_WINDOW_SIZE, WINDOW_BYTES)
        for stream_id in self.replies:
            self._windows[stream_id] += initial_bytes - self._initial_bytes
        self._initial_bytes = initial_bytes
        self.write(frame(FrameType.SETTINGS, ACK, 0))

    def _take_reply(self, kind: int, flags: int, reply: Reply, payload: bytes) -> None:
        assert not flags & PADDED
        if kind == FrameType.DATA:
            reply.data += payload
        else:
            assert flags & END_HEADERS
            reply.fields |= {str(name): str(value) for name, value in self._decoder.decode(payload)}
        reply.ended = reply.ended or bool(flags & END_STREAM)


def message(body: bytes, encoding: str = "") -> bytes:
    """A Length-Prefixed-Message, compressed when an encoding is named."""
    if encoding:
        body = zlib.compress(body, wbits=31 if encoding == "gzip" else 15)
    return struct.pack(">BL", bool(encoding), len(body)) + body


def unpacked(reply: Reply) -> list[tuple[int, bytes]]:
    """(compressed flag, message without compression) of every message."""
    wbits = {"gzip": 31, "deflate": 15}.get(reply.fields.get("grpc-encoding", ""), 0)
    return [(flag, zlib.decompress(body, wbits) if flag else body) for flag, body in reply.messages]
