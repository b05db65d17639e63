"""Slow peers: what takes too long is given up, what makes progress is not."""

import pytest

from gateway.transport.call import NO_TRAILERS
from gateway.transport.h2.errors import ErrorCode
from gateway.transport.h2.frames import END_HEADERS, PREFACE, FrameType, frame
from gateway.transport.h2.limits import Counters, Limits
from tests.unit.gateway.transport.h2.peer import Frame, Peer, data, kinds, message, only, settings, window_update

LIMITS = Limits(header_timeout_s=10.0, upload_timeout_s=30.0, write_timeout_s=30.0)


class Slow(Peer):
    """A peer and the time it takes."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        super().__init__(limits)
        self.buffered_bytes = 0

    def wait(self, seconds: int) -> list[Frame]:
        """What the server says meanwhile."""
        for _ in range(seconds):
            self.now_s += 1.0
            self.connection.sweep(1.0, self.now_s, self.buffered_bytes)
        return self.frames()

    @property
    def counters(self) -> dict[str, int]:
        return self.connection._counters.take()


def test_counters_are_taken_once() -> None:
    counters = Counters()
    counters.count("resets")
    counters.streams += 2
    assert counters.take() == {"streams": 2, "resets": 1}
    assert counters.take() == {}


@pytest.mark.parametrize(
    "unfinished",
    [
        frame(FrameType.HEADERS, 0, 1, b""),
        frame(FrameType.HEADERS, END_HEADERS, 1, bytes(50))[:-1],
        frame(FrameType.PING, 0, 0, bytes(8))[:3],
    ],
)
def test_headers_that_never_end_end_the_connection(unfinished: bytes) -> None:
    peer = Slow()
    peer.send(unfinished)
    assert peer.wait(10) == []
    assert only(peer.wait(1), FrameType.GOAWAY).code == ErrorCode.ENHANCE_YOUR_CALM
    assert peer.counters == {"header_timeout": 1}
    assert peer.wait(1) == []


def test_a_new_frame_has_its_own_time() -> None:
    peer = Slow()
    ping = frame(FrameType.PING, 0, 0, bytes(8))
    peer.send(ping[:5])
    peer.wait(9)
    peer.send(ping[5:] + ping[:5])
    assert peer.wait(9) == []
    assert peer.send(ping[5:]) != []


@pytest.mark.parametrize("begin", [b"", data(1, message(bytes(1000))[:100], end=False)])
def test_a_request_that_never_comes_is_given_up(begin: bytes) -> None:
    peer = Slow()
    peer.send(peer.headers(1), begin)
    assert peer.wait(30) == []
    frames = peer.wait(2)
    assert kinds(frames) == ["HEADERS", "RST_STREAM"]
    assert peer.fields(frames[0])["grpc-status"] == "4"
    assert peer.counters == {"upload_timeout": 1}
    assert peer.works(3)


def test_a_trickle_is_not_progress_but_a_slow_line_is() -> None:
    peer = Slow(Limits(stream_window_bytes=200_000))
    whole = message(bytes(100_000))
    peer.send(peer.headers(1), peer.headers(3), data(1, whole[:5], end=False), data(3, whole[:5], end=False))
    ended: list[Frame] = []
    for second in range(60):
        at = 5 + second * 1000
        peer.send(data(1, whole[at : at + 1000], end=False))
        if not ended:
            peer.send(data(3, b"\0", end=False))
        ended += peer.wait(1)
    assert {item.stream_id for item in ended} == {3}
    peer.send(data(1, whole[5 + 60 * 1000 :]))
    assert peer.service.kept[-1].message == whole[5:]


def test_a_slow_frame_is_progress_of_its_request() -> None:
    peer = Slow()
    whole = data(1, message(bytes(60_000)))
    peer.send(peer.headers(1))
    for start in range(0, len(whole), 1000):
        peer.send(whole[start : start + 1000])
        assert not any(item.kind in (FrameType.RST_STREAM, FrameType.GOAWAY) for item in peer.wait(1))
    assert peer.service.kept[-1].message == bytes(60_000)


def test_a_frame_for_nobody_ends_the_connection() -> None:
    peer = Slow()
    peer.send(peer.headers(1), data(1, message(bytes(100)))[:50])
    assert kinds(peer.wait(40))[-1] == "GOAWAY"
    assert peer.counters["header_timeout"] == 1


def test_requests_that_wait_for_us_have_time() -> None:
    peer = Slow(Limits(max_upload_bytes=100_000, stream_window_bytes=65_535))
    for stream_id in (1, 3):
        peer.send(peer.headers(stream_id), data(stream_id, message(bytes(90_000))[:30_000], end=False))
        peer.send(data(stream_id, bytes(30_000), end=False))
    frames = peer.wait(40)
    assert {item.stream_id for item in frames if item.kind == FrameType.RST_STREAM} == {1}
    assert {item.stream_id for item in frames if item.kind == FrameType.WINDOW_UPDATE} == {3}


def shut_out(peer: Peer, initial: int) -> None:
    """A reply of 10,000 bytes waits for the window of stream 1."""
    peer.send(settings(initial_window_size=initial))
    peer.keep(1).reply(bytes(10_000), NO_TRAILERS)
    peer.frames()


@pytest.mark.parametrize("trickle", [0, 1, 100])
def test_a_reply_nobody_takes_is_dropped(trickle: int) -> None:
    peer = Slow()
    shut_out(peer, 0)
    for _ in range(60):
        if trickle and peer.connection.sender.blocked:
            peer.send(window_update(1, trickle))
        frames = peer.wait(1)
        if frames:
            break
    assert only(frames, FrameType.RST_STREAM).code == ErrorCode.CANCEL
    assert peer.counters == {"write_timeout": 1}
    assert peer.connection.sender.backlog_bytes == 0
    peer.send(settings(initial_window_size=65_535))
    assert peer.works(3)


def test_a_reply_that_is_taken_slowly_arrives() -> None:
    peer = Slow()
    shut_out(peer, 0)
    for _ in range(20):
        peer.send(window_update(1, 600))
        assert not [item for item in peer.wait(1) if item.kind == FrameType.RST_STREAM]


def test_a_connection_that_shuts_everybody_out_is_closed() -> None:
    peer = Slow()
    peer.send(settings(initial_window_size=2**20))
    peer.keep(1).reply(bytes(70_000), NO_TRAILERS)
    peer.frames()
    assert peer.wait(30) == []
    assert only(peer.wait(1), FrameType.GOAWAY).code == ErrorCode.ENHANCE_YOUR_CALM
    assert peer.counters == {"write_timeout": 1}


def test_a_full_socket_is_waited_for_as_long_as_it_drains() -> None:
    peer = Slow()
    peer.buffered_bytes = 100_000
    for _ in range(100):
        peer.buffered_bytes -= 600
        assert peer.wait(1) == []
    assert kinds(peer.wait(31)) == ["GOAWAY"]


def test_zero_means_for_ever() -> None:
    peer = Slow(Limits(upload_timeout_s=0.0, write_timeout_s=0.0))
    shut_out(peer, 0)
    peer.send(peer.headers(3))
    peer.send(data(3, message(b"whole"))[:12])
    assert peer.wait(1000) == []
    assert peer.counters == {}


def test_a_silent_peer_is_asked_and_given_up() -> None:
    peer = Slow(Limits(keepalive_time_s=60.0, keepalive_timeout_s=20.0))
    call = peer.keep(1)
    peer.wait(30)
    (ping,) = peer.wait(40)
    assert (ping.kind, ping.flags, len(ping.payload)) == (FrameType.PING, 0, 8)
    peer.now_s += 70
    assert peer.send(frame(FrameType.PING, 1, 0, ping.payload)) == []
    assert kinds(peer.wait(70)) == ["PING"], "the answer counted"
    assert only(peer.wait(20), FrameType.GOAWAY).code == ErrorCode.NO_ERROR
    assert call.closed
    assert peer.counters == {"keepalive": 1}


def test_a_closed_connection_is_not_looked_at() -> None:
    peer = Slow()
    peer.send(PREFACE)
    assert peer.connection.finished
    assert peer.wait(100) == []
