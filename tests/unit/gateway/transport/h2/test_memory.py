"""What is held is counted, whatever becomes of it."""

import gzip

from gateway.errors import Code
from gateway.transport.call import NO_TRAILERS, Call
from gateway.transport.h2.connection import Connection
from gateway.transport.h2.errors import ErrorCode
from gateway.transport.h2.frames import END_HEADERS, PREFACE, FrameType, frame
from gateway.transport.h2.limits import Limits
from gateway.transport.h2.memory import Account, Memory, metadata_bytes
from tests.unit.gateway.transport.h2.peer import (
    Frame,
    Peer,
    data,
    kinds,
    message,
    only,
    reset,
    settings,
    window_update,
)

KEEP = (":path", "/test.Echo/Keep")
LISTEN = (":path", "/test.Echo/Listen")
MIB = 1 << 20


class Crowded(Peer):
    """A peer of a listener whose memory we see."""

    def __init__(self, max_bytes: int = 1 << 30) -> None:
        super().__init__(greet=False)
        self.pressed = 0
        self.memory = Memory(max_bytes, self._press)
        self.connection = Connection(self.service, Limits(), self._wake, memory=self.memory)
        self.send(PREFACE, settings(initial_window_size=0))

    def _press(self) -> None:
        self.pressed += 1

    def look(self) -> list[Frame]:
        """What the server says in a sweep."""
        self.connection.sweep(1.0, self.now_s, 0)
        return self.frames()

    @property
    def held(self) -> int:
        assert self.memory.held_bytes == self.connection.sender.account.held_bytes
        return self.memory.held_bytes

    @property
    def counters(self) -> dict[str, int]:
        return self.connection._counters.take()


def test_pressure_is_felt_once_until_it_is_relieved() -> None:
    felt: list[int] = []
    memory = Memory(800, lambda: felt.append(memory.held_bytes))
    one, other = Account(memory), Account(memory)
    one.change(400)
    other.change(300)
    assert felt == []
    other.change(1)
    other.change(50)
    assert felt == [701]
    assert not one.has_room(50)
    one.change(-400)
    assert one.has_room(400)
    memory.relieved()
    one.change(400)
    assert felt == [701, 751]
    assert (one.held_bytes, other.held_bytes, memory.held_bytes) == (400, 351, 751)


def test_fields_cost_more_than_their_text() -> None:
    assert metadata_bytes({}) == 0
    assert metadata_bytes({"key": "value"}) > 100


def test_a_request_on_its_way_is_held() -> None:
    peer = Crowded()
    peer.send(peer.headers(1, KEEP))
    assert peer.held == 0
    peer.look()
    assert 0 < peer.held < 3000, "metadata of a stream that a sweep found"
    peer.send(data(1, message(bytes(50_000))[:40_000], end=False))
    assert 50_000 < peer.held < 53_000, "with the room made for what is to come"
    peer.send(data(1, message(bytes(50_000))[40_000:]))
    assert peer.held == 0
    assert len(peer.service.kept[0].message) == 50_000


def large(peer: Crowded) -> Call:
    """A call larger than the stream's window, under way."""
    whole = message(bytes(200_000))
    peer.send(peer.headers(1, KEEP), data(1, whole[:60_000], end=False), data(1, whole[60_000:100_000], end=False))
    peer.send(data(1, whole[100_000:150_000], end=False), data(1, whole[150_000:]))
    return peer.service.kept[0]


def test_a_large_message_is_held_until_it_is_answered() -> None:
    peer = Crowded()
    call = large(peer)
    assert peer.held == 200_000
    call.reply(b"", NO_TRAILERS)
    assert 0 < peer.held < 1000, "the reply waits for a window"
    peer.send(settings(initial_window_size=100))
    assert peer.held == 0
    call.fail(Code.INTERNAL, "too late")
    assert peer.held == 0


def test_a_large_message_is_held_while_somebody_works_on_it() -> None:
    peer = Crowded()
    call = large(peer)
    peer.send(reset(1))
    assert peer.held == 200_000
    call.fail(Code.UNAVAILABLE, "")
    assert peer.held == 0
    listened = Crowded()
    large(listened).on_cancel = lambda: None
    listened.send(reset(1))
    assert listened.held == 0


def test_replies_that_wait_are_held() -> None:
    peer = Crowded()
    for stream_id in (1, 3):
        peer.keep(stream_id).reply(bytes(10_000), NO_TRAILERS)
    assert 20_010 < peer.held < 22_000
    peer.send(window_update(1, 5000))
    assert 20_000 < peer.held < 22_000, "a message counts whole until its last byte has left"
    peer.send(window_update(1, 6000))
    assert 10_000 < peer.held < 11_000
    peer.send(reset(3))
    assert peer.held == 0


