from gateway.transport.call import NO_TRAILERS
from gateway.transport.h2.errors import ErrorCode
from gateway.transport.h2.frames import END_HEADERS, END_STREAM, FrameType, frame
from gateway.transport.h2.limits import MAX_WINDOW_BYTES, Limits
from gateway.transport.h2.sending import BURST_BYTES
from tests.unit.gateway.transport.h2.peer import Peer, data, kinds, message, only, reset, settings, window_update


def test_a_small_reply_is_three_frames_in_one_go() -> None:
    peer = Peer()
    call = peer.keep(1)
    call.reply(b"pong", NO_TRAILERS)
    frames = peer.frames()
    assert kinds(frames) == ["HEADERS", "DATA", "HEADERS"]
    assert [item.flags for item in frames] == [4, 0, 5]
    assert peer.answers(frames)[1] == (
        message(b"pong"),
        {":status": "200", "content-type": "application/grpc", "grpc-status": "0"},
    )
    assert peer.connection.idle


def test_the_driver_is_woken_once_per_turn() -> None:
    peer = Peer()
    calls = [peer.keep(stream_id) for stream_id in (1, 3, 5)]
    for call in calls:
        call.reply(b"", NO_TRAILERS)
    assert peer.woken == 1
    assert len(peer.frames()) == 9
    peer.keep(7).reply(b"", NO_TRAILERS)
    assert peer.woken == 2


def test_a_reply_larger_than_a_frame_is_cut() -> None:
    peer = Peer()
    peer.keep(1).reply(b"z" * 40_000, NO_TRAILERS)
    frames = peer.frames()
    assert [len(item.payload) for item in frames if item.kind == FrameType.DATA] == [16_384, 16_384, 7_237]
    assert peer.answers(frames)[1][0] == message(b"z" * 40_000)


def test_a_small_reply_does_not_overtake_those_that_wait() -> None:
    peer = Peer(first=settings(initial_window_size=10**6))
    peer.keep(1).reply(b"a" * 70_000, NO_TRAILERS)
    peer.frames()
    peer.keep(3).reply(b"b", NO_TRAILERS)
    assert peer.frames() == []
    assert set(peer.answers(peer.send(window_update(0, 10_000)))) == {1, 3}


def test_large_replies_come_in_bursts() -> None:
    peer = Peer(first=settings(initial_window_size=MAX_WINDOW_BYTES))
    peer.send(window_update(0, 2**30))
    peer.keep(1).reply(b"x" * (4 * BURST_BYTES), NO_TRAILERS)
    assert len(peer.connection.output()) < BURST_BYTES * 1.2
    assert peer.connection.sender.can_pump


def test_a_reset_drops_what_waits() -> None:
    for first in (settings(initial_window_size=0), settings(initial_window_size=10**6)):
        peer = Peer(first=first)
        peer.keep(1).reply(b"x" * 100_000, NO_TRAILERS)
        peer.frames()
        assert peer.send(reset(1)) == []
        assert peer.connection.idle
        peer.send(window_update(0, 10**6), settings(initial_window_size=1000))
        assert peer.works(3)


def test_while_the_socket_is_full_replies_wait() -> None:
    peer = Peer()
    sender = peer.connection.sender
    sender.paused = True
    peer.keep(1).reply(b"one", NO_TRAILERS)
    assert peer.frames() == []
    sender.paused = False
    assert peer.answers(peer.frames())[1][0] == message(b"one")


def test_a_peer_that_asks_but_does_not_read_is_sent_away() -> None:
    peer = Peer(Limits(max_control_replies=10, max_streams=5, min_idle_ping_interval_s=0.0))
    peer.connection.sender.paused = True
    ping = frame(FrameType.PING, 0, 0, bytes(8))
    peer.connection.receive(ping * 15, 0.0)
    assert not peer.connection.finished
    peer.connection.receive(ping, 0.0)
    assert peer.frames()[-1].code == ErrorCode.ENHANCE_YOUR_CALM


def test_who_opens_streams_that_end_at_once_but_does_not_read_is_sent_away() -> None:
    peer = Peer(Limits(max_control_replies=10, max_streams=5))
    peer.connection.sender.paused = True
    for stream_id in range(1, 33, 2):
        assert not peer.connection.finished
        chat = peer.headers(stream_id, (":path", "/test.Echo/Chat"), flags=END_HEADERS | END_STREAM)
        peer.connection.receive(chat, 0.0)
    assert peer.frames()[-1].code == ErrorCode.ENHANCE_YOUR_CALM
    assert peer.connection._counters.take() == {"unread": 1}


def test_replies_that_wait_are_bounded_and_the_last_straw_fails() -> None:
    peer = Peer(Limits(max_backlog_bytes=100_000), first=settings(initial_window_size=0))
    calls = [peer.keep(stream_id) for stream_id in (1, 3, 5)]
    calls[0].reply(bytes(200_000), NO_TRAILERS)
    assert peer.frames() == [], "one may be larger than the bound"
    calls[1].reply(b"x", NO_TRAILERS)
    assert peer.fields(only(peer.frames(), FrameType.HEADERS))["grpc-status"] == "8"
    assert kinds(peer.send(reset(1))) == []
    calls[2].reply(bytes(100_000), NO_TRAILERS)
    sender = peer.connection.sender
    assert (sender.backlog_bytes // 1000, peer.connection._counters.take()) == (100, {"backlog": 1})
    answered = peer.send(settings(initial_window_size=10**6), window_update(0, 10**6))
    assert answered[-1].stream_id == 5
    assert sender.backlog_bytes == 0


def test_large_replies_are_compressed_for_who_accepts_it() -> None:
    accepts = (":path", "/test.Echo/Echo"), ("grpc-accept-encoding", "deflate")
    for size, packed in ((999, False), (1000, True)):
        peer = Peer(Limits(compress_above_bytes=1000))
        answer, pairs = peer.answers(peer.send(peer.request(1, bytes(size), *accepts)))[1]
        assert (answer[0], pairs.get("grpc-encoding")) == ((1, "deflate") if packed else (0, None))
    answer, _ = peer.answers(peer.send(peer.request(3, bytes(5000))))[3]
    assert answer == message(bytes(5000))


def test_large_messages_of_a_stream_are_compressed() -> None:
    peer = Peer(Limits(compress_above_bytes=1000))
    peer.send(peer.headers(1, (":path", "/test.Echo/Chat"), ("grpc-accept-encoding", "gzip")))
    frames = peer.send(data(1, message(bytes(10)), end=False), data(1, message(bytes(1000)), end=False))
    assert [frame.payload[0] for frame in frames if frame.kind == FrameType.DATA] == [0, 1]
