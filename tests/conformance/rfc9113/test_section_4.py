"""RFC 9113 section 4: HTTP frames."""

import pytest

from gateway.transport.call import NO_TRAILERS
from gateway.transport.h2.errors import ErrorCode
from gateway.transport.h2.frames import ACK, END_HEADERS, END_STREAM, PRIORITY, FrameType, frame
from gateway.transport.h2.limits import Limits
from tests.conformance.rfc9113.expect import (
    anything,
    connection_error,
    continuation,
    data_sizes,
    ping,
    plain_block,
    priority,
    served,
    stream_error,
    with_block,
)
from tests.unit.gateway.transport.h2.peer import Frame, Peer, data, message, settings

SMALLEST = Limits(max_frame_bytes=16_384)
"""Announces the SETTINGS_MAX_FRAME_SIZE that everyone has from the beginning."""


@pytest.mark.parametrize("kind", [0xA, 0xB, 0xC, 0x10, 0xFF])
@pytest.mark.parametrize("stream_id", [0, 1, 2, 2**31 - 1])
def test_frames_of_unknown_types_are_ignored(kind: int, stream_id: int) -> None:
    """Section 4.1: whatever their flags, stream and content. h2spec: http2/4.1/1."""
    peer = Peer()
    assert peer.send(anything(kind, 0xFF, stream_id, b"unknown")) == []
    served(peer, 1, peer.send(peer.request(1)))


def test_flags_without_meaning_are_ignored() -> None:
    """Section 4.1: on PING, SETTINGS, RST_STREAM, WINDOW_UPDATE, DATA and HEADERS. h2spec: http2/4.1/2."""
    peer = Peer()
    assert peer.send(ping(b"undefine", flags=0xFE)) == [Frame(FrameType.PING, ACK, 0, b"undefine")]
    assert peer.send(frame(FrameType.SETTINGS, 0xFE, 0)) == [Frame(FrameType.SETTINGS, ACK, 0, b"")]
    assert peer.send(frame(FrameType.WINDOW_UPDATE, 0xFF, 0, b"\0\0\0\1")) == []
    headers = peer.headers(1, flags=END_HEADERS | 0xD2)
    body = frame(FrameType.DATA, END_STREAM | 0xF6, 1, message(b"hello"))
    served(peer, 1, peer.send(headers, body))
    peer.keep(3)
    assert peer.send(frame(FrameType.RST_STREAM, 0xFF, 3, bytes(4))) == []
    assert peer.connection.idle


def test_the_reserved_bit_is_ignored() -> None:
    """Section 4.1: on PING, HEADERS and DATA alike. h2spec: http2/4.1/3."""
    peer, bit = Peer(), 1 << 31
    assert peer.send(ping(b"reserved", stream_id=bit)) == [Frame(FrameType.PING, ACK, 0, b"reserved")]
    for stream_id in (1, 3):  # the second time, the header block is known
        sent = frame(FrameType.HEADERS, END_HEADERS, stream_id | bit, plain_block())
        served(peer, stream_id, peer.send(sent, frame(FrameType.DATA, END_STREAM, stream_id | bit, message(b"hello"))))


def test_what_the_server_sends_has_neither_reserved_bit_nor_unused_flags() -> None:
    """Section 4.1: both must be unset when sending."""
    peer = Peer(greet=False)
    frames = peer.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", settings(), peer.request(1), ping(), data(99, b""))
    flags = {FrameType.HEADERS: 0x05, FrameType.SETTINGS: ACK, FrameType.PING: ACK}
    assert len({item.kind for item in frames}) >= 5
    for item in frames:
        assert item.stream_id < 2**31
        assert item.flags & ~flags.get(FrameType(item.kind), 0) == 0


@pytest.mark.parametrize("limits", [SMALLEST, Limits()])
def test_data_of_2_to_the_14_octets_is_accepted(limits: Limits) -> None:
    """Section 4.2: every implementation must be able to receive that much. h2spec: http2/4.2/1."""
    peer = Peer(limits)
    body = bytes(16_384 - 5)
    served(peer, 1, peer.send(peer.headers(1), data(1, message(body))), body)


