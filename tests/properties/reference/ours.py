"""Our server core as one of two that get the same frames: what it makes of them, in words both share."""

from dataclasses import dataclass
from typing import Final

from gateway.transport.call import Call, Handler, Metadata, Stream, Streaming, Trailers
from gateway.transport.h2.calls import H2Call
from gateway.transport.h2.connection import Connection
from gateway.transport.h2.flow import H2Stream
from gateway.transport.h2.frames import PREFACE, FrameType
from gateway.transport.h2.limits import Limits
from tests.unit.gateway.transport.h2.peer import Frame, message, split

WINDOW_BYTES: Final = 65_535
LIMITS: Final = Limits(
    max_streams=4,
    max_frame_bytes=16_384,
    stream_window_bytes=WINDOW_BYTES,
    connection_window_bytes=WINDOW_BYTES,
    max_header_list_bytes=4000,
    reset_burst=10_000,
    chatter_burst=10_000,
    min_ping_interval_s=0.0,
    min_idle_ping_interval_s=0.0,
)
"""Few streams and small windows, so that they are used up; no limit on how often, which is not HTTP's."""
PAUSE: Final = -1
RESUME: Final = -2
"""In place of the size of an answer: the service wants no messages of the stream for a while."""
UNARY: Final = "/unary"
"""Paths that begin so are unary, all others are streams."""


@dataclass(frozen=True)
class Verdict:
    """What a frame was to a server: fine, an error of its stream, or of the connection."""

    reach: str
    code: int = 0
    error: str = ""
    """What the reference raised."""

    def agrees(self, other: "Verdict") -> bool:
        return (self.reach, self.code) == (other.reach, other.code)


FINE: Final = Verdict("fine")


@dataclass(frozen=True)
class Live:
    """One stream that is neither idle nor closed."""

    path: str
    values: tuple[tuple[str, str], ...]
    body: bytes
    ended: bool
    send_window_bytes: int
    receive_window_bytes: int | None
    """None when nothing more may come."""


@dataclass(frozen=True)
class State:
    """What a server believes of a connection."""

    live: dict[int, Live]
    send_window_bytes: int
    receive_window_bytes: int


class Ours:
    """A connection whose service takes every path, and answers when told to."""

    def __init__(self) -> None:
        self.connection = Connection(self, LIMITS, lambda: None)
        self.heard: dict[int, list[bytes]] = {}
        self.connection.receive(PREFACE, 0.0)
        self.frames()

    def resolve(self, path: str) -> Handler | Streaming | None:
        return self._keep if path.startswith(UNARY) else Streaming(self._listen)

    def _keep(self, call: Call) -> None:
        """Unary calls wait in the connection."""
        call.on_cancel = _nothing

    def _listen(self, stream: Stream) -> None:
        assert isinstance(stream, H2Stream)
        stream.on_cancel = _nothing
        stream.on_message = self.heard.setdefault(stream.stream_id, []).append

    def feed(self, data: bytes) -> list[Frame]:
        self.connection.receive(data, 0.0)
        return self.frames()

    def frames(self) -> list[Frame]:
        output = b""
        while (piece := self.connection.output()) or self.connection._flows.stirred:
            output += piece
        return split(output)

    def answer(self, stream_id: int, size: int | None) -> list[Frame]:
        """Sends a message of so many bytes, PAUSE, RESUME, or None: the end. Nothing that would wait for windows."""
        requests = self.connection._requests
        work = requests.flows.live.get(stream_id) or requests.calls.get(stream_id)
        if work is None:
            return []
        room_bytes = min(self.state().send_window_bytes, self.state().live[stream_id].send_window_bytes) - 5
        match work, size:
            case H2Stream(), None:
                work.finish(Trailers(("x-end", "1")))
            case H2Stream(), _ if size == PAUSE:
                work.pause()
            case H2Stream(), _ if size == RESUME:
                work.resume()
            case H2Stream(), _ if size is not None and size <= room_bytes:
                work.send(bytes(size))
            case H2Call(), _ if size is not None and 0 <= size <= room_bytes:
                work.reply(bytes(size), Trailers(("x-end", "1")))
            case _:
                pass
        return self.frames()

    def state(self) -> State:
        requests, sender = self.connection._requests, self.connection.sender
        live = {
            stream_id: self._live(stream_id, metadata, b"", WINDOW_BYTES)
            for stream_id, (metadata, *_) in requests.opened.items()
        }
        for stream_id, upload in requests.intake.uploads.items():
            live[stream_id] = self._live(stream_id, upload.metadata, upload.received, upload.window_bytes)
        for stream_id, call in requests.calls.items():
            live[stream_id] = self._live(stream_id, call.metadata, message(call.message), None)
        for stream_id, flow in requests.flows.live.items():
            inbox = flow.inbox
            waiting = b"" if inbox._whole is None else message(inbox._whole, int(inbox._compressed))
            body = (
                b"".join(map(message, self.heard.get(stream_id, ()))) + waiting + bytes(inbox._buffer[inbox._start :])
            )
            window_bytes = None if inbox.ended else inbox.window_bytes
            live[stream_id] = self._live(stream_id, flow.metadata, body, window_bytes)
        intake = requests.intake
        return State(live, sender.window_bytes, intake._connection_bytes - intake._taken_bytes)

    def _live(self, stream_id: int, metadata: Metadata, body: bytes, window_bytes: int | None) -> Live:
        sender = self.connection.sender
        send_bytes = sender.initial_window_bytes + sender.credits.get(stream_id, 0) - sender._sent_bytes(stream_id)
        values = tuple(sorted(metadata.values.items()))
        return Live(metadata.path, values, body, window_bytes is None, send_bytes, window_bytes)


def _nothing() -> None:
    """Callers may leave."""


def judge(output: list[Frame]) -> Verdict:
    """What a server's answer to a frame says about it. A reset with NO_ERROR is no complaint: all was answered."""
    for item in output:
        if item.kind == FrameType.GOAWAY and item.code:
            return Verdict("connection", item.code)
    for item in output:
        if item.kind == FrameType.RST_STREAM and item.code:
            return Verdict("stream", item.code)
    return FINE
