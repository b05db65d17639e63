import pytest

from gateway.transport.call import NO_TRAILERS
from gateway.transport.h2.control import DRAIN_PING, Control
from gateway.transport.h2.errors import ErrorCode
from gateway.transport.h2.frames import PADDED, PREFACE, FrameType, frame
from gateway.transport.h2.limits import Limits
from tests.unit.gateway.transport.h2.peer import (
    SETTINGS_ACK,
    Peer,
    data,
    kinds,
    message,
    only,
    reset,
    settings,
    split,
)


def test_the_server_answers_the_preface_with_its_own() -> None:
    peer = Peer(greet=False)
    assert peer.frames() == []
    assert kinds(peer.send(PREFACE, settings())) == ["SETTINGS", "WINDOW_UPDATE", "SETTINGS"]


def test_bytes_may_come_one_by_one() -> None:
    peer = Peer(greet=False)
    frames = []
    for octet in (
        PREFACE + settings() + SETTINGS_ACK + peer.request(1, b"a") + peer.request(3, b"b") + peer.request(5, b"c")
    ):
        frames += peer.send(bytes([octet]))
    answers = peer.answers([item for item in frames if item.stream_id])
    assert [answers[stream_id][0] for stream_id in (1, 3, 5)] == [message(b"a"), message(b"b"), message(b"c")]


@pytest.mark.parametrize("size", [7, 100, 16_384, 100_000])
def test_frames_may_be_cut_anywhere(size: int) -> None:
    peer = Peer()
    stream = b"".join(peer.request(2 * index + 1, bytes([index]) * 300) for index in range(100))
    frames = []
    for start in range(0, len(stream), size):
        frames += peer.send(stream[start : start + size])
    answers = peer.answers(frames)
    assert [answers[2 * index + 1][0] for index in range(100)] == [
        message(bytes([index]) * 300) for index in range(100)
    ]


def test_all_headers_may_come_before_all_data() -> None:
    peer = Peer()
    ids = [1, 3, 5, 7, 9]
    frames = peer.send(*map(peer.headers, ids), *[data(stream_id, message(b"x")) for stream_id in reversed(ids)])
    assert list(peer.answers(frames)) == ids[::-1]


@pytest.mark.parametrize("other", [b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"POST /a HTTP/1.0\r\n\r\n"])
def test_http_1_gets_an_answer_it_understands(other: bytes) -> None:
    peer = Peer(greet=False)
    peer.connection.receive(other, 0.0)
    answer = peer.connection.output()
    head, body = answer.split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 505 ")
    assert f"content-length: {len(body)}".encode() in head
    assert peer.connection.finished