def test_headers_of_2_to_the_14_octets_are_accepted() -> None:
    """Section 4.2: the limit is one of payloads; the 9 octets of the header do not count."""
    peer = Peer(Limits(max_frame_bytes=16_384, max_header_list_bytes=32_768))
    missing = 16_384 - len(plain_block(("x-long", "x" * 16_000)))
    block = plain_block(("x-long", "x" * (16_000 + missing)))
    assert len(block) == 16_384
    served(peer, 1, peer.send(with_block(1, block)))


@pytest.mark.parametrize("size", [16_385, 2**24 - 1])
def test_data_above_the_announced_frame_size_is_an_error(size: int) -> None:
    """Section 4.2: FRAME_SIZE_ERROR, here of the connection, as 5.4.1 allows. h2spec: http2/4.2/2."""
    peer = Peer(SMALLEST)
    peer.send(peer.headers(1))
    connection_error(peer, ErrorCode.FRAME_SIZE_ERROR, data(1, bytes(size)))


def test_headers_above_the_announced_frame_size_end_the_connection() -> None:
    """Section 4.2: a frame with a field block can alter the state of the whole connection. h2spec: http2/4.2/3."""
    connection_error(
        Peer(SMALLEST), ErrorCode.FRAME_SIZE_ERROR, frame(FrameType.HEADERS, END_HEADERS, 1, bytes(16_385))
    )


def test_a_frame_that_is_too_large_is_refused_at_its_header() -> None:
    """Section 4.2: so nothing of it needs to be kept."""
    connection_error(Peer(SMALLEST), ErrorCode.FRAME_SIZE_ERROR, data(1, bytes(16_385))[:9])


def test_frames_up_to_the_announced_size_are_accepted() -> None:
    """Section 4.2: we announce more than the least, so more must be accepted."""
    peer = Peer(Limits(max_frame_bytes=40_000))
    body = bytes(40_000 - 5)
    served(peer, 1, peer.send(peer.headers(1), data(1, message(body))), body)


@pytest.mark.parametrize(
    "short",
    [
        frame(FrameType.HEADERS, END_HEADERS | PRIORITY, 1, bytes(4)),
        frame(FrameType.HEADERS, END_HEADERS | 0x8, 1, b""),
        frame(FrameType.DATA, 0x8, 1, b""),
        frame(FrameType.GOAWAY, 0, 0, bytes(7)),
        frame(FrameType.PING, 0, 0, bytes(7)),
        frame(FrameType.SETTINGS, 0, 0, bytes(5)),
        frame(FrameType.WINDOW_UPDATE, 0, 0, bytes(3)),
        frame(FrameType.RST_STREAM, 0, 1, bytes(3)),
    ],
)
def test_a_frame_too_small_for_its_fields_ends_the_connection(short: bytes) -> None:
    """Section 4.2: FRAME_SIZE_ERROR when mandatory frame data is missing."""
    connection_error(Peer(), ErrorCode.FRAME_SIZE_ERROR, short)


def test_the_server_respects_the_peers_frame_size() -> None:
    """Section 4.2: nothing longer than the peer's SETTINGS_MAX_FRAME_SIZE, which is 16,384 until it says otherwise."""
    peer = Peer()
    peer.keep(1).reply(bytes(20_000), NO_TRAILERS)
    assert data_sizes(peer.frames()) == [16_384, 20_005 - 16_384]
    peer.send(settings(max_frame_size=17_000))
    peer.keep(3).reply(bytes(20_000), NO_TRAILERS)
    assert data_sizes(peer.frames()) == [17_000, 20_005 - 17_000]


def test_an_undecodable_field_block_ends_the_connection() -> None:
    """Section 4.3: COMPRESSION_ERROR. h2spec: http2/4.3/1."""
    bad = b"\x40\x01a\x85\xff\xff\xff\xff\xff"
    connection_error(Peer(), ErrorCode.COMPRESSION_ERROR, frame(FrameType.HEADERS, END_HEADERS, 1, bad))


