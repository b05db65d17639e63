import struct

import pytest

from gateway.errors import Code
from gateway.transport.call import NO_TRAILERS, ReplyOptions, Trailers
from gateway.transport.compression import compress, decompress
from gateway.transport.h2.errors import ErrorCode
from gateway.transport.h2.frames import END_HEADERS, END_STREAM, PADDED, PRIORITY, FrameType, frame
from gateway.transport.h2.limits import Limits
from tests.unit.gateway.transport.h2.peer import (
    Frame,
    Peer,
    data,
    kinds,
    message,
    only,
    reset,
    window_update,
)


def status(peer: Peer, frames: list[Frame]) -> tuple[str, str]:
    """HTTP and gRPC status of a trailers-only answer."""
    pairs = peer.fields(only(frames, FrameType.HEADERS))
    return pairs[":status"], pairs["grpc-status"]


def continuation(stream_id: int, payload: bytes, *, last: bool) -> bytes:
    return frame(FrameType.CONTINUATION, END_HEADERS if last else 0, stream_id, payload)


def test_headers_in_pieces() -> None:
    peer = Peer()
    block = peer.block()
    frames = peer.send(
        frame(FrameType.HEADERS, 0, 1, block[:3]),
        continuation(1, b"", last=False),
        continuation(1, block[3:], last=True),
        data(1, message(b"hello")),
    )
    assert peer.answers(frames)[1][0] == message(b"hello")


def test_padding_and_priority_are_taken_off() -> None:
    peer = Peer()
    padded = b"\x04" + struct.pack(">LB", 1, 255) + peer.block() + bytes(4)
    frames = peer.send(
        frame(FrameType.HEADERS, END_HEADERS | PADDED | PRIORITY, 1, padded),
        frame(FrameType.DATA, PADDED, 1, b"\x02" + message(b"hello")[:3] + bytes(2)),
        frame(FrameType.DATA, PADDED | END_STREAM, 1, b"\x00" + message(b"hello")[3:]),
    )
    assert peer.answers(frames)[1][0] == message(b"hello")


def test_trailers_end_a_request() -> None:
    peer = Peer()
    frames = peer.send(peer.headers(1), data(1, message(b"a"), end=False), peer.trailers(1, ("x-checksum", "1")))
    assert peer.answers(frames)[1][0] == message(b"a")
    assert peer.works(3)


@pytest.mark.parametrize(("flags", "pair"), [(END_HEADERS, ("x-a", "1")), (END_HEADERS | END_STREAM, (":path", "/"))])
def test_malformed_trailers(flags: int, pair: tuple[str, str]) -> None:
    peer = Peer()
    frames = peer.send(peer.headers(1), data(1, message(b"a"), end=False), peer.trailers(1, pair, flags=flags))
    assert only(frames, FrameType.RST_STREAM).code == ErrorCode.PROTOCOL_ERROR
    assert peer.works(3)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        (("te", "gzip"), ErrorCode.PROTOCOL_ERROR),
        ((":path", ""), ErrorCode.PROTOCOL_ERROR),
        (("content-length", "x"), ErrorCode.PROTOCOL_ERROR),
        (("content-length", "3"), ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_malformed_requests_end_their_stream(changes: tuple[str, str], code: ErrorCode) -> None:
    peer = Peer()
    for stream_id in (1, 3):
        assert only(peer.send(peer.request(stream_id, b"hello", changes)), FrameType.RST_STREAM).code == code
    assert peer.works(5)


def test_the_right_content_length_is_fine() -> None:
    peer = Peer()
    for stream_id in (1, 3, 5):
        frames = peer.send(peer.request(stream_id, b"hello", ("content-length", "10")))
        assert peer.answers(frames)[stream_id][0] == message(b"hello")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ((":method", "GET"), ("405", "12")),
        (("content-type", "text/plain"), ("415", "3")),
        ((":path", "/test.Echo/Nothing"), ("200", "12")),
        (("grpc-timeout", "soon"), ("200", "3")),
    ],
)
def test_refusals_stop_the_upload(changes: tuple[str, str], expected: tuple[str, str]) -> None:
    peer = Peer()
    frames = peer.send(peer.headers(1, changes))
    assert kinds(frames) == ["HEADERS", "RST_STREAM"]
    assert status(peer, frames) == expected
    assert frames[1].code == ErrorCode.NO_ERROR
    assert peer.send(data(1, message(b"on its way"), end=False), data(1, b"")) == [], "what was on its way is discarded"
    assert peer.works(3)


