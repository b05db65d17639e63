"""A whole connection under fuzz: what the peer sends, and when the server answers, waits, or says goodbye.

The first octet of an input chooses its language: even, octets as a client sends them, preface included, in pieces of as
many octets as the second says; odd, records after a valid greeting. A record begins with an octet of which the low four
bits say what it is: 0 to 11 a frame of that type (then flags, stream, length, payload), 12 a reply, 13 something the
driver does, 14 octets that are no frame, 15 a failure. So a mutation of one octet changes one thing.
"""

from collections.abc import Iterator
from math import inf
from typing import Final

from gateway.errors import Code
from gateway.transport.call import NO_TRAILERS, Call, Handler, Stream, Streaming, Trailers
from gateway.transport.compression import compress
from gateway.transport.h2.calls import H2Call
from gateway.transport.h2.connection import Connection
from gateway.transport.h2.flow import H2Stream
from gateway.transport.h2.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    HEADER,
    PADDED,
    PREFACE,
    PRIORITY,
    FrameType,
    frame,
)
from gateway.transport.h2.limits import Limits
from tests.fuzz.memory import held_bytes
from tests.fuzz.watcher import Watcher
from tests.unit.gateway.transport.h2 import peer
from tests.unit.gateway.transport.h2.peer import Peer

LIMITS: Final = Limits(
    max_streams=4,
    max_message_bytes=200_000,
    max_upload_bytes=150_000,
    max_header_list_bytes=2000,
    max_header_block_bytes=20_000,
    max_frame_bytes=16_384,
    stream_window_bytes=65_535,
    connection_window_bytes=100_000,
    max_backlog_bytes=1 << 20,
    max_decompressed_bytes=50_000,
    reset_burst=20,
    max_control_replies=100,
)
MEMORY_BYTES: Final = 3 << 20
"""What LIMITS allow a connection to hold: messages and replies of its streams, header blocks, unread answers."""
REPLY, DRIVER, OCTETS, FAILURE = 12, 13, 14, 15
MANY: Final = 0xFF
"""As the length of a frame: so many times 256 zeros as the next octet says."""


class Service:
    """Echoes at once, or keeps the call or stream until the script answers it."""

    def __init__(self) -> None:
        self.kept: list[Call | Stream] = []

    def resolve(self, path: str) -> Handler | Streaming | None:
        handlers: dict[str, Handler | Streaming] = {
            "/test.Echo/Echo": _echo,
            "/test.Echo/Keep": self.kept.append,
            "/test.Echo/Chat": Streaming(_chat),
            "/test.Echo/Listen": Streaming(self.kept.append),
        }
        return handlers.get(path)


def _chat(stream: Stream) -> None:
    def answer(message: bytes) -> None:
        if not stream.send(message, compress=len(message) % 3 == 0):
            stream.pause()

    stream.on_message = answer
    stream.on_writable = stream.resume
    stream.on_end = stream.finish


def _echo(call: Call) -> None:
    call.reply(call.message, NO_TRAILERS)


