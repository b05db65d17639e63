"""Streaming calls and time: deadlines, silence, messages that never end."""

import pytest

from gateway.transport.call import Stream
from gateway.transport.h2.limits import Limits
from tests.unit.gateway.transport.h2.peer import Frame, data, kinds, message
from tests.unit.gateway.transport.h2.test_patience import Slow

HALF = message(bytes(1000))[:500]


def listen(peer: Slow, *more: tuple[str, str], path: str = "Listen") -> Stream:
    peer.send(peer.headers(1, (":path", f"/test.Echo/{path}"), *more))
    return peer.service.streams[-1]


def status(peer: Slow, frames: list[Frame]) -> str:
    """grpc-status of the stream that these frames end; the peer is told to stop, too."""
    assert kinds(frames) == ["HEADERS", "RST_STREAM"]
    return peer.fields(frames[0])["grpc-status"]


def test_a_stream_past_its_deadline_is_ended() -> None:
    peer = Slow()
    stream = listen(peer, ("grpc-timeout", "60S"))
    assert peer.wait(60) == []
    assert status(peer, peer.wait(1)) == "4"
    assert stream.closed
    assert peer.service.heard == ["cancel"]
    assert peer.counters == {}, "no limit of ours struck"
    assert peer.works(3)


def test_silence_ends_a_stream() -> None:
    peer = Slow()
    stream = listen(peer)
    for _ in range(3):
        assert peer.wait(300) == []
        peer.send(data(1, message(b"a"), end=False))
    for _ in range(3):
        assert peer.wait(300) == []
        stream.send(b"an answer")
        peer.frames()
    assert status(peer, peer.wait(302)) == "14"
    assert peer.service.heard == [b"a", b"a", b"a", "cancel"]
    assert peer.counters == {"stream_idle": 1}


@pytest.mark.parametrize(("limits", "path"), [(Limits(), "Watch"), (Limits(stream_idle_timeout_s=0.0), "Listen")])
def test_a_stream_that_may_idle_does(limits: Limits, path: str) -> None:
    peer = Slow(limits)
    listen(peer, path=path)
    assert [kind for kind in kinds(peer.wait(7000)) if kind != "PING"] == []


def test_only_a_message_that_has_begun_is_waited_for() -> None:
    peer = Slow()
    listen(peer)
    assert peer.wait(200) == []
    peer.send(data(1, HALF, end=False))
    assert peer.wait(30) == []
    assert status(peer, peer.wait(3)) == "4"
    assert peer.counters == {"upload_timeout": 1}


def test_every_message_has_its_own_time() -> None:
    peer = Slow()
    listen(peer)
    rest = message(bytes(1000))[500:]
    peer.send(data(1, HALF, end=False))
    for _ in range(20):
        assert peer.wait(20) == []
        peer.send(data(1, rest + HALF, end=False))
    assert len(peer.service.heard) == 20


def test_a_stream_that_its_service_has_paused_has_time() -> None:
    peer = Slow()
    listen(peer).pause()
    peer.send(data(1, HALF, end=False))
    assert peer.wait(200) == []


def test_zero_means_for_ever() -> None:
    peer = Slow(Limits(upload_timeout_s=0.0, stream_idle_timeout_s=0.0))
    listen(peer)
    peer.send(data(1, HALF, end=False))
    assert peer.wait(5000) == []


def test_an_answer_nobody_takes_is_dropped() -> None:
    peer = Slow()
    stream = listen(peer)
    for _ in range(3):
        stream.send(bytes(100_000))
    peer.frames()
    assert kinds(peer.wait(32)) == ["GOAWAY"], "the connection's window is shut"
    assert stream.closed
    assert peer.counters == {"write_timeout": 1}
