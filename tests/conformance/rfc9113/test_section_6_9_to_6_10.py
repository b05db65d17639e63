"""RFC 9113 sections 6.9 and 6.10: WINDOW_UPDATE and CONTINUATION."""

import pytest

from gateway.transport.call import NO_TRAILERS
from gateway.transport.h2.errors import ErrorCode
from gateway.transport.h2.frames import END_STREAM, FrameType, frame
from gateway.transport.h2.limits import Limits
from tests.conformance.rfc9113.expect import (
    alive,
    connection_error,
    continuation,
    data_sizes,
    finish,
    served,
    stream_error,
)
from tests.unit.gateway.transport.h2.peer import Frame, Peer, data, kinds, message, settings, window_update

MAX = 2**31 - 1


def test_window_update_of_the_connection_is_accepted() -> None:
    """Section 6.9. h2spec: generic/3.9/1."""
    peer = Peer()
    assert peer.send(window_update(0, 1)) == []
    alive(peer)


def test_window_update_of_a_stream_is_accepted() -> None:
    """Section 6.9: while the request is still arriving. h2spec: generic/3.9/2."""
    peer = Peer()
    served(peer, 1, peer.send(peer.headers(1), window_update(1, 1), data(1, message(b"hello"))))


def test_a_connection_increment_of_0_ends_the_connection() -> None:
    """Section 6.9: PROTOCOL_ERROR. h2spec: http2/6.9/1."""
    connection_error(Peer(), ErrorCode.PROTOCOL_ERROR, window_update(0, 0))


def test_a_stream_increment_of_0_resets_the_stream() -> None:
    """Section 6.9: PROTOCOL_ERROR. h2spec: http2/6.9/2."""
    peer = Peer()
    stream_error(peer, 1, ErrorCode.PROTOCOL_ERROR, peer.headers(1), window_update(1, 0))


@pytest.mark.parametrize("size", [0, 3, 5])
@pytest.mark.parametrize("stream_id", [0, 1])
def test_window_update_of_another_length_ends_the_connection(size: int, stream_id: int) -> None:
    """Section 6.9: FRAME_SIZE_ERROR, for streams too. h2spec: http2/6.9/3."""
    peer = Peer()
    bad = frame(FrameType.WINDOW_UPDATE, 0, stream_id, bytes(size))
    connection_error(peer, ErrorCode.FRAME_SIZE_ERROR, peer.headers(1), bad)


def test_the_reserved_bit_of_an_increment_is_ignored() -> None:
    """Section 6.9: so an increment with nothing but it is 0."""
    peer = Peer(first=settings(initial_window_size=0))
    peer.keep(1).reply(b"hello", NO_TRAILERS)
    assert data_sizes(peer.send(window_update(1, 1 << 31 | 3))) == [3]
    stream_error(peer, 1, ErrorCode.PROTOCOL_ERROR, window_update(1, 1 << 31))


def test_data_counts_against_the_connection_even_when_it_is_in_error() -> None:
    """Section 6.9: on a stream that is reset for it."""
    peer = Peer(Limits(connection_window_bytes=65_535))
    peer.keep(1)
    frames = peer.send(*[data(1, bytes(16_384), end=False)] * 2)
    assert kinds(frames) == ["RST_STREAM", "WINDOW_UPDATE"]


def test_no_more_is_sent_than_a_streams_window() -> None:
    """Section 6.9.1: with an initial window of 1, one octet. h2spec: http2/6.9.1/1."""
    peer = Peer()
    peer.send(settings(initial_window_size=1))
    assert data_sizes(peer.send(peer.request(1))) == [1]
    assert data_sizes(peer.send(window_update(1, 8))) == [8]
    assert data_sizes(peer.send(window_update(1, 100))) == [1]


def test_no_more_is_sent_than_the_connections_window() -> None:
    """Section 6.9.1: shared by all streams."""
    peer = Peer(first=settings(initial_window_size=MAX))
    for call in [peer.keep(1), peer.keep(3)]:
        call.reply(bytes(50_000), NO_TRAILERS)
    assert sum(data_sizes(peer.frames())) == 65_535
    assert sum(data_sizes(peer.send(window_update(0, 1)))) == 1
    assert sum(data_sizes(peer.send(window_update(0, MAX)))) == 2 * 50_005 - 65_536


def test_a_connection_window_above_the_largest_ends_the_connection() -> None:
    """Section 6.9.1: GOAWAY with FLOW_CONTROL_ERROR. h2spec: http2/6.9.1/2."""
    connection_error(Peer(), ErrorCode.FLOW_CONTROL_ERROR, window_update(0, MAX), window_update(0, MAX))


