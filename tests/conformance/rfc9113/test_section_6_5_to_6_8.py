"""RFC 9113 sections 6.5 to 6.8: SETTINGS, PUSH_PROMISE, PING, GOAWAY."""

import struct

import pytest

from gateway.transport.call import NO_TRAILERS
from gateway.transport.h2.errors import ErrorCode
from gateway.transport.h2.frames import ACK, PREFACE, FrameType, frame
from gateway.transport.h2.limits import Limits
from gateway.transport.h2.settings import Setting
from tests.conformance.rfc9113.expect import (
    KEEP,
    alive,
    connection_error,
    data_sizes,
    finish,
    ping,
    served,
    stream_error,
)
from tests.unit.gateway.transport.h2.peer import Frame, Peer, data, kinds, message, only, settings

ACKNOWLEDGED = Frame(FrameType.SETTINGS, ACK, 0, b"")


def entries(*pairs: tuple[int, int]) -> bytes:
    """A SETTINGS frame with any identifiers and values."""
    return frame(FrameType.SETTINGS, 0, 0, b"".join(struct.pack(">HL", *pair) for pair in pairs))


def goaway(last: int = 0, code: int = 0, debug: bytes = b"", *, stream_id: int = 0) -> bytes:
    return frame(FrameType.GOAWAY, 0, stream_id, struct.pack(">LL", last, code) + debug)


def test_settings_are_accepted() -> None:
    """Section 6.5: at any time, empty or not. h2spec: generic/3.5/1."""
    peer = Peer()
    assert peer.send(settings()) == [ACKNOWLEDGED]
    finish(peer, 1)
    assert peer.send(settings(max_concurrent_streams=10, initial_window_size=1 << 16)) == [ACKNOWLEDGED]


def test_an_acknowledgement_with_content_ends_the_connection() -> None:
    """Section 6.5: FRAME_SIZE_ERROR. h2spec: http2/6.5/1."""
    connection_error(Peer(), ErrorCode.FRAME_SIZE_ERROR, frame(FrameType.SETTINGS, ACK, 0, bytes(6)))


def test_settings_on_a_stream_end_the_connection() -> None:
    """Section 6.5: they apply to the connection. h2spec: http2/6.5/2."""
    peer = Peer()
    peer.send(peer.headers(1))
    connection_error(peer, ErrorCode.PROTOCOL_ERROR, frame(FrameType.SETTINGS, 0, 1, bytes(6)))


@pytest.mark.parametrize("size", [1, 3, 5, 7, 13])
def test_settings_of_a_broken_length_end_the_connection(size: int) -> None:
    """Section 6.5: FRAME_SIZE_ERROR unless it is a multiple of 6. h2spec: http2/6.5/3."""
    connection_error(Peer(), ErrorCode.FRAME_SIZE_ERROR, frame(FrameType.SETTINGS, 0, 0, bytes(size)))


@pytest.mark.parametrize("value", [2, 2**32 - 1])
def test_enable_push_must_be_0_or_1(value: int) -> None:
    """Section 6.5.2. h2spec: http2/6.5.2/1."""
    connection_error(Peer(), ErrorCode.PROTOCOL_ERROR, settings(enable_push=value))


@pytest.mark.parametrize("value", [2**31, 2**32 - 1])
def test_the_initial_window_must_not_exceed_the_largest_window(value: int) -> None:
    """Section 6.5.2: FLOW_CONTROL_ERROR. h2spec: http2/6.5.2/2."""
    connection_error(Peer(), ErrorCode.FLOW_CONTROL_ERROR, settings(initial_window_size=value))


@pytest.mark.parametrize("value", [0, 16_383])
def test_the_frame_size_must_not_be_below_its_initial_value(value: int) -> None:
    """Section 6.5.2. h2spec: http2/6.5.2/3."""
    connection_error(Peer(), ErrorCode.PROTOCOL_ERROR, settings(max_frame_size=value))


@pytest.mark.parametrize("value", [2**24, 2**32 - 1])
def test_the_frame_size_must_not_exceed_24_bits(value: int) -> None:
    """Section 6.5.2. h2spec: http2/6.5.2/4."""
    connection_error(Peer(), ErrorCode.PROTOCOL_ERROR, settings(max_frame_size=value))


@pytest.mark.parametrize("identifier", [0, 7, 8, 9, 0xFF, 0xFFFF])
def test_unknown_settings_are_ignored(identifier: int) -> None:
    """Section 6.5.2: whatever their value. h2spec: http2/6.5.2/5."""
    peer = Peer()
    assert peer.send(entries((identifier, 2**32 - 1))) == [ACKNOWLEDGED]
    alive(peer)