def test_a_priority_frame_inside_a_field_block_ends_the_connection() -> None:
    """Section 4.3: field blocks are one contiguous sequence of frames. h2spec: http2/4.3/2."""
    peer = Peer()
    connection_error(peer, ErrorCode.PROTOCOL_ERROR, peer.headers(1, flags=0), priority(1), continuation(1, b""))


def test_headers_of_another_stream_inside_a_field_block_end_the_connection() -> None:
    """Section 4.3: no interleaved frames of any other stream. h2spec: http2/4.3/3."""
    peer = Peer()
    connection_error(peer, ErrorCode.PROTOCOL_ERROR, peer.headers(1, flags=0), peer.headers(3))


@pytest.mark.parametrize("kind", [kind for kind in range(12) if kind != FrameType.CONTINUATION])
def test_nothing_else_may_stand_inside_a_field_block(kind: int) -> None:
    """Section 4.3: neither the same stream, nor the connection, nor an unknown type."""
    peer = Peer()
    connection_error(peer, ErrorCode.PROTOCOL_ERROR, peer.headers(1, flags=0), anything(kind, 0, 1, bytes(8)))


def test_field_blocks_to_be_discarded_are_decompressed_all_the_same() -> None:
    """Section 4.3: of refused streams, of streams we reset, of lists above our limit; or the table goes astray."""
    peer = Peer(Limits(max_streams=1, max_header_list_bytes=4000))
    peer.keep(1).on_cancel = lambda: None  # work on a reset call ends, and gives its place back
    refused = peer.send(peer.headers(3, ("x-refused", "3"), flags=END_HEADERS | END_STREAM))
    assert [item.code for item in refused] == [ErrorCode.REFUSED_STREAM]
    stream_error(peer, 1, ErrorCode.STREAM_CLOSED, data(1, b""))
    assert peer.send(peer.trailers(1, ("x-reset", "1"))) == []
    large = peer.headers(5, ("x-large", "5" * 3000), ("x-larger", "6" * 2000), flags=END_HEADERS | END_STREAM)
    assert peer.fields(peer.send(large)[0])["grpc-status"] == "8"
    same = [("x-refused", "3"), ("x-reset", "1"), ("x-late", "7")]
    served(peer, 7, peer.send(peer.request(7, b"hello", *same)))
    assert peer.service.kept[-1].metadata.values.items() >= dict(same).items()


def test_the_fragments_of_a_field_block_are_joined() -> None:
    """Section 4.3: cut inside a field, with empty fragments between."""
    peer = Peer()
    block = peer.block()
    sent = [frame(FrameType.HEADERS, 0, 1, block[:3]), continuation(1, b"", last=False), continuation(1, block[3:])]
    served(peer, 1, peer.send(*sent, data(1, message(b"hello"))))


def test_the_decoders_table_has_4096_octets_in_the_beginning() -> None:
    """Section 4.3.1: we announce no other size, so a peer may use as much and not more."""
    block = plain_block()
    served(peer := Peer(), 1, peer.send(with_block(1, b"\x3f\xe1\x1f" + block)))  # 4096
    over = frame(FrameType.HEADERS, END_HEADERS, 1, b"\x3f\xe2\x1f" + block)  # 4097
    connection_error(Peer(), ErrorCode.COMPRESSION_ERROR, over)


@pytest.mark.parametrize("size", [0, 100, 4095])
def test_a_smaller_table_of_the_peer_is_acknowledged_in_the_next_field_block(size: int) -> None:
    """Section 4.3.1: the next block must begin with a size update that is no larger than the peer allows; once."""
    peer = Peer(first=settings(header_table_size=size))
    first, second = (peer.send(peer.request(stream_id))[0].payload for stream_id in (1, 3))
    assert first == b"\x20" + second


def test_a_larger_table_of_the_peer_needs_no_acknowledgement() -> None:
    """Section 4.3.1: the encoder may stay with the size it has."""
    peer = Peer(first=settings(header_table_size=65_536))
    first, second = (peer.send(peer.request(stream_id))[0].payload for stream_id in (1, 3))
    assert first == second