@pytest.mark.parametrize("kept", [True, False])
def test_a_stream_window_above_the_largest_resets_the_stream(kept: bool) -> None:
    """Section 6.9.1: RST_STREAM with FLOW_CONTROL_ERROR, half-closed or open. h2spec: http2/6.9.1/3."""
    peer = Peer()
    if kept:
        peer.keep(1)
    else:
        peer.send(peer.headers(1))
    stream_error(peer, 1, ErrorCode.FLOW_CONTROL_ERROR, window_update(1, MAX), window_update(1, MAX))


def test_windows_may_be_as_large_as_the_largest() -> None:
    """Section 6.9.1: 2^31-1 exactly, of stream and connection."""
    peer = Peer()
    peer.keep(1)
    assert peer.send(window_update(0, MAX - 65_535), window_update(1, MAX - 65_535)) == []
    alive(peer)


def test_a_window_of_0_stops_data_but_not_an_empty_frame() -> None:
    """Section 6.9.1: frames of length 0 with END_STREAM need no window; so trailers end the stream as ever."""
    peer = Peer()
    peer.keep(1).reply(bytes(65_535 - 5), NO_TRAILERS)
    answer = peer.frames()
    assert sum(data_sizes(answer)) == 65_535
    assert (answer[-1].kind, answer[-1].flags & END_STREAM) == (FrameType.HEADERS, END_STREAM)


def test_data_beyond_the_streams_window_resets_the_stream() -> None:
    """Section 6.9.1: a receiver may answer with FLOW_CONTROL_ERROR."""
    peer = Peer(Limits(stream_window_bytes=65_535, max_upload_bytes=1))
    one, other = (peer.headers(1), data(1, message(bytes(100_000))[:5], end=False)), (peer.headers(3),)
    peer.send(*one, *other)
    waiting = [data(3, message(bytes(100_000))[:16_384], end=False), *[data(3, bytes(16_384), end=False)] * 3]
    stream_error(peer, 3, ErrorCode.FLOW_CONTROL_ERROR, *waiting)


def test_data_beyond_the_connections_window_ends_the_connection() -> None:
    """Section 6.9.1: FLOW_CONTROL_ERROR."""
    peer = Peer(Limits(connection_window_bytes=65_535))
    connection_error(peer, ErrorCode.FLOW_CONTROL_ERROR, peer.headers(1), data(1, bytes(65_536), end=False))


def test_the_server_opens_its_windows_again() -> None:
    """Section 6.9.1: a message larger than all windows arrives by and by."""
    peer = Peer(Limits(stream_window_bytes=65_535, connection_window_bytes=65_535))
    body = bytes(300_000)
    rest, stream, connection = message(body), 65_535, 65_535
    frames = peer.send(peer.headers(1))
    while rest:
        size = min(len(rest), stream, connection, 16_384)
        assert size > 0, "the windows stay closed"
        frames = peer.send(data(1, rest[:size], end=size == len(rest)))
        rest = rest[size:]
        stream += _credit(frames, 1) - size
        connection += _credit(frames, 0) - size
    assert peer.service.kept[0].message == body


def _credit(frames: list[Frame], stream_id: int) -> int:
    updates = [item for item in frames if item.kind == FrameType.WINDOW_UPDATE and item.stream_id == stream_id]
    return sum(int.from_bytes(item.payload, "big") for item in updates)


def test_a_new_initial_window_moves_the_windows_of_all_streams() -> None:
    """Section 6.9.2: what a stream has sent stays subtracted. h2spec: http2/6.9.2/1."""
    peer = Peer(first=settings(initial_window_size=0))
    frames = peer.send(peer.request(1), peer.request(3))
    assert data_sizes(frames) == []
    frames = peer.send(settings(initial_window_size=1))
    assert [(item.stream_id, len(item.payload)) for item in frames if item.kind == 0] == [(1, 1), (3, 1)]


def test_a_window_may_become_negative() -> None:
    """Section 6.9.2: and has to become positive before more is sent. h2spec: http2/6.9.2/2."""
    peer = Peer(first=settings(initial_window_size=3))
    assert data_sizes(peer.send(peer.request(1))) == [3]
    assert data_sizes(peer.send(settings(initial_window_size=2))) == []  # -1
    assert data_sizes(peer.send(window_update(1, 1))) == []  # 0
    assert data_sizes(peer.send(window_update(1, 1))) == [1]


