"""A client made by hand for tests: frames out of bytes, bytes out of frames, and a service that remembers its calls."""

import struct
from dataclasses import dataclass

import hpack

from gateway.transport.call import NO_TRAILERS, Call, Handler, Stream, Streaming
from gateway.transport.h2.connection import Connection
from gateway.transport.h2.frames import (
    END_HEADERS,
    END_STREAM,
    HEADER,
    HEADER_BYTES,
    PREFACE,
    FrameType,
    frame,
)
from gateway.transport.h2.limits import Limits
from gateway.transport.h2.settings import Setting

Pairs = list[tuple[str, str]]

REQUEST: Pairs = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/test.Echo/Echo"),
    (":authority", "localhost"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
]
SETTINGS_ACK = frame(FrameType.SETTINGS, 1, 0)


@dataclass(frozen=True)
class Frame:
    """One frame as it came out."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes

    @property
    def code(self) -> int:
        """The error code of RST_STREAM or GOAWAY."""
        return int.from_bytes(self.payload[:4] if self.kind == FrameType.RST_STREAM else self.payload[4:8], "big")


class Recorder:
    """A service: `/test.Echo/Echo` echoes at once, `/test.Echo/Keep` keeps the call, `/test.Echo/Crash` raises.

    `/test.Echo/Chat` echoes every message of a stream, and ends when the caller does; `/test.Echo/Listen` keeps the
    stream and notes its messages, "end" and "cancel" in `heard`.
    """

    def __init__(self) -> None:
        self.kept: list[Call] = []
        self.streams: list[Stream] = []
        self.heard: list[bytes | str] = []
        self.resolved: list[str] = []

    def resolve(self, path: str) -> Handler | Streaming | None:
        self.resolved.append(path)
        handlers: dict[str, Handler | Streaming] = {
            "/test.Echo/Echo": self.echo,
            "/test.Echo/Keep": self.kept.append,
            "/test.Echo/Crash": self.crash,
            "/test.Echo/Chat": Streaming(self.chat),
            "/test.Echo/Listen": Streaming(self.listen),
            "/test.Echo/Watch": Streaming(self.listen, may_idle=True),
        }
        return handlers.get(path)

    def echo(self, call: Call) -> None:
        self.kept.append(call)
        call.reply(call.message, NO_TRAILERS)

    def chat(self, stream: Stream) -> None:
        self.streams.append(stream)

        def answer(body: bytes) -> None:
            stream.send(body)

        stream.on_message = answer
        stream.on_end = stream.finish

    def listen(self, stream: Stream) -> None:
        self.streams.append(stream)
        stream.on_message = self.heard.append
        stream.on_end = lambda: self.heard.append("end")
        stream.on_cancel = lambda: self.heard.append("cancel")

    def crash(self, call: Call) -> None:
        raise RuntimeError("as ordered")


def message(body: bytes, compressed: int = 0) -> bytes:
    """A Length-Prefixed-Message."""
    return struct.pack(">BL", compressed, len(body)) + body


def settings(**values: int) -> bytes:
    """A SETTINGS frame; keys are the names of `Setting` in lower case."""
    return frame(
        FrameType.SETTINGS,
        0,
        0,
        b"".join(struct.pack(">HL", Setting[key.upper()], value) for key, value in values.items()),
    )


def data(stream_id: int, payload: bytes, *, end: bool = True) -> bytes:
    """A DATA frame."""
    return frame(FrameType.DATA, END_STREAM if end else 0, stream_id, payload)


def window_update(stream_id: int, increment: int) -> bytes:
    """A WINDOW_UPDATE frame, valid or not."""
    return frame(FrameType.WINDOW_UPDATE, 0, stream_id, struct.pack(">L", increment))


def reset(stream_id: int, code: int = 8) -> bytes:
    """A RST_STREAM frame."""
    return frame(FrameType.RST_STREAM, 0, stream_id, struct.pack(">L", code))


def split(output: bytes) -> list[Frame]:
    """The frames in what a server wrote."""
    frames = []
    while output:
        word, flags, stream_id = HEADER.unpack_from(output)
        end = HEADER_BYTES + (word >> 8)
        assert len(output) >= end, "the server wrote an incomplete frame"
        frames.append(Frame(word & 0xFF, flags, stream_id, output[HEADER_BYTES:end]))
        output = output[end:]
    return frames


class Peer:
    """A connection under test, and the client's end of it."""

    def __init__(self, limits: Limits | None = None, *, greet: bool = True, first: bytes = b"") -> None:
        self.service = Recorder()
        self.woken = 0
        self.connection = Connection(self.service, limits or Limits(), self._wake)
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.now_s = 100.0
        if greet:
            self.send(PREFACE, first or settings(), SETTINGS_ACK)

    def _wake(self) -> None:
        self.woken += 1

    def send(self, *pieces: bytes) -> list[Frame]:
        """Gives bytes to the server; what it answers."""
        self.connection.receive(b"".join(pieces), self.now_s)
        return self.frames()

    def frames(self) -> list[Frame]:
        """What the server has to say, until it falls silent."""
        output = b""
        while (piece := self.connection.output()) or self.connection._flows.stirred:
            output += piece
        return split(output)

    def headers(
        self, stream_id: int, *changes: tuple[str, str], flags: int = END_HEADERS, pairs: Pairs | None = None
    ) -> bytes:
        """A HEADERS frame: REQUEST with some fields replaced or added."""
        return frame(FrameType.HEADERS, flags, stream_id, self.block(*changes, pairs=pairs))

    def trailers(self, stream_id: int, *pairs: tuple[str, str], flags: int = END_HEADERS | END_STREAM) -> bytes:
        """A HEADERS frame that ends a request."""
        return frame(FrameType.HEADERS, flags, stream_id, self.encoder.encode(pairs))

    def block(self, *changes: tuple[str, str], pairs: Pairs | None = None) -> bytes:
        """A header block."""
        replaced = dict(changes)
        fields = [(name, replaced.pop(name, value)) for name, value in (REQUEST if pairs is None else pairs)]
        fields += [pair for pair in changes if pair[0] in replaced]
        return bytes(self.encoder.encode(fields))

    def request(self, stream_id: int, body: bytes = b"hello", *changes: tuple[str, str]) -> bytes:
        """A whole call."""
        return self.headers(stream_id, *changes) + data(stream_id, message(body))

    def keep(self, stream_id: int) -> Call:
        """A call that stays unanswered."""
        self.send(self.request(stream_id, b"kept", (":path", "/test.Echo/Keep")))
        return self.service.kept[-1]

    def fields(self, frame: Frame) -> dict[str, str]:
        """The decoded header list of a HEADERS frame; to be called for each, in order."""
        assert frame.kind == FrameType.HEADERS
        return {str(name): str(value) for name, value in self.decoder.decode(frame.payload)}

    def answers(self, frames: list[Frame]) -> dict[int, tuple[bytes, dict[str, str]]]:
        """By stream: message bytes (with prefix), and headers and trailers together."""
        found: dict[int, tuple[bytes, dict[str, str]]] = {}
        for item in frames:
            body, pairs = found.get(item.stream_id, (b"", {}))
            if item.kind == FrameType.DATA:
                found[item.stream_id] = (body + item.payload, pairs)
            elif item.kind == FrameType.HEADERS:
                found[item.stream_id] = (body, pairs | self.fields(item))
        return found

    def works(self, stream_id: int) -> bool:
        """The connection still serves a call on this (new) stream."""
        body, pairs = self.answers(self.send(self.request(stream_id, b"still here")))[stream_id]
        return body == message(b"still here") and pairs["grpc-status"] == "0"


def only(frames: list[Frame], kind: FrameType) -> Frame:
    """The one frame of this kind."""
    (found,) = [item for item in frames if item.kind == kind]
    return found


def kinds(frames: list[Frame]) -> list[str]:
    """Names of the frames' types, in order."""
    return [FrameType(item.kind).name for item in frames]
