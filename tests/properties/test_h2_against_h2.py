"""Our server core against the client of the `h2` package: what it sends is served, what we send it accepts."""

from dataclasses import dataclass, field, replace

import h2.config
import h2.connection
import h2.events
import h2.settings
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import Code
from gateway.transport.call import Call, Handler, Trailers
from gateway.transport.h2.connection import Connection
from gateway.transport.h2.limits import Limits
from tests.unit.gateway.transport.h2.peer import message


@dataclass(frozen=True)
class Exchange:
    """One call: what the client does, and what the server answers."""

    size: int
    chunk_bytes: int
    padding: int | None
    end_apart: bool
    trailers: bool
    fails: bool
    metadata: tuple[tuple[str, str], ...]

    @property
    def body(self) -> bytes:
        return bytes(range(251)) * (self.size // 251) + bytes(self.size % 251)


token = st.text("abcdefghijklmnopqrstuvwxyz-0123456789", min_size=1, max_size=12)
exchanges = st.builds(
    Exchange,
    size=st.integers(0, 300) | st.integers(0, 80_000),
    chunk_bytes=st.integers(1, 200) | st.just(16_000),
    padding=st.none() | st.integers(0, 255),
    end_apart=st.booleans(),
    trailers=st.booleans(),
    fails=st.booleans(),
    metadata=st.lists(st.tuples(token.map(lambda name: "x-" + name), token), max_size=3).map(tuple),
)


@dataclass
class Answer:
    """What the client got on one stream."""

    body: bytes = b""
    pairs: dict[str, str] = field(default_factory=dict)
    ended: bool = False


class Service:
    """Answers when told to."""

    def __init__(self) -> None:
        self.calls: dict[str, Call] = {}

    def resolve(self, path: str) -> Handler | None:
        def keep(call: Call) -> None:
            self.calls[path] = call

        return keep


class Pair:
    """A client and a server, and the wire between them."""

    def __init__(self, window: int, frame_bytes: int, cut: int) -> None:
        self.woken = False
        self.server = self.serve()
        self.client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.client.local_settings = h2.settings.Settings(
            client=True,
            initial_values={
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window,
                h2.settings.SettingCodes.MAX_FRAME_SIZE: frame_bytes,
                h2.settings.SettingCodes.ENABLE_PUSH: 0,
            },
        )
        self.client.max_inbound_frame_size = frame_bytes  # h2 looks at its settings only when they are acknowledged
        self.client.initiate_connection()
        self.cut = cut
        self.answers: dict[int, Answer] = {}
        self.exchange_bytes()

    def serve(self) -> Connection:
        """The server's end."""
        self.service = Service()
        return Connection(self.service, Limits(), self.wake)

    def wake(self) -> None:
        """The server has something to say, or will have."""
        self.woken = True

    def exchange_bytes(self) -> None:
        """Lets bytes flow until neither side has more to say."""
        while True:
            sent = self.client.data_to_send()
            for start in range(0, len(sent), self.cut):
                self.server.receive(sent[start : start + self.cut], 0.0)
            self.woken = False
            received = self.server.output()
            if not sent and not received and not self.woken:
                return
            for event in self.client.receive_data(received):
                self._note(event)

    def _note(self, event: object) -> None:
        stream_id = getattr(event, "stream_id", None)
        assert not isinstance(event, h2.events.ConnectionTerminated | h2.events.StreamReset), event
        if not isinstance(stream_id, int) or not stream_id:
            return
        answer = self.answers.setdefault(stream_id, Answer())
        if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
            answer.pairs |= dict(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            answer.body += event.data
            if event.flow_controlled_length:
                self.client.acknowledge_received_data(event.flow_controlled_length, stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            answer.ended = True

    def send(self, stream_id: int, exchange: Exchange) -> None:
        """The whole request, waiting for windows where need be."""
        pairs = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", f"/{stream_id}"),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            *exchange.metadata,
        ]
        self.client.send_headers(stream_id, pairs)
        rest = message(exchange.body)
        while rest:
            padding = 0 if exchange.padding is None else exchange.padding + 1
            chunk_bytes = exchange.chunk_bytes if len(rest) < 1000 else 16_384
            room = min(self.client.local_flow_control_window(stream_id), 16_384, chunk_bytes + padding) - padding
            if room <= 0:
                self.exchange_bytes()
                continue
            piece, rest = rest[:room], rest[room:]
            last = not rest and not exchange.end_apart and not exchange.trailers
            self.client.send_data(stream_id, piece, end_stream=last, pad_length=exchange.padding)
        if exchange.trailers:
            self.client.send_headers(stream_id, [("x-trailer", "t")], end_stream=True)
        elif exchange.end_apart:
            self.client.end_stream(stream_id)


@given(
    st.lists(exchanges, min_size=1, max_size=8),
    st.integers(1, 3) | st.integers(100, 100_000),
    st.integers(16_384, 2**24 - 1),
    st.integers(1, 50) | st.just(65_536),
    st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_valid_calls_are_answered(
    todo: list[Exchange], window: int, frame_bytes: int, cut: int, together: bool
) -> None:
    if window < 100:
        todo = [replace(item, size=item.size % 300) for item in todo]
    pair = Pair(window, frame_bytes, cut)
    ids = range(1, 2 * len(todo), 2)
    for stream_id, exchange in zip(ids, todo, strict=True):
        pair.send(stream_id, exchange)
        if not together:
            pair.exchange_bytes()
    pair.exchange_bytes()
    for stream_id, exchange in zip(reversed(ids), reversed(todo), strict=True):
        call = pair.service.calls[f"/{stream_id}"]
        assert call.message == exchange.body
        for key, value in dict(exchange.metadata).items():
            assert value in call.metadata.values[key].split(",")
        if exchange.fails:
            call.fail(Code.UNAVAILABLE, "as ordered")
        else:
            call.reply(call.message, Trailers(("x-stream", str(stream_id))))
    pair.exchange_bytes()
    for stream_id, exchange in zip(ids, todo, strict=True):
        answer = pair.answers[stream_id]
        assert answer.ended
        assert answer.pairs[":status"] == "200"
        if exchange.fails:
            assert (answer.body, answer.pairs["grpc-status"]) == (b"", "14")
        else:
            assert answer.body == message(exchange.body)
            assert (answer.pairs["grpc-status"], answer.pairs["x-stream"]) == ("0", str(stream_id))
    assert pair.server.idle