@pytest.mark.parametrize("other", [b"\x16\x03\x01\x02\x00", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r!", bytes(1000)])
def test_anything_else_gets_nothing(other: bytes) -> None:
    peer = Peer(greet=False)
    peer.connection.receive(other, 0.0)
    assert peer.connection.output() == b""
    assert peer.connection.finished


def test_goaway_names_the_last_stream_and_the_reason() -> None:
    peer = Peer()
    assert peer.works(1)
    assert peer.works(3)
    goaway = only(peer.send(data(9, b"")), FrameType.GOAWAY)
    assert int.from_bytes(goaway.payload[:4], "big") == 3
    assert goaway.payload[8:] == b"DATA on idle stream 9"


def test_a_fault_cancels_what_is_in_flight() -> None:
    peer = Peer()
    heard: list[str] = []
    peer.keep(1).on_cancel = lambda: heard.append("cancelled")
    peer.send(peer.headers(3), data(0, b""))
    assert heard == ["cancelled"]
    assert peer.connection.idle


@pytest.mark.parametrize("size", [1, 200_000])
@pytest.mark.parametrize("lost", [True, False])
def test_who_hears_that_one_caller_is_lost_may_answer_another(
    size: int, lost: bool, caplog: pytest.LogCaptureFixture
) -> None:
    peer = Peer()
    first, second = peer.keep(1), peer.keep(3)
    first.on_cancel = lambda: second.reply(bytes(size), NO_TRAILERS)
    connection = peer.connection
    if lost:
        connection.lost()
    else:
        peer.send(data(0, b""))
    assert first.closed
    assert second.closed
    assert connection.sender.account.held_bytes == connection.sender.backlog_bytes == 0
    assert connection.idle
    assert not caplog.records


def test_draining_loses_nothing() -> None:
    peer = Peer()
    call = peer.keep(1)
    peer.connection.drain()
    goaway, ping = peer.frames()
    assert (int.from_bytes(goaway.payload[:4], "big"), goaway.code) == (2**31 - 1, ErrorCode.NO_ERROR)
    assert peer.works(3), "a request that crossed the GOAWAY is served"
    (final,) = peer.send(frame(FrameType.PING, 1, 0, ping.payload))
    assert (int.from_bytes(final.payload[:4], "big"), final.code) == (3, ErrorCode.NO_ERROR)
    refused = peer.send(peer.request(5))
    assert only(refused, FrameType.RST_STREAM).code == ErrorCode.REFUSED_STREAM
    assert not peer.connection.finished
    call.reply(b"done", NO_TRAILERS)
    assert peer.answers(peer.frames())[1][0] == message(b"done")
    assert peer.connection.finished


def test_draining_waits_for_uploads() -> None:
    peer = Peer()
    peer.send(peer.headers(1))
    peer.connection.leave()
    assert not peer.connection.finished
    assert peer.answers(peer.send(data(1, message(b"a"))))[1][0] == message(b"a")
    assert peer.connection.finished


def test_a_drained_connection_finishes_when_its_last_caller_leaves() -> None:
    peer = Peer()
    peer.keep(1)
    peer.connection.leave()
    peer.send(reset(1))
    assert peer.connection.finished


def test_an_idle_connection_leaves_at_once() -> None:
    peer = Peer()
    peer.connection.drain()
    peer.send(frame(FrameType.PING, 1, 0, DRAIN_PING))
    assert peer.connection.finished
    peer.connection.leave()
    peer.connection.drain()
    assert peer.frames() == []


def test_a_connection_without_preface_is_closed_silently() -> None:
    peer = Peer(greet=False)
    peer.connection.drain()
    assert peer.connection.finished
    assert peer.frames() == []


def test_an_internal_error_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("as ordered")

    monkeypatch.setattr(Control, "ping", fail)
    peer = Peer()
    assert only(peer.send(frame(FrameType.PING, 0, 0, bytes(8))), FrameType.GOAWAY).code == ErrorCode.INTERNAL_ERROR
    assert "as ordered" in caplog.text


def test_large_bodies_are_linear() -> None:
    """8 MB in frames of 16 KiB, received in odd pieces."""
    peer = Peer(Limits(stream_window_bytes=2**31 - 1))
    body = bytes(8 << 20)
    whole = message(body)
    stream = peer.headers(1, (":path", "/test.Echo/Keep")) + b"".join(
        data(1, whole[start : start + 16_384], end=start + 16_384 >= len(whole))
        for start in range(0, len(whole), 16_384)
    )
    for start in range(0, len(stream), 250_007):
        peer.connection.receive(stream[start : start + 250_007], 0.0)
    (call,) = peer.service.kept
    assert call.message == body
    assert all(item.kind == FrameType.WINDOW_UPDATE for item in split(peer.connection.output()))


@pytest.mark.parametrize("frame_bytes", [5000, 16_384, 65_000])
@pytest.mark.parametrize("cut", [7, 4_105, 16_393, 100_000, 1_000_000])
def test_large_frames_are_taken_as_they_come_wherever_they_are_cut(frame_bytes: int, cut: int) -> None:
    peer = Peer(Limits(stream_window_bytes=1 << 20))
    ids = [1, 3, 5]
    bodies = {stream_id: message(bytes([stream_id]) * 150_000) for stream_id in ids}
    stream = bytearray(b"".join(peer.headers(stream_id, (":path", "/test.Echo/Keep")) for stream_id in ids))
    for start in range(0, 150_005, frame_bytes):
        for stream_id, body in bodies.items():
            stream += data(stream_id, body[start : start + frame_bytes], end=start + frame_bytes >= len(body))
    for start in range(0, len(stream), cut):
        peer.send(bytes(stream[start : start + cut]))
    assert [call.message for call in peer.service.kept] == [body[5:] for body in bodies.values()]
    assert peer.works(7)


def test_of_a_large_frame_that_is_padded_nothing_is_taken_before_its_end() -> None:
    peer = Peer()
    body = message(b"x" * 20_000)
    padded = frame(FrameType.DATA, 1 | PADDED, 1, b"\x09" + body + bytes(9))
    peer.send(peer.headers(1), padded[:10_000])
    assert not peer.connection._requests.intake.uploads
    peer.send(padded[10_000:])
    assert [call.message for call in peer.service.kept] == [body[5:]]


@pytest.mark.parametrize("left", [1, 5_000])
def test_the_remainder_of_a_frame_nobody_wants_is_passed_over(left: int) -> None:
    peer = Peer(Limits(max_message_bytes=1000))
    whole = data(1, message(b"x" * 10_000))
    (refused,) = peer.answers(peer.send(peer.headers(1), whole[:5_014])).items()
    assert refused[1][1]["grpc-status"] == "8"
    assert peer.send(whole[5_014:-left]) == []
    assert peer.send(whole[len(whole) - left :] + peer.headers(3) + data(3, message(b"on"))) != []
    assert peer.works(5)


def test_a_large_frame_may_break_a_rule_at_its_end() -> None:
    peer = Peer()
    whole = data(1, message(b"x" * 10_000))
    peer.send(peer.headers(1, ("content-length", "9999")), whole[:5000])
    assert only(peer.send(whole[5000:]), FrameType.RST_STREAM).code == ErrorCode.PROTOCOL_ERROR
    assert peer.works(3)