def test_values_at_the_edge_are_accepted() -> None:
    """Section 6.5.2: the least and the most of every setting."""
    peer = Peer()
    for initial_window, frame_size, push, other in ((0, 16_384, 0, 0), (2**31 - 1, 2**24 - 1, 1, 2**32 - 1)):
        values = {"initial_window_size": initial_window, "max_frame_size": frame_size, "enable_push": push}
        others = {"header_table_size": other, "max_concurrent_streams": other, "max_header_list_size": other}
        assert peer.send(settings(**values, **others)) == [ACKNOWLEDGED]
    served(peer, 1, peer.send(peer.request(1)))


def test_the_server_announces_only_what_it_may() -> None:
    """Section 6.5.2: no ENABLE_PUSH but 0; sizes within their bounds; 100 streams or more, as recommended."""
    payload = only(Peer(greet=False).send(PREFACE), FrameType.SETTINGS).payload
    announced = dict(struct.iter_unpack(">HL", payload))
    assert announced.get(Setting.ENABLE_PUSH, 0) == 0
    assert announced[Setting.MAX_CONCURRENT_STREAMS] >= 100
    assert announced[Setting.INITIAL_WINDOW_SIZE] <= 2**31 - 1
    assert 2**14 <= announced[Setting.MAX_FRAME_SIZE] <= 2**24 - 1


def test_values_are_processed_in_their_order() -> None:
    """Section 6.5.3: of repeated settings, the last counts. h2spec: http2/6.5.3/1."""
    peer = Peer()
    twice = entries((Setting.INITIAL_WINDOW_SIZE, 100), (Setting.INITIAL_WINDOW_SIZE, 1))
    assert peer.send(twice) == [ACKNOWLEDGED]
    assert data_sizes(peer.send(peer.request(1))) == [1]


def test_settings_are_acknowledged_at_once() -> None:
    """Section 6.5.3: each frame, even when replies wait. h2spec: http2/6.5.3/2."""
    peer = Peer()
    peer.keep(1).reply(bytes(100_000), NO_TRAILERS)
    peer.frames()
    assert peer.send(settings(), settings(), settings()) == [ACKNOWLEDGED] * 3


def test_settings_are_applied_before_they_are_acknowledged() -> None:
    """Section 6.5.3: what follows the acknowledgement obeys them."""
    peer = Peer()
    peer.keep(1).reply(bytes(20_000), NO_TRAILERS)
    frames = peer.send(settings(initial_window_size=10), ping())
    assert data_sizes(frames) == [10]
    assert kinds(frames)[:2] == ["SETTINGS", "PING"]


def test_an_acknowledgement_is_not_acknowledged() -> None:
    """Section 6.5.3: nor is one too many an error."""
    peer = Peer()
    assert peer.send(frame(FrameType.SETTINGS, ACK, 0) * 3) == []
    alive(peer)


@pytest.mark.parametrize("stream_id", [0, 1, 3])
def test_push_promise_ends_the_connection(stream_id: int) -> None:
    """Section 6.6: a client cannot push, on whatever stream."""
    peer = Peer()
    peer.send(peer.headers(1))
    promise = frame(FrameType.PUSH_PROMISE, 4, stream_id, b"\0\0\0\2" + peer.block())
    connection_error(peer, ErrorCode.PROTOCOL_ERROR, promise)


def test_ping_is_accepted() -> None:
    """Section 6.7. h2spec: generic/3.7/1."""
    assert Peer().send(ping()) == [Frame(FrameType.PING, ACK, 0, b"\0\1\2\3\4\5\6\7")]


def test_ping_is_answered_with_the_same_payload() -> None:
    """Section 6.7: each of them, in order. h2spec: http2/6.7/1."""
    peer = Peer(Limits(min_idle_ping_interval_s=0.0))
    payloads = [bytes([octet]) * 8 for octet in range(5)]
    assert [item.payload for item in peer.send(*map(ping, payloads))] == payloads


def test_the_answer_to_a_ping_is_not_answered() -> None:
    """Section 6.7: also when nobody asked. h2spec: http2/6.7/2."""
    peer = Peer()
    assert peer.send(ping(b"answered", flags=ACK)) == []
    alive(peer)


