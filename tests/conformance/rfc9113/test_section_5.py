"""RFC 9113 section 5: streams and multiplexing."""

import pytest

from gateway.transport.call import NO_TRAILERS
from gateway.transport.h2.errors import ErrorCode
from gateway.transport.h2.frames import END_HEADERS, END_STREAM, PRIORITY, FrameType, frame
from gateway.transport.h2.limits import Limits
from tests.conformance.rfc9113.expect import (
    alive,
    anything,
    connection_error,
    continuation,
    data_sizes,
    finish,
    ping,
    plain_block,
    priority,
    priority_fields,
    served,
    stream_error,
)
from tests.unit.gateway.transport.h2.peer import Peer, data, kinds, message, reset, settings, window_update


def test_data_on_an_idle_stream_ends_the_connection() -> None:
    """Section 5.1, idle: only HEADERS and PRIORITY may arrive. h2spec: http2/5.1/1."""
    connection_error(Peer(), ErrorCode.PROTOCOL_ERROR, data(1, b"test"))


def test_rst_stream_on_an_idle_stream_ends_the_connection() -> None:
    """Section 5.1, idle. h2spec: http2/5.1/2."""
    connection_error(Peer(), ErrorCode.PROTOCOL_ERROR, reset(1))


def test_window_update_on_an_idle_stream_ends_the_connection() -> None:
    """Section 5.1, idle. h2spec: http2/5.1/3."""
    connection_error(Peer(), ErrorCode.PROTOCOL_ERROR, window_update(1, 100))


def test_continuation_on_an_idle_stream_ends_the_connection() -> None:
    """Section 5.1, idle. h2spec: http2/5.1/4."""
    connection_error(Peer(), ErrorCode.PROTOCOL_ERROR, continuation(1, plain_block()))


def test_priority_on_an_idle_stream_is_accepted() -> None:
    """Section 5.1, idle: and the stream stays idle. h2spec: generic/2/1."""
    peer = Peer()
    assert peer.send(priority(1)) == []
    alive(peer)
    served(peer, 1, peer.send(peer.request(1)))


def test_a_request_may_arrive_while_its_stream_is_open() -> None:
    """Section 5.1, open: frames of any type that belongs on a stream."""
    peer = Peer()
    sent = [peer.headers(1), window_update(1, 10), data(1, message(b"hello")[:4], end=False), priority(1)]
    served(peer, 1, peer.send(*sent, data(1, message(b"hello")[4:])))


def test_data_on_a_half_closed_stream_resets_it() -> None:
    """Section 5.1, half-closed (remote): STREAM_CLOSED. h2spec: http2/5.1/5."""
    peer = Peer()
    peer.keep(1)
    stream_error(peer, 1, ErrorCode.STREAM_CLOSED, data(1, b"test"))


def test_headers_on_a_half_closed_stream_reset_it() -> None:
    """Section 5.1, half-closed (remote): STREAM_CLOSED. h2spec: http2/5.1/6."""
    peer = Peer()
    peer.keep(1)
    stream_error(peer, 1, ErrorCode.STREAM_CLOSED, peer.trailers(1, ("x-dummy", "1")))


def test_continuation_on_a_half_closed_stream_ends_the_connection() -> None:
    """Section 5.1, half-closed (remote): it continues nothing, which section 6.10 is about. h2spec: http2/5.1/7."""
    peer = Peer()
    peer.keep(1)
    connection_error(peer, ErrorCode.PROTOCOL_ERROR, continuation(1, b""))


def test_window_update_on_a_half_closed_stream_is_accepted() -> None:
    """Section 5.1, half-closed (remote): it counts. h2spec: generic/2/2."""
    peer = Peer(first=settings(initial_window_size=0))
    call = peer.keep(1)
    call.reply(b"hello", NO_TRAILERS)
    assert data_sizes(peer.frames()) == []
    assert data_sizes(peer.send(window_update(1, 100))) == [10]


