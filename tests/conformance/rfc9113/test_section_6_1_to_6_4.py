"""RFC 9113 sections 6.1 to 6.4: DATA, HEADERS, PRIORITY, RST_STREAM."""

import pytest

from gateway.transport.call import NO_TRAILERS
from gateway.transport.h2.errors import ErrorCode
from gateway.transport.h2.frames import END_HEADERS, END_STREAM, PADDED, PRIORITY, FrameType, frame
from gateway.transport.h2.limits import Limits
from tests.conformance.rfc9113.expect import (
    alive,
    connection_error,
    continuation,
    finish,
    ping,
    plain_block,
    priority,
    priority_fields,
    served,
    stream_error,
)
from tests.unit.gateway.transport.h2.peer import Peer, data, message, reset


def padded(content: bytes, padding: int) -> bytes:
    return bytes([padding]) + content + bytes(padding)


def test_data_is_accepted() -> None:
    """Section 6.1. h2spec: generic/3.1/1."""
    peer = Peer()
    served(peer, 1, peer.send(peer.headers(1), data(1, message(b"hello"))))


def test_several_data_frames_are_accepted() -> None:
    """Section 6.1: the message may be cut anywhere, END_STREAM may come in an empty frame. h2spec: generic/3.1/2."""
    peer = Peer()
    pieces = [data(1, bytes([octet]), end=False) for octet in message(b"hello")]
    served(peer, 1, peer.send(peer.headers(1), *pieces, data(1, b"")))


@pytest.mark.parametrize("padding", [0, 1, 255])
def test_padded_data_is_accepted(padding: int) -> None:
    """Section 6.1: padding is no content. h2spec: generic/3.1/3."""
    peer = Peer()
    body = frame(FrameType.DATA, END_STREAM | PADDED, 1, padded(message(b"hello"), padding))
    served(peer, 1, peer.send(peer.headers(1), body))


def test_data_without_a_stream_ends_the_connection() -> None:
    """Section 6.1: DATA must be associated with a stream. h2spec: http2/6.1/1."""
    connection_error(Peer(), ErrorCode.PROTOCOL_ERROR, data(0, b"test"))


def test_data_on_a_stream_that_is_not_open_is_an_error() -> None:
    """Section 6.1: STREAM_CLOSED; of the stream while it lives, of the connection after. h2spec: http2/6.1/2."""
    peer = Peer()
    peer.keep(1)
    stream_error(peer, 1, ErrorCode.STREAM_CLOSED, data(1, b"test"))
    finish(peer, 3)
    connection_error(peer, ErrorCode.STREAM_CLOSED, data(3, b"test"))


@pytest.mark.parametrize("payload", [b"\x06hello", b"\xff", b"\x01"])
def test_padding_as_long_as_the_data_frame_ends_the_connection(payload: bytes) -> None:
    """Section 6.1: or longer. h2spec: http2/6.1/3."""
    peer = Peer()
    bad = frame(FrameType.DATA, PADDED | END_STREAM, 1, payload)
    connection_error(peer, ErrorCode.PROTOCOL_ERROR, peer.headers(1), bad)


def test_padding_is_flow_controlled() -> None:
    """Section 6.1: the whole payload counts, pad length and padding included."""
    peer = Peer(Limits(stream_window_bytes=65_535, connection_window_bytes=65_535))
    padding = frame(FrameType.DATA, PADDED, 1, padded(b"", 255))
    assert peer.send(peer.headers(1), *[padding] * 127) == []
    assert {item.stream_id for item in peer.send(*[padding] * 128)} == {0, 1}, "both windows are opened again"


def test_headers_are_accepted() -> None:
    """Section 6.2. h2spec: generic/3.2/1."""
    peer = Peer()
    served(peer, 1, peer.send(peer.request(1)))


@pytest.mark.parametrize("padding", [0, 1, 255])
def test_padded_headers_are_accepted(padding: int) -> None:
    """Section 6.2. h2spec: generic/3.2/2."""
    peer = Peer()
    headers = frame(FrameType.HEADERS, END_HEADERS | PADDED, 1, padded(peer.block(), padding))
    served(peer, 1, peer.send(headers, data(1, message(b"hello"))))


@pytest.mark.parametrize("flags", [PRIORITY, PRIORITY | PADDED])
def test_headers_with_priority_are_accepted(flags: int) -> None:
    """Section 6.2: with padding as well, whose length comes first. h2spec: generic/3.2/3."""
    peer = Peer()
    content = priority_fields(0x8000_0003, 255) + peer.block()
    headers = frame(FrameType.HEADERS, END_HEADERS | flags, 1, padded(content, 7) if flags & PADDED else content)
    served(peer, 1, peer.send(headers, data(1, message(b"hello"))))


def test_headers_without_end_headers_must_not_be_followed_by_priority() -> None:
    """Section 6.2: by CONTINUATION only. h2spec: http2/6.2/1."""
    peer = Peer()
    connection_error(peer, ErrorCode.PROTOCOL_ERROR, peer.headers(1, flags=0), priority(1), continuation(1, b""))


def test_headers_without_end_headers_must_not_be_followed_by_another_stream() -> None:
    """Section 6.2: of the same stream. h2spec: http2/6.2/2."""
    peer = Peer()
    connection_error(peer, ErrorCode.PROTOCOL_ERROR, peer.headers(1, flags=0), peer.headers(3))


def test_headers_without_a_stream_end_the_connection() -> None:
    """Section 6.2: HEADERS must be associated with a stream. h2spec: http2/6.2/3."""
    peer = Peer()
    connection_error(peer, ErrorCode.PROTOCOL_ERROR, peer.headers(0))


