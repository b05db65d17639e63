import struct

import pytest

from gateway.transport.call import NO_TRAILERS
from gateway.transport.h2.errors import ErrorCode
from gateway.transport.h2.frames import PREFACE, FrameType, frame
from tests.unit.gateway.transport.h2.peer import Peer, data, kinds, message, only, settings, window_update


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (frame(FrameType.SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR),
        (frame(FrameType.SETTINGS, 1, 0, bytes(6)), ErrorCode.FRAME_SIZE_ERROR),
        (frame(FrameType.SETTINGS, 0, 0, bytes(5)), ErrorCode.FRAME_SIZE_ERROR),
        (settings(initial_window_size=2**31), ErrorCode.FLOW_CONTROL_ERROR),
        (settings(max_frame_size=1), ErrorCode.PROTOCOL_ERROR),
        (settings(enable_push=2), ErrorCode.PROTOCOL_ERROR),
        (frame(FrameType.PING, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
        (frame(FrameType.PING, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
        (frame(FrameType.GOAWAY, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
        (frame(FrameType.GOAWAY, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
        (window_update(0, 0), ErrorCode.PROTOCOL_ERROR),
        (window_update(1, 1), ErrorCode.PROTOCOL_ERROR),
        (window_update(2, 1), ErrorCode.PROTOCOL_ERROR),
        (frame(FrameType.WINDOW_UPDATE, 0, 0, bytes(3)), ErrorCode.FRAME_SIZE_ERROR),
        (frame(FrameType.PRIORITY, 0, 0, bytes(5)), ErrorCode.PROTOCOL_ERROR),
        (frame(FrameType.PRIORITY, 0, 1, bytes(4)), ErrorCode.FRAME_SIZE_ERROR),
        (frame(FrameType.PUSH_PROMISE, 4, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_connection_errors(bad: bytes, code: ErrorCode) -> None:
    peer = Peer()
    frames = peer.send(bad)
    assert only(frames, FrameType.GOAWAY).code == code
    assert peer.connection.finished
    assert peer.send(peer.request(1)) == []


def test_settings_are_acknowledged_in_order() -> None:
    peer = Peer()
    frames = peer.send(
        settings(), settings(enable_push=0), frame(FrameType.SETTINGS, 0, 0, struct.pack(">HL", 0x99, 1))
    )
    assert [(item.kind, item.flags, item.payload) for item in frames] == [(FrameType.SETTINGS, 1, b"")] * 3


def test_the_last_of_repeated_settings_counts() -> None:
    peer = Peer()
    twice = struct.pack(">HLHL", 4, 0, 4, 100)
    peer.send(frame(FrameType.SETTINGS, 0, 0, twice))
    assert peer.works(1)


def test_pings_are_echoed_and_their_answers_are_not() -> None:
    peer = Peer()
    (answer,) = peer.send(frame(FrameType.PING, 0, 0, b"12345678"))
    assert (answer.flags, answer.payload) == (1, b"12345678")
    assert peer.send(frame(FrameType.PING, 1, 0, b"12345678")) == []


PING = frame(FrameType.PING, 0, 0, b"12345678")


def test_too_many_pings_end_the_connection_as_grpc_clients_expect() -> None:
    peer = Peer()
    assert kinds(peer.send(PING * 3)) == ["PING"] * 3
    goaway = only(peer.send(PING), FrameType.GOAWAY)
    assert (goaway.code, goaway.payload[8:]) == (ErrorCode.ENHANCE_YOUR_CALM, b"too_many_pings")


def test_answers_void_the_strikes_of_pings() -> None:
    peer = Peer()
    for stream_id in range(1, 41, 2):
        assert kinds(peer.send(PING * 3)) == ["PING"] * 3
        assert peer.works(stream_id)
    for stream_id in range(41, 61, 2):
        assert kinds(peer.send(PING * 3)) == ["PING"] * 3
        peer.send(peer.request(stream_id, b"", (":path", "/test.Echo/Nothing")))


def test_pings_may_come_every_five_minutes_while_a_call_is_under_way() -> None:
    peer = Peer()
    peer.keep(1)
    for _ in range(10):
        peer.now_s += 300.0
        assert kinds(peer.send(PING)) == ["PING"]
    peer.service.kept[0].reply(b"", NO_TRAILERS)
    peer.frames()
    for _ in range(3):
        peer.now_s += 300.0
        assert kinds(peer.send(PING)) == ["PING"]
    peer.now_s += 300.0
    assert kinds(peer.send(PING)) == ["GOAWAY"], "without calls two hours are the rule"


def test_priority_means_nothing() -> None:
    peer = Peer()
    assert peer.send(frame(FrameType.PRIORITY, 0, 1, struct.pack(">LB", 1, 16))) == []
    peer.keep(1)
    assert peer.send(frame(FrameType.PRIORITY, 0, 1, bytes(5))) == []
    assert only(peer.send(frame(FrameType.PRIORITY, 0, 1, bytes(6))), FrameType.RST_STREAM).code == 6
    assert peer.works(3)


def test_priorities_that_keep_changing_end_the_connection() -> None:
    peer = Peer()
    priority = frame(FrameType.PRIORITY, 0, 1, bytes(5))
    assert peer.send(priority * 124) == []
    assert only(peer.send(priority), FrameType.GOAWAY).code == ErrorCode.ENHANCE_YOUR_CALM


def test_a_window_update_of_zero_ends_the_stream_only() -> None:
    peer = Peer()
    call = peer.keep(1)
    assert only(peer.send(window_update(1, 0)), FrameType.RST_STREAM).code == ErrorCode.PROTOCOL_ERROR
    assert call.closed
    assert peer.send(peer.headers(3), window_update(3, 0))[0].code == ErrorCode.PROTOCOL_ERROR
    assert peer.works(5)


def test_window_updates_on_finished_streams_are_ignored() -> None:
    peer = Peer()
    peer.send(peer.request(1))
    assert peer.send(window_update(1, 0), window_update(1, 5), window_update(1, 2**31 - 1)) == []


def test_window_updates_during_an_upload_count() -> None:
    peer = Peer(first=settings(initial_window_size=0))
    peer.send(peer.headers(1), window_update(1, 6), data(1, message(b"abcd"), end=False), window_update(1, 2))
    frames = peer.send(data(1, b""))
    assert len(only(frames, FrameType.DATA).payload) == 8
    assert (
        only(peer.send(peer.headers(3), window_update(3, 2**31 - 1), window_update(3, 1)), FrameType.RST_STREAM).code
        == 3
    )


def test_a_peer_that_leaves_gets_its_answers() -> None:
    peer = Peer()
    call = peer.keep(1)
    assert kinds(peer.send(frame(FrameType.GOAWAY, 0, 0, bytes(8)))) == ["GOAWAY"]
    assert not peer.connection.finished
    call.reply(b"", NO_TRAILERS)
    assert kinds(peer.frames()) == ["HEADERS", "DATA", "HEADERS"]
    assert peer.connection.finished


def test_unknown_frames_are_ignored() -> None:
    peer = Peer()
    unknown = struct.pack(">LBL", 3 << 8 | 0x42, 0xFF, 5) + b"???"
    assert peer.send(unknown) == []
    assert peer.works(1)


def test_settings_come_first() -> None:
    for first in (frame(FrameType.PING, 0, 0, bytes(8)), frame(FrameType.SETTINGS, 1, 0), frame(FrameType.DATA, 0, 1)):
        peer = Peer(greet=False)
        assert only(peer.send(PREFACE, first), FrameType.GOAWAY).code == ErrorCode.PROTOCOL_ERROR