def test_priority_on_a_half_closed_stream_is_accepted() -> None:
    """Section 5.1, half-closed (remote). h2spec: generic/2/3."""
    peer = Peer()
    call = peer.keep(1)
    assert peer.send(priority(1)) == []
    call.reply(b"hello", NO_TRAILERS)
    served(peer, 1, peer.frames())


def test_rst_stream_on_a_half_closed_stream_is_accepted() -> None:
    """Section 5.1, half-closed (remote): nothing more is sent on it. h2spec: generic/2/4."""
    peer = Peer()
    call = peer.keep(1)
    assert peer.send(reset(1)) == []
    call.reply(b"too late", NO_TRAILERS)
    assert peer.frames() == []
    alive(peer)


def test_data_after_the_peers_rst_stream_is_a_stream_error() -> None:
    """Section 5.1, closed: STREAM_CLOSED. h2spec: http2/5.1/8."""
    peer = Peer()
    peer.send(peer.headers(1), reset(1))
    stream_error(peer, 1, ErrorCode.STREAM_CLOSED, data(1, b"test"))


def test_headers_after_the_peers_rst_stream_are_a_stream_error() -> None:
    """Section 5.1, closed: STREAM_CLOSED. h2spec: http2/5.1/9."""
    peer = Peer()
    peer.send(peer.headers(1), reset(1))
    stream_error(peer, 1, ErrorCode.STREAM_CLOSED, peer.headers(1))


def test_continuation_after_the_peers_rst_stream_ends_the_connection() -> None:
    """Section 5.1, closed. h2spec: http2/5.1/10."""
    peer = Peer()
    peer.send(peer.headers(1), reset(1))
    connection_error(peer, ErrorCode.PROTOCOL_ERROR, continuation(1, b""))


def test_data_after_both_sides_ended_the_stream_ends_the_connection() -> None:
    """Section 5.1, closed: STREAM_CLOSED. h2spec: http2/5.1/11."""
    peer = Peer()
    finish(peer)
    connection_error(peer, ErrorCode.STREAM_CLOSED, data(1, b"test"))


def test_headers_after_both_sides_ended_the_stream_end_the_connection() -> None:
    """Section 5.1, closed: STREAM_CLOSED. h2spec: http2/5.1/12."""
    peer = Peer()
    finish(peer)
    connection_error(peer, ErrorCode.STREAM_CLOSED, peer.headers(1))


def test_continuation_after_both_sides_ended_the_stream_ends_the_connection() -> None:
    """Section 5.1, closed. h2spec: http2/5.1/13."""
    peer = Peer()
    finish(peer)
    connection_error(peer, ErrorCode.PROTOCOL_ERROR, continuation(1, b""))


def test_priority_on_a_closed_stream_is_accepted() -> None:
    """Section 5.1, closed. h2spec: generic/2/5."""
    peer = Peer()
    finish(peer)
    assert peer.send(priority(1)) == []
    alive(peer)


def test_window_update_and_rst_stream_on_a_closed_stream_are_ignored() -> None:
    """Section 5.1, closed: they may have been sent before our END_STREAM arrived."""
    peer = Peer()
    finish(peer)
    assert peer.send(window_update(1, 100), reset(1), reset(1), window_update(1, 100)) == []
    alive(peer)


def test_frames_that_crossed_our_rst_stream_are_ignored() -> None:
    """Section 5.1, closed: of any type, and DATA still counts against the connection's window."""
    peer = Peer(Limits(connection_window_bytes=65_535))
    stream_error(peer, 1, ErrorCode.PROTOCOL_ERROR, peer.headers(1), window_update(1, 0))
    crossing = [window_update(1, 1), reset(1), priority(1), peer.trailers(1, ("x-late", "1"))]
    assert peer.send(*crossing) == []
    frames = peer.send(data(1, bytes(16_384), end=False), data(1, bytes(16_384), end=False))
    assert [(item.kind, item.stream_id) for item in frames] == [(FrameType.WINDOW_UPDATE, 0)]


def test_an_even_stream_identifier_ends_the_connection() -> None:
    """Section 5.1.1: those are the server's. h2spec: http2/5.1.1/1."""
    peer = Peer()
    connection_error(peer, ErrorCode.PROTOCOL_ERROR, peer.headers(2))


