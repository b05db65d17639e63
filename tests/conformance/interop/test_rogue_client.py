"""The negative HTTP/2 cases of gRPC the other way round: there a server misbehaves, here it is the client.

See grpc/grpc doc/http2-interop-test-descriptions.md. Each time an honest client has a stream open before, and it must
go on after: nobody pays for a rogue. What the rogue itself gets is what the case says.
"""

import queue
import time
from collections.abc import Iterator

import grpc
import pytest

from gateway.transport.h2.errors import ErrorCode
from gateway.transport.h2.settings import Setting
from tests.conformance.interop.client import LARGE, PATIENCE_S, RESPONSE_BYTES, asking
from tests.conformance.interop.conftest import Interop
from tests.conformance.interop.interop_pb2 import (
    SimpleRequest,
    SimpleResponse,
    StreamingOutputCallRequest,
    StreamingOutputCallResponse,
)
from tests.conformance.interop.methods import COUNTS, SERVICE
from tests.conformance.interop.wire import Reply, Wire, message

BODY = message(LARGE.SerializeToString())
"""What large_unary sends."""


HALF = len(BODY) // 2
FEW = 2000
"""Frames, of those that would be needed."""
SMALL = message(asking(1).SerializeToString())
"""A request of FullDuplexCall that is answered at once."""
LATER = message(asking(1, interval_us=PATIENCE_S * 1_000_000).SerializeToString())
"""One whose answer nobody waits for."""


class Honest:
    """grpcio's client with a stream on which both sides speak."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._requests: queue.SimpleQueue[StreamingOutputCallRequest | None] = queue.SimpleQueue()
        duplex: grpc.StreamStreamMultiCallable[StreamingOutputCallRequest, StreamingOutputCallResponse]
        duplex = channel.stream_stream(
            SERVICE + "FullDuplexCall",
            StreamingOutputCallRequest.SerializeToString,
            StreamingOutputCallResponse.FromString,
        )
        self._replies = duplex(iter(self._requests.get, None), timeout=PATIENCE_S)
        self.speaks()
        self.open_before = self.count("Open")

    def speaks(self) -> None:
        """Says something on its stream, and hears the answer."""
        self._requests.put(asking(31_415))
        assert len(next(self._replies).payload.body) == 31_415

    def finds_all_well(self) -> None:
        """Its stream goes on and ends, and a new call is answered."""
        self.speaks()
        self._requests.put(None)
        assert list(self._replies) == []
        unary: grpc.UnaryUnaryMultiCallable[SimpleRequest, SimpleResponse] = self._channel.unary_unary(
            SERVICE + "UnaryCall", SimpleRequest.SerializeToString, SimpleResponse.FromString
        )
        assert len(unary(LARGE, timeout=PATIENCE_S).payload.body) == RESPONSE_BYTES

    def count(self, name: str) -> int:
        """How many streams the server counts as Open or Cancelled."""
        asked: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(COUNTS + name)
        return int(asked(b"", timeout=PATIENCE_S))

    def sees_no_stream_left(self) -> bool:
        """Waits until the server has given up the streams of others."""
        until_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < until_s:
            if self.count("Open") == self.open_before:
                return True
        return False


@pytest.fixture
def honest(server: Interop) -> Iterator[Honest]:
    with server.channel() as channel:
        client = Honest(channel)
        yield client
        client.finds_all_well()


@pytest.fixture
def rogue(server: Interop, honest: Honest) -> Iterator[Wire]:
    """A client by hand, with an honest one next to it."""
    with Wire(server.connect()) as made:
        yield made


def is_large(reply: Reply) -> bool:
    """A whole answer to large_unary."""
    ((flag, body),) = reply.messages
    return (reply.status, flag, len(SimpleResponse.FromString(body).payload.body)) == (0, 0, RESPONSE_BYTES)


def works(rogue: Wire) -> bool:
    """The connection still serves large_unary."""
    return is_large(rogue.call("UnaryCall", LARGE.SerializeToString()))


def test_goaway(rogue: Wire, server: Interop) -> None:
    """What was begun before the GOAWAY is answered; the next call takes a new connection."""
    stream_id = rogue.start("UnaryCall")
    rogue.send(stream_id, BODY[:HALF], end=False)
    rogue.say_goodbye()
    rogue.send(stream_id, BODY[HALF:])
    assert is_large(rogue.reply(stream_id))
    with Wire(server.connect()) as second:
        assert works(second)


def test_goaway_during_a_stream(rogue: Wire) -> None:
    """A stream goes on after it, both ways."""
    stream_id = rogue.start("FullDuplexCall")
    rogue.send(stream_id, SMALL, end=False)
    rogue.reply(stream_id, messages=1)
    rogue.say_goodbye()
    rogue.send(stream_id, SMALL)
    reply = rogue.reply(stream_id)
    assert (len(reply.messages), reply.status) == (2, 0)


@pytest.mark.parametrize("method", ["UnaryCall", "StreamingInputCall", "FullDuplexCall"])
def test_rst_after_header(rogue: Wire, honest: Honest, method: str) -> None:
    """Nothing is answered, nothing is left, and the connection goes on."""
    stream_id = rogue.start(method)
    rogue.reset(stream_id, ErrorCode.NO_ERROR)
    assert works(rogue)
    assert rogue.replies[stream_id] == Reply()
    assert honest.sees_no_stream_left()


def test_rst_during_data(rogue: Wire, honest: Honest) -> None:
    for method in ("UnaryCall", "StreamingInputCall"):
        stream_id = rogue.start(method)
        rogue.send(stream_id, BODY[:HALF], end=False)
        rogue.reset(stream_id, ErrorCode.NO_ERROR)
        assert works(rogue)
        assert rogue.replies[stream_id] == Reply()
    assert honest.sees_no_stream_left()


def test_rst_after_data(rogue: Wire, honest: Honest, server: Interop) -> None:
    """The work on a call ends that nobody waits for any more."""
    before = honest.count("Cancelled")
    stream_id = rogue.start("FullDuplexCall")
    rogue.send(stream_id, SMALL + LATER)
    rogue.reply(stream_id, messages=1)
    rogue.reset(stream_id, ErrorCode.NO_ERROR)
    assert works(rogue)
    assert not rogue.replies[stream_id].ended
    assert honest.sees_no_stream_left()
    if server.is_ours:  # grpcio at times says that the caller sends no more, not that it has left
        assert honest.count("Cancelled") > before


def test_rst_after_data_of_a_unary_call(rogue: Wire) -> None:
    """Whether it was answered before the RST_STREAM came is anybody's guess."""
    for _ in range(20):
        stream_id = rogue.start("UnaryCall")
        rogue.send(stream_id, BODY)
        rogue.reset(stream_id, ErrorCode.NO_ERROR)
    assert works(rogue)