class Run:
    """One input on its way through one connection."""

    def __init__(self, data: bytes) -> None:
        self.service = Service()
        self.watcher = Watcher()
        self.connection = Connection(self.service, LIMITS, lambda: None)
        self.now_s = 100.0
        self._data = data
        self._position = 1

    def octet(self) -> int:
        """The next octet of the input; 0 behind its end."""
        return next(iter(self.octets(1)), 0)

    def octets(self, size: int) -> bytes:
        found = self._data[self._position : self._position + size]
        self._position += size
        return found

    def go(self) -> None:
        """Runs the input to its end, or the connection's."""
        pieces = self.script() if self._data[:1] and self._data[0] & 1 else self.raw()
        for piece in pieces:
            self.connection.receive(piece, self.now_s)
            self.write()
            if self.connection.finished:
                break
        self.check_memory()
        self.connection.lost()
        assert self.connection.idle

    def raw(self) -> Iterator[bytes]:
        self.watcher.window_bytes = inf
        size = self.octet() + 1
        while piece := self.octets(size):
            yield piece

    def script(self) -> Iterator[bytes]:
        yield PREFACE + peer.settings() + peer.SETTINGS_ACK
        while self._position < len(self._data):
            first = self.octet()
            match first & 0x0F:
                case kind if kind < REPLY:
                    yield self.frame(kind)
                case 12 | 15 as answer:
                    self.answer(answer, self.octet())
                case 13:
                    self.drive(self.octet())
                case _:
                    self.watcher.window_bytes = inf
                    yield self.octets(self.octet())

    def frame(self, kind: int) -> bytes:
        """A frame whose length is right, unless the input is over."""
        flags, stream, size = self.octet(), self.octet(), self.octet()
        payload = bytes(256 * self.octet()) if size == MANY else self.octets(size)
        stream_id = 2**31 - 1 if stream & 0x40 else stream & 0x3F
        if kind == FrameType.WINDOW_UPDATE and not stream_id:
            self.watcher.window_bytes += int.from_bytes(payload[:4], "big")
        return HEADER.pack(len(payload) << 8 | kind, flags, stream_id | (stream & 0x80) << 24) + payload

    def answer(self, kind: int, size: int) -> None:
        """The oldest call gets its answer, early or late."""
        if self.service.kept:
            call = self.service.kept.pop(0)
            if isinstance(call, H2Stream):
                self.conduct(call, kind, size)
                self.write()
                return
            assert isinstance(call, H2Call)
            if kind == REPLY:
                call.reply(bytes(size * 1000), NO_TRAILERS)
            else:
                call.fail(Code.UNAVAILABLE, "x" * size)
        self.write()

    def conduct(self, stream: H2Stream, kind: int, what: int) -> None:
        """A stream that was kept sends, waits, goes on, or ends; until then it stays kept, behind the others."""
        if kind == REPLY and not stream.closed:
            self.service.kept.append(stream)
        match kind, what & 3:
            case 12, 0:
                stream.send_headers(Trailers(("x-bin", bytes([what]))))
            case 12, 1:
                stream.pause()
            case 12, 2:
                stream.resume()
            case 12, _:
                stream.send(bytes(what * 400), compress=bool(what & 4))
            case _, 0 | 1:
                stream.finish(Trailers(("x-end", str(what))))
            case _:
                stream.fail(Code.ABORTED, "x" * what)

    def drive(self, what: int) -> None:
        """What the driver of a connection does besides."""
        match what & 7:
            case 0 | 1:
                self.connection.sender.paused = bool(what & 1)
            case 2:
                self.connection.drain()
            case 3:
                self.connection.leave()
            case 4 | 5:
                self.connection.sweep(what, self.now_s, 50 * what if what & 1 else 0)
            case _:
                self.now_s += what
        self.write()

    def write(self) -> None:
        """As the driver does: everything that is due, unless the socket is full."""
        if self.connection.sender.paused and not self.connection.finished:
            return
        while output := self.connection.output():
            self.watcher.see(output)

    def check_memory(self) -> None:
        held = held_bytes(self.connection, self.service, LIMITS)
        assert held <= MEMORY_BYTES, f"the connection holds {held} bytes"


def check(data: bytes) -> None:
    """The fuzz target: runs one input. Raises AssertionError, or whatever escapes from the connection."""
    Run(data).go()