def test_a_smaller_stream_identifier_ends_the_connection() -> None:
    """Section 5.1.1: a new stream is higher than all before it. h2spec: http2/5.1.1/2."""
    peer = Peer()
    finish(peer, 5)
    connection_error(peer, ErrorCode.PROTOCOL_ERROR, peer.headers(3))


def test_stream_identifiers_may_be_skipped() -> None:
    """Section 5.1.1: up to the highest there is."""
    peer = Peer()
    for stream_id in (3, 101, 2**31 - 1):
        finish(peer, stream_id)


def test_skipped_streams_are_closed() -> None:
    """Section 5.1.1: they go from idle to closed when a higher one opens, so WINDOW_UPDATE on them is no error."""
    peer = Peer()
    finish(peer, 5)
    assert peer.send(window_update(3, 1), reset(1)) == []
    alive(peer)


@pytest.mark.parametrize("kind", [FrameType.DATA, FrameType.WINDOW_UPDATE, FrameType.RST_STREAM])
def test_streams_of_the_server_stay_idle(kind: FrameType) -> None:
    """Section 5.1.1: a server that does not push has opened none of the even streams."""
    peer = Peer()
    finish(peer, 5)
    connection_error(peer, ErrorCode.PROTOCOL_ERROR, frame(kind, 0, 2, b"\0\0\0\1"))


def test_streams_beyond_the_announced_number_are_refused() -> None:
    """Section 5.1.2: a stream error REFUSED_STREAM, so that the call may be tried again. h2spec: http2/5.1.2/1."""
    peer = Peer(Limits(max_streams=3))
    for stream_id in (1, 3, 5):
        peer.keep(stream_id)
    stream_error(peer, 7, ErrorCode.REFUSED_STREAM, peer.request(7))


def test_open_and_half_closed_streams_count_and_closed_ones_do_not() -> None:
    """Section 5.1.2: open without and with DATA, half-closed; not those that ended, or that either side reset."""
    peer = Peer(Limits(max_streams=3))
    finish(peer, 1)
    call = peer.keep(3)
    peer.send(peer.headers(5), peer.headers(7), data(7, b"\0", end=False))
    stream_error(peer, 9, ErrorCode.REFUSED_STREAM, peer.request(9))
    peer.send(reset(5))
    finish(peer, 11)
    peer.send(peer.headers(13))
    stream_error(peer, 15, ErrorCode.REFUSED_STREAM, peer.request(15))
    stream_error(peer, 7, ErrorCode.PROTOCOL_ERROR, window_update(7, 0))
    finish(peer, 17)
    call.reply(b"hello", NO_TRAILERS)
    served(peer, 3, peer.frames())


def test_only_data_is_flow_controlled() -> None:
    """Section 5.2.1: with windows of 0, headers, trailers, errors and answers to PING still go out."""
    peer = Peer(first=settings(initial_window_size=0))
    assert peer.fields(peer.send(peer.headers(1, flags=END_HEADERS | END_STREAM))[0])["grpc-status"] == "12"
    peer.keep(3).reply(b"waits", NO_TRAILERS)
    alive(peer)


def test_priority_in_headers_is_ignored_even_when_a_stream_depends_on_itself() -> None:
    """Section 5.3.2: dependencies mean nothing any more; RFC 7540 5.3.1 had an error here. h2spec: http2/5.3.1/1."""
    peer = Peer()
    headers = frame(FrameType.HEADERS, END_HEADERS | PRIORITY, 1, priority_fields(1) + plain_block())
    served(peer, 1, peer.send(headers, data(1, message(b"hello"))))


def test_priority_frames_are_ignored_even_when_a_stream_depends_on_itself() -> None:
    """Section 5.3.2: as with HEADERS. h2spec: http2/5.3.1/2."""
    peer = Peer()
    assert peer.send(priority(1, 1), peer.headers(1), priority(1, 1), priority(1, 1 << 31 | 1)) == []
    served(peer, 1, peer.send(data(1, message(b"hello"))))