def test_requests_without_a_whole_message() -> None:
    peer = Peer()
    assert status(peer, peer.send(peer.headers(1, flags=END_HEADERS | END_STREAM))) == ("200", "12")
    assert status(peer, peer.send(peer.headers(3), data(3, b""))) == ("200", "12")
    assert status(peer, peer.send(peer.headers(5), data(5, message(b"abc")[:6]))) == ("200", "13")
    assert status(peer, peer.send(peer.headers(7), data(7, message(b"a") + message(b"b")))) == ("200", "12")
    assert status(peer, peer.send(peer.headers(9), data(9, message(b"a", compressed=1)))) == ("200", "13")
    compressed = peer.headers(11, ("grpc-encoding", "snappy")) + data(11, message(b"a", compressed=1))
    pairs = peer.fields(only(peer.send(compressed), FrameType.HEADERS))
    assert (pairs["grpc-status"], pairs["grpc-accept-encoding"]) == ("12", "identity, deflate, gzip")
    assert peer.works(13)


def test_a_message_above_the_cap_is_refused_at_its_prefix() -> None:
    peer = Peer(Limits(max_message_bytes=100))
    frames = peer.send(peer.headers(1), data(1, struct.pack(">BL", 0, 101), end=False))
    assert status(peer, frames) == ("200", "8")
    assert only(frames, FrameType.RST_STREAM).code == ErrorCode.NO_ERROR
    assert peer.send(*[data(1, bytes(16_384), end=False)] * 10) == []
    assert peer.works(3)
    assert peer.answers(peer.send(peer.request(5, b"x" * 100)))[5][0] == message(b"x" * 100)
    assert status(peer, peer.send(peer.request(7, b"x" * 101))) == ("200", "8")


def test_streams_above_the_limit_are_refused() -> None:
    peer = Peer(Limits(max_streams=2))
    peer.keep(1)
    peer.send(peer.headers(3))
    for stream_id in (5, 7):
        assert only(peer.send(peer.request(stream_id)), FrameType.RST_STREAM).code == ErrorCode.REFUSED_STREAM
    peer.send(reset(3))
    assert peer.works(9)


def test_a_call_keeps_its_place_until_the_work_on_it_ends() -> None:
    peer = Peer(Limits(max_streams=2))
    first, second = peer.keep(1), peer.keep(3)
    peer.send(reset(1), reset(3))
    assert only(peer.send(peer.request(5)), FrameType.RST_STREAM).code == ErrorCode.REFUSED_STREAM
    first.reply(b"too late", NO_TRAILERS)
    assert peer.works(7)
    second.fail(Code.CANCELLED, "")
    third = peer.keep(9)
    third.on_cancel = lambda: None  # it heard, and stopped at once
    peer.send(reset(9))
    peer.keep(11)
    peer.keep(13)
    assert [item.code for item in peer.send(peer.request(15))] == [ErrorCode.REFUSED_STREAM]


def test_work_of_streams_the_server_reset_counts_as_well() -> None:
    peer = Peer(Limits(max_streams=1))
    call = peer.keep(1)
    assert kinds(peer.send(window_update(1, 0))) == ["RST_STREAM"]
    assert call.closed
    assert kinds(peer.send(peer.request(3))) == ["RST_STREAM"]
    call.reply(b"", NO_TRAILERS)
    assert peer.works(5)


def test_the_limit_holds_for_known_headers_too() -> None:
    peer = Peer(Limits(max_streams=3))
    assert peer.works(1)
    assert peer.works(3)
    frames = peer.send(*[peer.headers(stream_id) for stream_id in (5, 7, 9, 11)])
    assert [(item.kind, item.stream_id) for item in frames] == [(FrameType.RST_STREAM, 11)]
    assert peer.answers(peer.send(data(9, message(b"x"))))[9][0] == message(b"x")


def test_large_header_lists_are_refused_and_the_table_stays_in_step() -> None:
    peer = Peer(Limits(max_header_list_bytes=1000))
    frames = peer.send(peer.headers(1, ("x-large", "v" * 1000)))
    assert status(peer, frames) == ("200", "8")
    assert peer.works(3)
    frames = peer.send(peer.headers(5), data(5, message(b""), end=False), peer.trailers(5, ("x-large", "v" * 1000)))
    assert status(peer, frames) == ("200", "8")