def test_an_initial_window_above_the_largest_ends_the_connection() -> None:
    """Section 6.9.2: FLOW_CONTROL_ERROR. h2spec: http2/6.9.2/3."""
    connection_error(Peer(), ErrorCode.FLOW_CONTROL_ERROR, settings(initial_window_size=MAX + 1))


def test_an_initial_window_that_pushes_a_stream_above_the_largest_ends_the_connection() -> None:
    """Section 6.9.2: FLOW_CONTROL_ERROR."""
    peer = Peer()
    peer.keep(1)
    peer.send(window_update(1, 1))
    connection_error(peer, ErrorCode.FLOW_CONTROL_ERROR, settings(initial_window_size=MAX))


def test_settings_do_not_change_the_connections_window() -> None:
    """Section 6.9.2: only WINDOW_UPDATE does."""
    peer = Peer()
    peer.keep(1).reply(bytes(70_000), NO_TRAILERS)
    assert sum(data_sizes(peer.frames())) == 65_535
    assert data_sizes(peer.send(settings(initial_window_size=MAX))) == []
    assert sum(data_sizes(peer.send(window_update(0, 5000)))) == 70_005 - 65_535


def test_continuation_is_accepted() -> None:
    """Section 6.10. h2spec: generic/3.10/1."""
    _continued(1)


def test_several_continuations_are_accepted() -> None:
    """Section 6.10. h2spec: generic/3.10/2, http2/6.10/1."""
    _continued(5)


def _continued(pieces: int) -> None:
    """A request whose block comes in so many CONTINUATION frames."""
    peer = Peer()
    block = peer.block(("x-dummy", "x" * 50))
    size = len(block) // (pieces + 1)
    sent = [frame(FrameType.HEADERS, 0, 1, block[:size])]
    for number in range(1, pieces + 1):
        last = number == pieces
        sent.append(continuation(1, block[size * number : None if last else size * (number + 1)], last=last))
    served(peer, 1, peer.send(*sent, data(1, message(b"hello"))))


@pytest.mark.parametrize("other", [data(1, b""), settings(), window_update(0, 1), window_update(1, 1)])
def test_a_continuation_without_end_headers_must_be_followed_by_another(other: bytes) -> None:
    """Section 6.10: any other frame is a connection error. h2spec: http2/6.10/2."""
    peer = Peer()
    connection_error(peer, ErrorCode.PROTOCOL_ERROR, peer.headers(1, flags=0), continuation(1, b"", last=False), other)


def test_a_continuation_without_a_stream_ends_the_connection() -> None:
    """Section 6.10: CONTINUATION must be associated with a stream. h2spec: http2/6.10/3."""
    peer = Peer()
    connection_error(peer, ErrorCode.PROTOCOL_ERROR, peer.headers(1, flags=0), continuation(0, b""))


def test_a_continuation_after_end_headers_ends_the_connection() -> None:
    """Section 6.10: of HEADERS. h2spec: http2/6.10/4."""
    peer = Peer()
    connection_error(peer, ErrorCode.PROTOCOL_ERROR, peer.headers(1), continuation(1, b""))


def test_a_continuation_after_the_last_one_ends_the_connection() -> None:
    """Section 6.10: after END_HEADERS of a CONTINUATION. h2spec: http2/6.10/5."""
    peer = Peer()
    sent = [peer.headers(1, flags=0), continuation(1, b""), continuation(1, b"")]
    connection_error(peer, ErrorCode.PROTOCOL_ERROR, *sent)


def test_a_continuation_after_data_ends_the_connection() -> None:
    """Section 6.10: it must follow HEADERS or CONTINUATION. h2spec: http2/6.10/6."""
    peer = Peer()
    sent = [peer.headers(1), data(1, b"\0", end=False), continuation(1, b"")]
    connection_error(peer, ErrorCode.PROTOCOL_ERROR, *sent)


def test_a_continuation_of_another_stream_ends_the_connection() -> None:
    """Section 6.10: the same stream is required."""
    peer = Peer()
    finish(peer, 1)
    connection_error(peer, ErrorCode.PROTOCOL_ERROR, peer.headers(3, flags=0), continuation(5, b""))


def test_continuations_without_end_are_cut_off() -> None:
    """Section 6.10, 10.5: a peer that never sends END_HEADERS must not fill the memory: ENHANCE_YOUR_CALM."""
    peer = Peer()
    endless = [continuation(1, b"", last=False)] * 1000
    connection_error(peer, ErrorCode.ENHANCE_YOUR_CALM, peer.headers(1, flags=0), *endless)
