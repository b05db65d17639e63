import logging

import pytest

from gateway.errors import Code
from gateway.transport.call import NO_TRAILERS, Trailers
from gateway.transport.h2.frames import FrameType
from gateway.transport.h2.limits import Limits
from tests.unit.gateway.transport.h2.peer import Peer, kinds, only, reset


def test_what_a_handler_sees() -> None:
    peer = Peer()
    peer.now_s = 7.0
    peer.send(peer.request(1, b"kept", (":path", "/test.Echo/Keep"), ("grpc-timeout", "2S"), ("x-user-id", "u1")))
    (call,) = peer.service.kept
    assert (call.message, call.arrived_s, call.deadline_s, call.closed, call.on_cancel) == (
        b"kept",
        7.0,
        9.0,
        False,
        None,
    )
    assert call.metadata.path == "/test.Echo/Keep"
    assert call.metadata.values["x-user-id"] == "u1"


def test_no_timeout_is_no_deadline() -> None:
    assert Peer().keep(1).deadline_s == float("inf")


def test_trailers_travel_behind_the_reply() -> None:
    peer = Peer()
    peer.keep(1).reply(b"", Trailers(("cutover-arm", "stable")))
    assert peer.answers(peer.frames())[1][1]["cutover-arm"] == "stable"


def test_a_failure_is_trailers_only() -> None:
    peer = Peer()
    peer.keep(1).fail(Code.NOT_FOUND, "no model 'x'", Trailers(("cutover-reason", "none")))
    frames = peer.frames()
    assert kinds(frames) == ["HEADERS"]
    assert frames[0].flags == 5
    pairs = peer.fields(frames[0])
    assert (pairs["grpc-status"], pairs["grpc-message"], pairs["cutover-reason"]) == ("5", "no model 'x'", "none")


def test_only_the_first_answer_counts() -> None:
    peer = Peer()
    call = peer.keep(1)
    call.reply(b"first", NO_TRAILERS)
    call.reply(b"second", NO_TRAILERS)
    call.fail(Code.INTERNAL, "third")
    assert len(peer.frames()) == 3


def test_a_cancelled_call_hears_of_it_once_and_says_nothing() -> None:
    peer = Peer()
    call = peer.keep(1)
    heard: list[bool] = []
    call.on_cancel = lambda: heard.append(call.closed)
    assert peer.send(reset(1), reset(1)) == []
    assert heard == [True]
    call.reply(b"late", NO_TRAILERS)
    call.fail(Code.INTERNAL, "late")
    assert peer.frames() == []


def test_work_that_goes_on_keeps_the_place_of_its_call() -> None:
    peer = Peer(Limits(max_streams=1))
    call = peer.keep(1)
    call.on_cancel = lambda: True
    peer.send(reset(1))
    assert only(peer.send(peer.request(3)), FrameType.RST_STREAM).code == 7
    call.fail(Code.CANCELLED, "ended")
    assert peer.works(5)


def test_who_hears_of_it_may_answer_at_once() -> None:
    peer = Peer(Limits(max_streams=1))
    call = peer.keep(1)

    def heard() -> bool:
        call.fail(Code.CANCELLED, "ended")
        return True

    call.on_cancel = heard
    peer.send(reset(1))
    assert peer.works(3)


def test_an_answered_call_is_not_cancelled() -> None:
    peer = Peer()
    call = peer.keep(1)
    call.on_cancel = lambda: pytest.fail("answered")
    call.reply(b"", NO_TRAILERS)
    peer.connection.lost()


def test_a_lost_connection_cancels_everything() -> None:
    peer = Peer()
    heard: list[int] = []
    for stream_id in (1, 3):
        peer.keep(stream_id).on_cancel = lambda stream_id=stream_id: heard.append(stream_id)
    peer.connection.lost()
    assert heard == [1, 3]
    assert peer.connection.idle


def test_a_handler_that_raises_is_an_internal_error(caplog: pytest.LogCaptureFixture) -> None:
    peer = Peer()
    with caplog.at_level(logging.ERROR):
        for stream_id in (1, 3, 5):  # the slow way, then the quick one
            frames = peer.send(peer.request(stream_id, b"", (":path", "/test.Echo/Crash")))
            pairs = peer.fields(only(frames, FrameType.HEADERS))
            assert (pairs["grpc-status"], pairs["grpc-message"]) == ("13", "internal error")
    assert "as ordered" in caplog.text
    assert peer.works(7)


def test_an_on_cancel_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise RuntimeError("as ordered")

    peer = Peer()
    peer.keep(1).on_cancel = fail
    peer.send(reset(1))
    assert "as ordered" in caplog.text
    assert peer.works(3)