def test_a_connection_error_closes_the_connection() -> None:
    """Section 5.4.1: nothing sent after it is processed. h2spec: http2/5.4.1/1."""
    peer = Peer()
    connection_error(peer, ErrorCode.FRAME_SIZE_ERROR, anything(FrameType.PING, 0, 0, bytes(6)), peer.request(1))
    assert peer.service.kept == []


def test_a_connection_error_is_told_in_goaway_with_the_last_stream() -> None:
    """Section 5.4.1: the last stream that was received. h2spec: http2/5.4.1/2."""
    peer = Peer()
    finish(peer, 1)
    peer.keep(7)
    goaway = connection_error(peer, ErrorCode.PROTOCOL_ERROR, ping(stream_id=3))
    assert int.from_bytes(goaway.payload[:4], "big") == 7


def test_a_connection_error_cancels_what_is_under_way() -> None:
    """Section 5.4.1: and no answer follows the GOAWAY."""
    peer = Peer()
    call = peer.keep(1)
    connection_error(peer, ErrorCode.PROTOCOL_ERROR, data(0, b""))
    assert call.closed
    call.reply(b"too late", NO_TRAILERS)
    assert peer.frames() == []


def test_a_stream_error_leaves_other_streams_alone() -> None:
    """Section 5.4.2: they are answered."""
    peer = Peer()
    call = peer.keep(1)
    peer.send(peer.headers(3), peer.headers(5))
    stream_error(peer, 3, ErrorCode.PROTOCOL_ERROR, window_update(3, 0))
    served(peer, 5, peer.send(data(5, message(b"hello"))))
    call.reply(b"hello", NO_TRAILERS)
    served(peer, 1, peer.frames())


def test_rst_stream_is_the_last_frame_on_its_stream() -> None:
    """Section 5.4.2: a reply that comes later, or waits for its window, is not sent."""
    peer = Peer(first=settings(initial_window_size=3))
    late, waiting = peer.keep(1), peer.keep(3)
    waiting.reply(b"hello", NO_TRAILERS)
    peer.frames()
    for stream_id in (1, 3):
        stream_error(peer, stream_id, ErrorCode.STREAM_CLOSED, data(stream_id, b""))
    late.reply(b"late", NO_TRAILERS)
    assert peer.send(window_update(0, 1000), settings(initial_window_size=1000))[1:] == []


def test_a_stream_is_reset_once() -> None:
    """Section 5.4.2: further frames on it are ignored, not answered with RST_STREAM again."""
    peer = Peer()
    peer.keep(1)
    stream_error(peer, 1, ErrorCode.STREAM_CLOSED, data(1, b"a"), data(1, b"b"), peer.trailers(1, ("x-c", "c")))


def test_rst_stream_is_not_answered_with_rst_stream() -> None:
    """Section 5.4.2: or both sides would go on for ever."""
    peer = Peer()
    finish(peer, 1)
    peer.keep(3)
    stream_error(peer, 3, ErrorCode.STREAM_CLOSED, data(3, b""))
    peer.send(peer.headers(5))
    assert kinds(peer.send(reset(1), reset(3), reset(5), reset(5))) == []


def test_unknown_extension_frames_are_ignored() -> None:
    """Section 5.5: on streams in any state. h2spec: http2/5.5/1."""
    peer = Peer()
    finish(peer, 1)
    peer.keep(3)
    peer.send(peer.headers(5))
    for stream_id in (0, 1, 3, 5, 7, 8):
        assert peer.send(anything(0x16, 0, stream_id, b"unknown")) == []
    served(peer, 5, peer.send(data(5, message(b"hello"))))


def test_an_unknown_extension_frame_inside_a_field_block_ends_the_connection() -> None:
    """Section 5.5: not permitted there. h2spec: http2/5.5/2."""
    peer = Peer()
    sent = [peer.headers(1, flags=0), anything(0x16, 0, 0, b"unknown"), continuation(1, b"")]
    connection_error(peer, ErrorCode.PROTOCOL_ERROR, *sent)