@pytest.mark.parametrize(
    "frames",
    [
        [frame(FrameType.HEADERS, 0, 1, b"")] + [continuation(1, b"", last=False)] * 9,
        [frame(FrameType.HEADERS, 0, 1, b"")] + [continuation(1, bytes(16_384), last=False)] * 5,
    ],
)
def test_endless_headers_end_the_connection(frames: list[bytes]) -> None:
    assert only(Peer().send(*frames), FrameType.GOAWAY).code == ErrorCode.ENHANCE_YOUR_CALM


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([frame(FrameType.HEADERS, 4, 0, b"\x88")], ErrorCode.PROTOCOL_ERROR),
        ([frame(FrameType.HEADERS, 4, 2, b"\x88")], ErrorCode.PROTOCOL_ERROR),
        ([frame(FrameType.HEADERS, 4, 1, b"\x80")], ErrorCode.COMPRESSION_ERROR),
        ([frame(FrameType.HEADERS, 4 | PADDED, 1, b"\x05a")], ErrorCode.PROTOCOL_ERROR),
        ([frame(FrameType.HEADERS, 0, 1), frame(FrameType.PING, 0, 0, bytes(8))], ErrorCode.PROTOCOL_ERROR),
        ([frame(FrameType.HEADERS, 0, 1), frame(FrameType.HEADERS, 4, 1)], ErrorCode.PROTOCOL_ERROR),
        ([frame(FrameType.HEADERS, 0, 1), continuation(3, b"", last=True)], ErrorCode.PROTOCOL_ERROR),
        ([frame(FrameType.HEADERS, 0, 1), struct.pack(">LBL", 0x42, 0, 1)], ErrorCode.PROTOCOL_ERROR),
        ([continuation(1, b"", last=True)], ErrorCode.PROTOCOL_ERROR),
        ([data(0, b"")], ErrorCode.PROTOCOL_ERROR),
        ([data(1, b"")], ErrorCode.PROTOCOL_ERROR),
        ([data(2, b"")], ErrorCode.PROTOCOL_ERROR),
        ([reset(0)], ErrorCode.PROTOCOL_ERROR),
        ([reset(1)], ErrorCode.PROTOCOL_ERROR),
        ([frame(FrameType.RST_STREAM, 0, 1, bytes(3))], ErrorCode.FRAME_SIZE_ERROR),
        ([struct.pack(">LBL", 65_537 << 8, 0, 1)], ErrorCode.FRAME_SIZE_ERROR),
    ],
)
def test_connection_errors(frames: list[bytes], code: ErrorCode) -> None:
    peer = Peer()
    assert only(peer.send(*frames), FrameType.GOAWAY).code == code
    assert peer.connection.finished


def test_a_known_block_may_not_interrupt_a_header_block() -> None:
    peer = Peer()
    assert peer.works(1)
    assert peer.works(3)
    frames = peer.send(peer.headers(5), frame(FrameType.HEADERS, 0, 7, b""), data(5, message(b"")))
    assert only(frames, FrameType.GOAWAY).code == ErrorCode.PROTOCOL_ERROR


def test_lower_ids_cannot_be_used_again() -> None:
    for used, again, code in (([1], 1, ErrorCode.STREAM_CLOSED), ([5], 3, ErrorCode.PROTOCOL_ERROR)):
        peer = Peer()
        for stream_id in used:
            peer.send(peer.request(stream_id))
        assert only(peer.send(peer.headers(again)), FrameType.GOAWAY).code == code


def test_frames_after_end_stream() -> None:
    peer = Peer()
    for stream_id, late in ((1, data(1, b"x")), (3, None)):
        call = peer.keep(stream_id)
        frames = peer.send(peer.headers(stream_id) if late is None else late)
        assert only(frames, FrameType.RST_STREAM).code == ErrorCode.STREAM_CLOSED
        assert call.closed
    assert peer.works(5)
    assert only(peer.send(data(5, b"x")), FrameType.GOAWAY).code == ErrorCode.STREAM_CLOSED


def test_frames_after_the_peers_reset() -> None:
    peer = Peer()
    peer.keep(1)
    peer.send(reset(1))
    assert only(peer.send(data(1, b"x", end=False)), FrameType.RST_STREAM).code == ErrorCode.STREAM_CLOSED
    assert peer.send(data(1, b"x"), reset(1)) == [], "said once"
    assert peer.works(3)


def test_headers_on_a_stream_we_reset_keep_the_table_in_step() -> None:
    peer = Peer()
    peer.send(peer.headers(1, ("te", "gzip")))
    assert peer.send(peer.trailers(1, ("x-new", "value"))) == []
    assert peer.answers(peer.send(peer.request(3, b"a", ("x-new", "value"))))[3][0] == message(b"a")
    assert peer.service.kept[-1].metadata.values["x-new"] == "value"