def record(*frames: bytes) -> bytes:
    """Frames as records; of payloads above 254 octets only zeros, in 256s, are left."""
    found = b""
    for item in peer.split(b"".join(frames)):
        size = len(item.payload)
        tail = bytes([size]) + item.payload if size < MANY else bytes([MANY, min(255, size // 256)])
        found += bytes([item.kind, item.flags, min(item.stream_id, 0x40)]) + tail
    return found


def seeds() -> list[bytes]:
    """Conversations that have a bit of everything."""
    return [*_raw_seeds(), *(b"\x01" + each for each in _script_seeds())]


def _raw_seeds() -> Iterator[bytes]:
    client = Peer(greet=False)
    whole = PREFACE + peer.settings(initial_window_size=100, max_frame_size=20_000) + peer.SETTINGS_ACK
    whole += b"".join(client.request(stream_id, b"hello") for stream_id in (1, 3, 5))
    for size in (0, 30, 255):
        yield bytes([0, size]) + whole
    yield bytes([0, 255]) + b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


def _script_seeds() -> Iterator[bytes]:
    keep = (":path", "/test.Echo/Keep")
    client = Peer()
    body = peer.message(b"hello")
    yield record(*(client.request(stream_id, b"hello", ("x-id", str(stream_id % 4))) for stream_id in range(1, 13, 2)))
    client = Peer()
    yield record(client.request(1, b"k", keep), client.request(3, b"k", keep)) + bytes([REPLY, 200, FAILURE, 20])
    client = Peer()
    block, fields = client.block(keep), b"\0\0\0\0\x10"
    pieces = [frame(FrameType.HEADERS, 0, 1, block[:9]), frame(FrameType.CONTINUATION, END_HEADERS, 1, block[9:])]
    prioritised = frame(
        FrameType.HEADERS, END_HEADERS | PADDED | PRIORITY, 3, b"\3" + fields + client.block() + bytes(3)
    )
    padded = frame(FrameType.DATA, END_STREAM | PADDED, 3, b"\5" + body + bytes(5))
    priority = frame(FrameType.PRIORITY, 0, 3, fields)
    yield record(*pieces, prioritised, priority, peer.data(1, body[:3], end=False), padded, peer.data(1, body[3:]))
    client = Peer()
    windows = peer.settings(initial_window_size=3, header_table_size=0), peer.window_update(0, 1000)
    yield (
        record(*windows, client.request(1), client.request(3, b"k", keep))
        + bytes([REPLY, 90, DRIVER, 1])
        + record(
            peer.window_update(3, 9), peer.settings(initial_window_size=70_000), frame(FrameType.PING, 0, 0, bytes(8))
        )
        + bytes([DRIVER, 0])
    )
    client = Peer()
    large, more = peer.message(bytes(180_000)), frame(FrameType.DATA, 0, 1, bytes(16_128))
    yield record(client.headers(1), peer.data(1, large[:200], end=False), *[more] * 6, client.headers(3)) + record(
        peer.data(3, large[:200], end=False),
        frame(FrameType.DATA, 0, 3, bytes(16_128)),
        peer.reset(1),
        peer.data(3, b""),
    )
    client = Peer()
    trailers = client.headers(1), peer.data(1, body, end=False), client.trailers(1, ("x-t", "1"))
    yield record(*trailers, client.headers(3, ("content-length", "10")), peer.data(3, body), peer.reset(3))
    yield from _stream_seeds()
    client = Peer()
    drained = record(
        frame(FrameType.PING, ACK, 0, b"draining"), client.request(1), frame(FrameType.GOAWAY, 0, 0, bytes(8))
    )
    yield bytes([DRIVER, 2]) + record(client.request(3, b"k", keep)) + drained + bytes([REPLY, 1])
    yield (
        bytes([DRIVER, 7, DRIVER, 4, OCTETS, 3])
        + b"\0\0\x08"
        + bytes([OCTETS, 14])
        + frame(FrameType.PING, 0, 0, bytes(8))[3:]
    )


def _stream_seeds() -> Iterator[bytes]:
    chat, listen = (":path", "/test.Echo/Chat"), (":path", "/test.Echo/Listen")
    names = ("grpc-encoding", "gzip"), ("grpc-accept-encoding", "gzip")
    body, packed = peer.message(b"hello"), peer.message(compress("gzip", bytes(3000)), 1)
    client = Peer()
    several = peer.data(1, body + body[:3], end=False), peer.data(1, body[3:], end=False), peer.data(1, b"")
    yield record(client.headers(1, chat, *names), peer.data(1, packed, end=False), *several)
    client = Peer()
    held = record(client.headers(1, listen), client.headers(3, listen), peer.data(1, body, end=False))
    yield held + bytes([REPLY, 0, REPLY, 1, REPLY, 3, REPLY, 2]) + record(peer.data(3, body)) + bytes([FAILURE, 0])
    yield held + bytes([REPLY, 255] * 4) + record(peer.reset(1), client.trailers(3, ("x-t", "1"))) + bytes([FAILURE, 2])
    client = Peer()
    slow = record(peer.settings(initial_window_size=9), client.headers(1, chat), peer.data(1, body, end=False))
    yield slow + record(peer.window_update(1, 3), peer.data(1, body), peer.window_update(1, 90), peer.reset(1))
    client = Peer()
    large, more = peer.message(bytes(120_000)), frame(FrameType.DATA, 0, 1, bytes(16_128))
    yield record(client.headers(1, listen), peer.data(1, large[:200], end=False), *[more] * 9, peer.data(1, b""))