@pytest.mark.parametrize("payload", [b"\x02a", b"\x01", b"\xff" + plain_block()])
def test_padding_as_long_as_the_headers_frame_ends_the_connection(payload: bytes) -> None:
    """Section 6.2: or longer. h2spec: http2/6.2/4."""
    bad = frame(FrameType.HEADERS, END_HEADERS | END_STREAM | PADDED, 1, payload)
    connection_error(Peer(), ErrorCode.PROTOCOL_ERROR, bad)


@pytest.mark.parametrize("padding", [6, 7])
def test_padding_that_leaves_no_room_for_priority_ends_the_connection(padding: int) -> None:
    """Section 6.2: pad length, priority fields and padding together must fit the frame."""
    payload = bytes([padding]) + priority_fields() + bytes(padding - 3)
    peer = Peer()
    peer.connection.receive(frame(FrameType.HEADERS, END_HEADERS | PADDED | PRIORITY, 1, payload), 0.0)
    assert peer.frames()[-1].code in (ErrorCode.PROTOCOL_ERROR, ErrorCode.FRAME_SIZE_ERROR)
    assert peer.connection.finished


def test_end_stream_holds_for_the_continuations_too() -> None:
    """Section 6.2: the stream is half-closed once the last CONTINUATION has arrived."""
    peer = Peer()
    block = peer.block()
    sent = [frame(FrameType.HEADERS, END_STREAM, 1, block[:5]), continuation(1, block[5:])]
    (answer,) = peer.send(*sent)
    assert (answer.flags, peer.fields(answer)["grpc-status"]) == (END_HEADERS | END_STREAM, "12")


def test_priority_1_is_accepted() -> None:
    """Section 6.3. h2spec: generic/3.3/1."""
    _prioritised(priority(1, 0, 0))


def test_priority_256_is_accepted() -> None:
    """Section 6.3. h2spec: generic/3.3/2."""
    _prioritised(priority(1, 0, 255))


def test_priority_with_a_dependency_is_accepted() -> None:
    """Section 6.3. h2spec: generic/3.3/3."""
    _prioritised(priority(3, 0, 255), priority(1, 3, 255))


def test_exclusive_priority_is_accepted() -> None:
    """Section 6.3. h2spec: generic/3.3/4."""
    _prioritised(priority(3, 0, 255), priority(1, 1 << 31 | 3, 255))


def test_priority_does_not_open_a_stream() -> None:
    """Section 6.3: so lower streams can still be opened. h2spec: generic/3.3/5."""
    _prioritised(priority(2**31 - 1), priority(4), priority(3))


def _prioritised(*sent: bytes) -> None:
    peer = Peer()
    assert peer.send(*sent) == []
    served(peer, 1, peer.send(peer.request(1)))


def test_priority_without_a_stream_ends_the_connection() -> None:
    """Section 6.3: PRIORITY always identifies a stream. h2spec: http2/6.3/1."""
    connection_error(Peer(), ErrorCode.PROTOCOL_ERROR, priority(0))


@pytest.mark.parametrize("size", [0, 4, 6])
def test_priority_of_another_length_is_an_error(size: int) -> None:
    """Section 6.3: a stream error FRAME_SIZE_ERROR. h2spec: http2/6.3/2."""
    peer = Peer()
    peer.send(peer.headers(1))
    stream_error(peer, 1, ErrorCode.FRAME_SIZE_ERROR, frame(FrameType.PRIORITY, 0, 1, bytes(size)))


def test_priority_of_another_length_on_an_idle_stream_ends_the_connection() -> None:
    """Section 6.3: RST_STREAM must not be sent for an idle stream (6.4), so it is a connection error (5.4.1)."""
    connection_error(Peer(), ErrorCode.FRAME_SIZE_ERROR, frame(FrameType.PRIORITY, 0, 1, bytes(4)))


def test_rst_stream_is_accepted() -> None:
    """Section 6.4: the call is cancelled, the connection goes on. h2spec: generic/3.4/1."""
    peer = Peer()
    call = peer.keep(1)
    peer.send(peer.headers(3))
    assert peer.send(reset(1), reset(3)) == []
    assert call.closed
    assert peer.connection.idle
    alive(peer)


def test_rst_stream_without_a_stream_ends_the_connection() -> None:
    """Section 6.4: RST_STREAM must be associated with a stream. h2spec: http2/6.4/1."""
    connection_error(Peer(), ErrorCode.PROTOCOL_ERROR, reset(0))


def test_rst_stream_on_an_idle_stream_is_a_protocol_error() -> None:
    """Section 6.4. h2spec: http2/6.4/2."""
    connection_error(Peer(), ErrorCode.PROTOCOL_ERROR, reset(1))


@pytest.mark.parametrize("size", [0, 3, 5])
def test_rst_stream_of_another_length_ends_the_connection(size: int) -> None:
    """Section 6.4: FRAME_SIZE_ERROR. h2spec: http2/6.4/3."""
    peer = Peer()
    peer.keep(1)
    connection_error(peer, ErrorCode.FRAME_SIZE_ERROR, frame(FrameType.RST_STREAM, 0, 1, bytes(size)))


def test_nothing_is_sent_on_a_stream_the_peer_reset() -> None:
    """Section 6.4: also not what was waiting for the window."""
    peer = Peer()
    call = peer.keep(1)
    call.reply(bytes(100_000), NO_TRAILERS)
    peer.frames()
    frames = peer.send(reset(1), frame(FrameType.WINDOW_UPDATE, 0, 0, b"\0\1\0\0"), ping())
    assert [item.kind for item in frames] == [FrameType.PING]