def test_skipped_ids_are_fine() -> None:
    peer = Peer()
    assert peer.works(1)
    assert peer.works(101)
    assert peer.works(2**31 - 1)
    assert only(peer.send(peer.headers(1)), FrameType.GOAWAY).code == ErrorCode.STREAM_CLOSED


def test_rapid_resets_end_the_connection() -> None:
    peer = Peer(Limits(reset_burst=50))
    for stream_id in range(1, 1000, 2):
        frames = peer.send(peer.headers(stream_id), reset(stream_id))
        if frames:
            break
    assert only(frames, FrameType.GOAWAY).code == ErrorCode.ENHANCE_YOUR_CALM
    assert 99 <= stream_id // 2 <= 110


def test_resets_the_peer_provokes_count_too() -> None:
    peer = Peer(Limits(reset_burst=50))
    for stream_id in range(1, 1000, 2):
        frames = peer.send(peer.headers(stream_id), window_update(stream_id, 0))
        if peer.connection.finished:
            break
    assert frames[-1].code == ErrorCode.ENHANCE_YOUR_CALM


def test_a_service_that_cannot_resolve_fails_the_call(caplog: pytest.LogCaptureFixture) -> None:
    peer = Peer()

    def fail(path: str) -> None:
        raise RuntimeError("as ordered")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peer.service, "resolve", fail)
        assert status(peer, peer.send(peer.request(1))) == ("200", "13")
    assert "as ordered" in caplog.text
    assert peer.works(3)


def test_a_timeout_runs_from_the_beginning_of_an_upload() -> None:
    peer = Peer()
    peer.now_s = 100.0
    peer.send(
        peer.headers(1, (":path", "/test.Echo/Keep"), ("grpc-timeout", "5S")), data(1, message(b"ab")[:6], end=False)
    )
    peer.now_s = 103.0
    peer.send(data(1, message(b"ab")[6:]))
    assert (peer.service.kept[0].arrived_s, peer.service.kept[0].deadline_s) == (103.0, 105.0)


@pytest.mark.parametrize("late", [(1.0, ()), (0.3, (("grpc-timeout", "200m"),))])
def test_callers_whose_patience_ended_are_no_flood(late: tuple[float, tuple[tuple[str, str], ...]]) -> None:
    wait_s, timeout = late
    peer = Peer(Limits(reset_burst=5, resets_per_s=0.0))
    for turn in range(50):
        calls = [peer.headers(stream_id, (":path", "/test.Echo/Keep"), *timeout) for stream_id in (4 * turn + 1,)]
        peer.send(*calls, data(4 * turn + 1, message(b"")), peer.headers(4 * turn + 3))
        peer.send(data(4 * turn + 3, message(b"ab")[:6], end=False))
        peer.now_s += max(wait_s, 1.0)
        assert peer.send(reset(4 * turn + 1), reset(4 * turn + 3)) == []
        peer.service.kept[-1].reply(b"", NO_TRAILERS)
    assert peer.works(1001)


def test_streams_above_the_limit_are_a_flood_in_the_end() -> None:
    peer = Peer(Limits(max_streams=1, reset_burst=20))
    peer.keep(1)
    codes = [item.code for item in peer.send(*map(peer.headers, range(3, 201, 2)))]
    assert codes[-1] == ErrorCode.ENHANCE_YOUR_CALM
    assert set(codes[:-1]) == {ErrorCode.REFUSED_STREAM}
    assert peer.connection._counters.take() == {"streams": len(codes) - 1, "resets": 1}


def test_compressed_requests_and_replies() -> None:
    peer = Peer()
    body = message(compress("deflate", b"x" * 500), compressed=1)
    names = ("grpc-encoding", "deflate"), ("grpc-accept-encoding", "identity,gzip")
    frames = peer.send(peer.headers(1, (":path", "/test.Echo/Keep"), *names), data(1, body))
    assert frames == []
    (call,) = peer.service.kept
    assert call.message == b"x" * 500
    call.reply(call.message, NO_TRAILERS, ReplyOptions(Trailers(("x-a", "1")), compress=True))
    answer, pairs = peer.answers(peer.frames())[1]
    assert (pairs["grpc-encoding"], pairs["x-a"], pairs["grpc-status"]) == ("gzip", "1", "0")
    assert (answer[0], decompress("gzip", answer[5:], 500)) == (1, b"x" * 500)
