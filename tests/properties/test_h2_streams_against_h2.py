"""Streaming calls between our server core and the client of `h2`, whatever the windows, whoever waits for whom."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import h2.events
from h2.errors import ErrorCodes
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.transport.call import Handler, Stream, Streaming, Trailers
from gateway.transport.compression import compress, decompress
from gateway.transport.h2.connection import Connection
from gateway.transport.h2.limits import Limits
from tests.properties.test_h2_against_h2 import Pair
from tests.unit.gateway.transport.h2.peer import message

PATIENT = Limits(chatter_burst=1_000_000)
"""Messages of an octet a frame are no abuse here."""


class Chat:
    """Echoes every message of every stream, every other one compressed, and waits when the peer does not read."""

    def __init__(self) -> None:
        self.streams: dict[str, Stream] = {}
        self.heard: dict[str, list[bytes]] = {}
        self.cancelled: set[str] = set()

    def resolve(self, path: str) -> Handler | Streaming | None:
        return Streaming(self._start)

    def _start(self, stream: Stream) -> None:
        path = stream.metadata.path
        self.streams[path] = stream
        heard = self.heard[path] = []

        def echo(body: bytes) -> None:
            heard.append(body)
            if not stream.send(body, compress=len(heard) % 2 == 0):
                stream.pause()

        stream.on_message = echo
        stream.on_writable = stream.resume
        stream.on_end = lambda: stream.finish(Trailers(("x-heard", str(len(heard)))))
        stream.on_cancel = lambda: self.cancelled.add(path)


@dataclass
class Side:
    """The client's end of one stream."""

    sent: list[bytes] = field(default_factory=list)
    waiting: bytearray = field(default_factory=bytearray)
    """DATA that is still to be sent."""
    received: bytes = b""
    unread_bytes: int = 0
    """What the client has got and not acknowledged: its window is smaller by that."""
    pairs: dict[str, str] = field(default_factory=dict)
    closing: bool = False
    closed: bool = False
    ended: bool = False
    cancelled: bool = False

    def messages(self) -> list[bytes]:
        """What has come whole."""
        found, position = [], 0
        while position + 5 <= len(self.received):
            end = position + 5 + int.from_bytes(self.received[position + 1 : position + 5], "big")
            if end > len(self.received):
                break
            body = self.received[position + 5 : end]
            packed = self.received[position]
            found.append(decompress(self.pairs["grpc-encoding"], body, 1 << 20) if packed else body)
            position = end
        return found