def test_messages_that_wait_for_their_service_are_held() -> None:
    peer = Crowded()
    peer.send(peer.headers(1, LISTEN))
    metadata = peer.held
    assert metadata > 0
    stream = peer.service.streams[0]
    stream.pause()
    peer.send(data(1, message(bytes(1000)) * 3, end=False))
    assert peer.held > metadata + 3000
    stream.resume()
    peer.frames()
    assert peer.held == metadata
    stream.pause()
    peer.send(data(1, message(b"") * 1000, end=False))
    assert peer.held == metadata + 5000
    stream.finish()
    peer.frames()
    assert peer.held == 0


def test_half_a_frame_is_held_when_a_sweep_finds_it() -> None:
    peer = Crowded()
    ping = frame(FrameType.PING, 0, 0, bytes(8))
    peer.send(ping[:10])
    peer.look()
    assert peer.held == 10
    peer.send(ping[10:])
    peer.look()
    assert peer.held == 0


def test_a_connection_that_ends_holds_nothing() -> None:
    for lost in (True, False):
        peer = Crowded()
        peer.keep(1).reply(bytes(10_000), NO_TRAILERS)
        peer.send(peer.headers(3), data(3, message(bytes(50_000))[:40_000], end=False))
        peer.send(peer.headers(5, LISTEN), data(5, message(b"a")[:3], end=False), data(3, b"xy")[:10])
        peer.look()
        assert peer.held > 50_000
        if lost:
            peer.connection.lost()
        else:
            peer.connection.close(ErrorCode.NO_ERROR, "")
        assert peer.held == 0


def test_what_does_not_fit_is_refused() -> None:
    peer = Crowded(MIB)
    peer.keep(1).reply(bytes(MIB - 100_000), NO_TRAILERS)
    assert peer.pressed == 1
    frames = peer.send(peer.headers(3), data(3, message(bytes(300_000))[:60_000], end=False))
    assert kinds(frames) == ["HEADERS", "RST_STREAM"], "a large message waits for no memory"
    fields = peer.fields(frames[0])
    assert (fields["grpc-status"], fields["grpc-retry-pushback-ms"]) == ("8", "1000")
    small = [peer.headers(5), data(5, message(bytes(50_000))[:49_000], end=False)]
    assert peer.send(*small) == []
    peer.send(peer.headers(7), data(7, message(bytes(60_000))[:5_000], end=False))
    assert peer.send(data(7, bytes(25_000), end=False)) == [], "its room is counted already"
    frames = peer.send(data(7, bytes(25_000), end=False))
    assert kinds(frames) == ["HEADERS", "RST_STREAM"]
    frames = peer.send(peer.headers(9, KEEP), data(9, message(b"")))
    peer.service.kept[-1].reply(bytes(60_000), NO_TRAILERS)
    assert peer.fields(only(peer.frames(), FrameType.HEADERS))["grpc-status"] == "8"
    assert peer.counters == {"memory": 3}
    assert peer.held < MIB


def test_compressed_messages_that_do_not_fit_unpacked_are_refused() -> None:
    peer = Crowded(10 * MIB)
    packed = message(gzip.compress(bytes(4 * MIB)), 1)
    assert len(packed) < 5000
    sent = [part for at in (1, 3, 5) for part in (peer.headers(at, KEEP, ("grpc-encoding", "gzip")), data(at, packed))]
    frames = peer.send(*sent)
    assert [call.message for call in peer.service.kept] == [bytes(4 * MIB)] * 2
    assert peer.fields(only(frames, FrameType.HEADERS))["grpc-status"] == "8"
    assert (peer.held, peer.counters) == (8 * MIB, {"memory": 1})
    for call in peer.service.kept:
        call.fail(Code.ABORTED, "")
    assert peer.held == 0


def test_a_stream_that_does_not_fit_is_refused() -> None:
    peer = Crowded(MIB)
    peer.send(peer.headers(1, LISTEN))
    peer.send(data(1, message(bytes(2 * MIB))[:60_000], end=False))
    assert peer.service.heard == ["cancel"]
    assert peer.counters == {"memory": 1}
    assert peer.held == 0


def test_small_calls_are_never_asked_about() -> None:
    peer = Crowded(MIB)
    peer.send(settings(initial_window_size=65_535))
    peer.memory.held_bytes = 2 * MIB
    assert peer.works(1)
    assert peer.send(peer.headers(3, flags=END_HEADERS)) == []


def test_what_a_service_keeps_for_a_stream_is_held_until_it_lets_go() -> None:
    peer = Crowded()
    peer.send(peer.headers(1, LISTEN))
    (stream,) = peer.service.streams
    before = peer.held
    stream.hold(1000)
    stream.hold(-300)
    assert peer.held == before + 700
    peer.send(reset(1))
    assert peer.held == 700
    stream.hold(-700)
    assert peer.held == 0