def test_ping(rogue: Wire) -> None:
    """Every PING comes back, in order, whatever else is under way."""
    rogue.ping(b"--before")
    stream_id = rogue.start("FullDuplexCall")
    rogue.ping(b" headers")
    rogue.send(stream_id, SMALL[:3], end=False)
    rogue.send(stream_id, SMALL[3:], end=False)
    rogue.reply(stream_id, messages=1)
    rogue.ping(b"betweens")
    rogue.send(stream_id, SMALL)
    assert rogue.reply(stream_id).status == 0
    rogue.ping(b"---after")
    assert works(rogue)
    assert rogue.pongs == [b"--before", b" headers", b"betweens", b"---after"]


def test_max_streams(rogue: Wire) -> None:
    """Who opens more streams than it may gets these refused, and the others served."""
    limit = rogue.settings[Setting.MAX_CONCURRENT_STREAMS]
    streams = [rogue.start("FullDuplexCall") for _ in range(limit + 10)]
    refused = [rogue.reply(stream_id).reset for stream_id in streams[limit:]]
    assert refused == [ErrorCode.REFUSED_STREAM] * 10
    for stream_id in streams[:limit]:
        rogue.send(stream_id, SMALL)
    assert {rogue.reply(stream_id).status for stream_id in streams[:limit]} == {0}
    assert works(rogue)


def test_data_frame_padding(rogue: Wire, server: Interop) -> None:
    """Padding counts for flow control: twice as much as the message itself here, many times the first window.

    grpcio takes no padded DATA.
    """
    stream_id = rogue.start("UnaryCall")
    rogue.send(stream_id, BODY, step=255, padding=255)
    reply = rogue.reply(stream_id)
    assert is_large(reply) if server.is_ours else reply.reset == ErrorCode.PROTOCOL_ERROR


def test_data_frame_padding_of_five_bytes(rogue: Wire, server: Interop) -> None:
    """The frames of the case itself, 5 bytes of content each, would be 54,367: our transport takes that for a flood."""
    stream_id = rogue.start("UnaryCall")
    rogue.send(stream_id, BODY[: 5 * FEW], step=5, padding=255, end=False)
    if server.is_ours:
        assert rogue.last_words() == ErrorCode.ENHANCE_YOUR_CALM
    else:
        assert rogue.reply(stream_id).reset == ErrorCode.PROTOCOL_ERROR


@pytest.mark.parametrize(("step", "padding"), [(16_000, 0), (16_000, 255), (1_000, 1)])
def test_data_frame_padding_of_any_size(rogue: Wire, server: Interop, step: int, padding: int) -> None:
    """With a frame that is all padding at the end."""
    for method in ("UnaryCall", "FullDuplexCall"):
        stream_id = rogue.start(method)
        rogue.send(stream_id, BODY if method == "UnaryCall" else SMALL, step=step, padding=padding, end=False)
        rogue.send(stream_id, b"", padding=padding)
        reply = rogue.reply(stream_id)
        assert reply.status == 0 if server.is_ours else reply.reset == ErrorCode.PROTOCOL_ERROR


def test_no_df_padding_sanity_test(rogue: Wire, server: Interop) -> None:
    """The same small frames without padding: the same flood. A call of as many as are allowed is served."""
    stream_id = rogue.start("UnaryCall")
    if server.is_ours:
        small = rogue.start("FullDuplexCall")
        rogue.send(small, message(asking(1, body_bytes=400 * 5).SerializeToString()), step=5)
        assert rogue.reply(small).status == 0
        rogue.send(stream_id, BODY[: 5 * FEW], step=5, end=False)
        assert rogue.last_words() == ErrorCode.ENHANCE_YOUR_CALM
    else:
        rogue.send(stream_id, BODY, step=5)
        assert is_large(rogue.reply(stream_id))