class Talk(Pair):
    """A client that streams, and may be slow."""

    def __init__(self, window: int, cut: int, piece: int) -> None:
        self.sides: dict[int, Side] = {}
        self.piece = piece
        super().__init__(window, 16_384, cut)

    def serve(self) -> Connection:
        self.chat = Chat()
        return Connection(self.chat, PATIENT, self.wake)

    def open(self, stream_id: int, encoding: str) -> None:
        pairs = [(":method", "POST"), (":scheme", "http"), (":path", f"/{stream_id}"), (":authority", "localhost")]
        pairs += [("content-type", "application/grpc"), ("te", "trailers")]
        if encoding:
            pairs += [("grpc-encoding", encoding), ("grpc-accept-encoding", encoding)]
        self.client.send_headers(stream_id, pairs)
        self.sides[stream_id] = Side()

    def say(self, stream_id: int, size: int, encoding: str) -> None:
        side = self.sides[stream_id]
        if not side.closing and not side.cancelled:
            body = bytes([len(side.sent) % 251]) * size
            side.sent.append(body)
            side.waiting += message(compress(encoding, body), 1) if encoding else message(body)

    def flush(self) -> None:
        """Sends what the windows allow, and END_STREAM behind the last of it."""
        for stream_id, side in self.sides.items():
            if side.cancelled or side.closed:
                continue
            while side.waiting:
                room = min(self.client.local_flow_control_window(stream_id), 16_384, self.piece)
                if room <= 0:
                    break
                self.client.send_data(stream_id, bytes(side.waiting[:room]))
                del side.waiting[:room]
            if side.closing and not side.waiting:
                side.closed = True
                self.client.end_stream(stream_id)

    def read(self, stream_id: int) -> None:
        """The client takes what has come: its windows open again."""
        side = self.sides[stream_id]
        if side.unread_bytes and not (side.ended or side.cancelled):
            self.client.acknowledge_received_data(side.unread_bytes, stream_id)
        elif side.unread_bytes:
            self.client.increment_flow_control_window(side.unread_bytes)
        side.unread_bytes = 0

    def cancel(self, stream_id: int) -> None:
        side = self.sides[stream_id]
        if not side.ended and not side.cancelled:
            side.cancelled = True
            self.client.reset_stream(stream_id, ErrorCodes.CANCEL)

    def pause(self, stream_id: int, *, resume: bool) -> None:
        """The service wants no messages for a while."""
        stream = self.chat.streams.get(f"/{stream_id}")
        if stream is not None:
            (stream.resume if resume else stream.pause)()

    def finish(self) -> None:
        """Everybody does what is left to do."""
        for side in self.sides.values():
            side.closing = True
        for _ in range(100_000):
            before = [(len(side.waiting), len(side.received), side.ended) for side in self.sides.values()]
            for stream_id, side in self.sides.items():
                self.read(stream_id)
                if not side.cancelled:
                    self.pause(stream_id, resume=True)
            self.flush()
            self.exchange_bytes()
            unread = any(side.unread_bytes for side in self.sides.values())
            if not unread and before == [(len(s.waiting), len(s.received), s.ended) for s in self.sides.values()]:
                return
        raise AssertionError("they talk for ever")

    def _note(self, event: object) -> None:
        assert not isinstance(event, h2.events.ConnectionTerminated | h2.events.StreamReset), event
        stream_id = getattr(event, "stream_id", None)
        side = self.sides.get(stream_id) if isinstance(stream_id, int) else None
        if side is None:
            return
        if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
            side.pairs |= dict(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            side.received += event.data
            side.unread_bytes += event.flow_controlled_length
        elif isinstance(event, h2.events.StreamEnded):
            side.ended = True


streams = st.integers(0, 2)
sizes = st.sampled_from([st.integers(0, 60)] * 4 + [st.integers(0, 3000), st.integers(20_000, 150_000)]).flatmap(
    lambda chosen: chosen
)
steps = st.one_of(
    st.tuples(st.just("say"), streams, sizes),
    st.tuples(st.just("say"), streams, sizes),
    st.tuples(st.sampled_from(["flow", "read", "pause", "resume", "close"]), streams, st.just(0)),
    st.tuples(st.sampled_from(["flow", "read", "cancel"]), streams, st.just(0)),
)
encodings = st.sampled_from(["", "gzip", "deflate"])


def act(talk: Talk, encoding: dict[int, str], todo: Iterable[tuple[str, int, int]]) -> None:
    for what, index, size in todo:
        stream_id = 2 * index + 1
        match what:
            case "say":
                talk.say(stream_id, size, encoding[stream_id] if size % 3 else "")
            case "flow":
                talk.flush()
                talk.exchange_bytes()
            case "read":
                talk.read(stream_id)
            case "pause" | "resume":
                talk.pause(stream_id, resume=what == "resume")
            case "close":
                talk.sides[stream_id].closing = True
            case _:
                talk.cancel(stream_id)


def nothing_is_left(server: Connection) -> None:
    sender, intake = server.sender, server._requests.intake
    assert server.idle
    assert (sender.backlog_bytes, sender.account.held_bytes, intake._granted_bytes) == (0, 0, 0)
    left = sender.credits, sender.flows, sender.blocked, sender._ready, sender.abandoned, sender.relieved
    assert not any(left), left
    assert not any((intake._waiting, server._flows.stirred))


@given(
    st.lists(encodings, min_size=3, max_size=3),
    st.lists(steps, min_size=8, max_size=40),
    st.integers(1, 5) | st.integers(6, 200) | st.integers(1000, 100_000),
    st.integers(1, 50) | st.just(65_536),
    st.integers(1, 9) | st.sampled_from([100, 16_384]),
)
@settings(deadline=None, max_examples=60)
def test_everything_arrives_in_order_and_nothing_leaks(
    names: list[str], todo: list[tuple[str, int, int]], window: int, cut: int, piece: int
) -> None:
    talk = Talk(window, cut, piece)
    encoding = {2 * index + 1: name for index, name in enumerate(names)}
    for stream_id, name in encoding.items():
        talk.open(stream_id, name)
    if window < 6 or piece < 10 or cut < 10:
        todo = [(what, index, size % 100) for what, index, size in todo]
    act(talk, encoding, todo)
    talk.finish()
    for stream_id, side in talk.sides.items():
        heard = talk.chat.heard.get(f"/{stream_id}", [])
        if side.cancelled:
            assert heard == side.sent[: len(heard)]
            assert side.messages() == side.sent[: len(side.messages())]
        else:
            assert heard == side.messages() == side.sent
            assert side.ended
            assert (side.pairs["grpc-status"], side.pairs["x-heard"]) == ("0", str(len(heard)))
    nothing_is_left(talk.server)
