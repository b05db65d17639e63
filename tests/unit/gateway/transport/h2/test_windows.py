import pytest

from gateway.transport.call import NO_TRAILERS
from gateway.transport.h2.errors import ErrorCode
from gateway.transport.h2.frames import FrameType
from gateway.transport.h2.limits import MAX_WINDOW_BYTES
from tests.unit.gateway.transport.h2.peer import Peer, kinds, message, only, settings, window_update


def test_a_peer_may_allow_larger_frames() -> None:
    peer = Peer(first=settings(max_frame_size=2**24 - 1, initial_window_size=MAX_WINDOW_BYTES))
    peer.send(window_update(0, 10**9))
    peer.keep(1).reply(b"z" * 100_000, NO_TRAILERS)
    assert max(len(item.payload) for item in peer.frames()) == 65_536


def test_a_window_of_one_byte() -> None:
    peer = Peer(first=settings(initial_window_size=1))
    peer.keep(1).reply(b"abc", NO_TRAILERS)
    frames = peer.frames()
    assert kinds(frames) == ["HEADERS", "DATA"]
    for _ in range(7):
        step = peer.send(window_update(1, 1))
        frames += step
        assert kinds(step)[0] == "DATA"
    assert len(frames[-1].payload) < 40
    assert kinds(frames[-2:]) == ["DATA", "HEADERS"]
    assert peer.answers(frames)[1][0] == message(b"abc")
    assert peer.connection.idle


def test_a_window_of_zero_holds_one_stream_and_not_another() -> None:
    peer = Peer(first=settings(initial_window_size=0))
    peer.keep(1).reply(b"one", NO_TRAILERS)
    peer.keep(3).reply(b"three", NO_TRAILERS)
    assert peer.frames() == []
    assert peer.answers(peer.send(window_update(3, 100)))[3][0] == message(b"three")
    assert peer.answers(peer.send(settings(initial_window_size=8)))[1][0] == message(b"one")


def test_windows_go_below_zero() -> None:
    peer = Peer(first=settings(initial_window_size=1000))
    peer.keep(1).reply(b"x" * 2000, NO_TRAILERS)
    assert len(only(peer.frames(), FrameType.DATA).payload) == 1000
    assert kinds(peer.send(settings(initial_window_size=100))) == ["SETTINGS"]  # now -900
    assert peer.send(window_update(1, 900)) == []
    assert len(only(peer.send(window_update(1, 7)), FrameType.DATA).payload) == 7
    frames = peer.send(settings(initial_window_size=2000))
    assert [len(item.payload) for item in frames if item.kind == FrameType.DATA] == [998]
    assert peer.connection.idle


def test_the_connection_window_is_shared_in_turns() -> None:
    peer = Peer(first=settings(initial_window_size=10**6))
    first, second = peer.keep(1), peer.keep(3)
    first.reply(b"a" * 300_000, NO_TRAILERS)
    second.reply(b"b" * 300_000, NO_TRAILERS)
    sent = {1: 0, 3: 0}
    for item in peer.frames():
        if item.kind == FrameType.DATA:
            sent[item.stream_id] += len(item.payload)
    assert sent[1] + sent[3] == 65_535
    assert min(sent.values()) > 30_000
    rest = peer.answers(peer.send(window_update(0, 10**6)))
    assert sent[1] + len(rest[1][0]) == sent[3] + len(rest[3][0]) == 300_005


def test_a_smaller_header_table_is_acknowledged_once() -> None:
    peer = Peer(first=settings(header_table_size=0))
    peer.decoder.header_table_size = 0
    peer.decoder.max_allowed_table_size = 0
    first, second = (peer.send(peer.request(stream_id)) for stream_id in (1, 3))
    assert only(first[:1], FrameType.HEADERS).payload[:1] == b"\x20"
    assert peer.answers(first)[1][1]["grpc-status"] == "0"
    assert only(second[:1], FrameType.HEADERS).payload[:1] != b"\x20"


@pytest.mark.parametrize("increments", [(MAX_WINDOW_BYTES,), (2**30, 2**30)])
def test_a_stream_window_above_the_maximum_is_a_stream_error(increments: tuple[int, ...]) -> None:
    peer = Peer()
    call = peer.keep(1)
    frames = peer.send(*[window_update(1, increment) for increment in increments])
    assert only(frames, FrameType.RST_STREAM).code == ErrorCode.FLOW_CONTROL_ERROR
    assert call.closed
    assert peer.works(3)


def test_a_connection_window_above_the_maximum_is_a_connection_error() -> None:
    peer = Peer()
    assert only(peer.send(window_update(0, MAX_WINDOW_BYTES)), FrameType.GOAWAY).code == ErrorCode.FLOW_CONTROL_ERROR


def test_settings_that_push_a_window_above_the_maximum_are_a_connection_error() -> None:
    peer = Peer()
    peer.keep(1)
    peer.send(window_update(1, 2**31 - 1 - 65_535))
    frames = peer.send(settings(initial_window_size=65_536))
    assert only(frames, FrameType.GOAWAY).code == ErrorCode.FLOW_CONTROL_ERROR


def test_settings_that_dribble_cost_more_than_settings_that_open() -> None:
    peer = Peer(first=settings(initial_window_size=0))
    for stream_id in range(1, 81, 2):
        peer.keep(stream_id).reply(b"waits", NO_TRAILERS)
    peer.frames()
    sender = peer.connection.sender
    assert sender.set_initial_window(1) == 160
    peer.frames()
    assert sender.set_initial_window(0) == 5
    assert sender.set_initial_window(1000) == 5