def test_ping_on_a_stream_ends_the_connection() -> None:
    """Section 6.7. h2spec: http2/6.7/3."""
    peer = Peer()
    peer.send(peer.headers(1))
    connection_error(peer, ErrorCode.PROTOCOL_ERROR, ping(stream_id=1))


@pytest.mark.parametrize("size", [0, 6, 7, 9])
@pytest.mark.parametrize("flags", [0, ACK])
def test_ping_of_another_length_ends_the_connection(size: int, flags: int) -> None:
    """Section 6.7: FRAME_SIZE_ERROR. h2spec: http2/6.7/4."""
    connection_error(Peer(), ErrorCode.FRAME_SIZE_ERROR, frame(FrameType.PING, flags, 0, bytes(size)))


def test_ping_is_answered_before_replies_that_wait() -> None:
    """Section 6.7: answers should have higher priority than any other frame."""
    peer = Peer()
    peer.keep(1).reply(bytes(20_000), NO_TRAILERS)
    assert kinds(peer.send(ping()))[0] == "PING"


def test_goaway_is_accepted() -> None:
    """Section 6.8: the connection says goodbye itself, because nothing is under way. h2spec: generic/3.8/1."""
    peer = Peer()
    (answer,) = peer.send(goaway(0, 0, b"debug"))
    assert (answer.kind, answer.code) == (FrameType.GOAWAY, ErrorCode.NO_ERROR)
    assert peer.connection.finished


def test_goaway_on_a_stream_ends_the_connection() -> None:
    """Section 6.8: it applies to the connection. h2spec: http2/6.8/1."""
    peer = Peer()
    peer.send(peer.headers(1))
    connection_error(peer, ErrorCode.PROTOCOL_ERROR, goaway(stream_id=1))


def test_after_the_peers_goaway_its_calls_are_finished() -> None:
    """Section 6.8: those that wait for an answer, and those that are still arriving."""
    peer = Peer()
    call = peer.keep(1)
    peer.send(peer.headers(3), goaway())
    alive(peer)
    served(peer, 3, peer.send(data(3, message(b"hello"))))
    assert not peer.connection.finished
    call.reply(b"hello", NO_TRAILERS)
    served(peer, 1, peer.frames())
    assert peer.connection.finished


def test_a_shutdown_begins_with_a_goaway_that_forbids_nothing() -> None:
    """Section 6.8: the last stream is 2^31-1 first; streams opened meanwhile are served; the real one follows."""
    peer = Peer()
    call = peer.keep(1)
    peer.connection.drain()
    first, probe = peer.frames()
    assert (first.payload[:8], first.code) == (b"\x7f\xff\xff\xff" + bytes(4), ErrorCode.NO_ERROR)
    served(peer, 3, peer.send(peer.request(3)))
    (final,) = peer.send(frame(FrameType.PING, ACK, 0, probe.payload))
    assert (final.payload[:4], final.code) == (b"\0\0\0\3", ErrorCode.NO_ERROR)
    call.reply(b"hello", NO_TRAILERS)
    served(peer, 1, peer.frames())


def test_streams_after_the_final_goaway_are_processed_minimally() -> None:
    """Section 6.8: their field blocks are decoded, their DATA counts against the connection's window."""
    peer = Peer(Limits(connection_window_bytes=65_535))
    peer.keep(1)
    peer.send(peer.headers(3, ("x-before", "3")))
    peer.connection.leave()
    peer.frames()
    stream_error(peer, 5, ErrorCode.REFUSED_STREAM, peer.headers(5, KEEP, ("x-refused", "5")))
    frames = peer.send(data(5, bytes(16_384), end=False), data(5, bytes(16_384), end=False))
    assert [(item.kind, item.stream_id) for item in frames] == [(FrameType.WINDOW_UPDATE, 0)]
    frames = peer.send(data(3, message(b"hello")[:1], end=False), peer.trailers(3, ("x-refused", "5")))
    assert peer.answers(frames)[3][1]["grpc-status"] == "13", "cut off, but understood"


def test_the_last_stream_of_a_goaway_is_never_raised() -> None:
    """Section 6.8: an error after a shutdown began names no more streams than the final GOAWAY did."""
    peer = Peer()
    peer.keep(1)
    peer.connection.leave()
    (final,) = peer.frames()
    peer.send(peer.request(3))
    fault = connection_error(peer, ErrorCode.PROTOCOL_ERROR, data(0, b""))
    assert int.from_bytes(fault.payload[:4], "big") <= int.from_bytes(final.payload[:4], "big")
