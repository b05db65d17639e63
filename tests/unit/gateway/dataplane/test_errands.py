from math import inf

import pytest

from gateway.dataplane.errands import GONE, LONG_S, MAX_ERRANDS, MAX_MESSAGE_BYTES, QUICK_S, Errands
from gateway.errors import Code, NotFound
from gateway.oip import status
from gateway.routing import link
from gateway.transport.call import Peer
from tests.unit.gateway.dataplane.fakes import FakeCall


class Bench:
    """Errands whose questions are collected."""

    def __init__(self) -> None:
        self.sent: list[link.Errand] = []
        self.errands = Errands(self.sent.append)

    def ask(self, message: bytes = b"q", *, limit_s: float = QUICK_S, deadline_s: float = inf) -> FakeCall:
        call = FakeCall(message, deadline_s=deadline_s)
        self.errands.handler("Kind", limit_s)(call)
        return call


def test_the_question_goes_out_as_it_came_and_the_answer_goes_to_who_asked() -> None:
    bench = Bench()
    calls = [bench.ask(b"a"), bench.ask(b"b")]
    assert [(sent.kind, sent.message) for sent in bench.sent] == [("Kind", b"a"), ("Kind", b"b")]
    for sent in reversed(bench.sent):
        bench.errands.done(link.ErrandDone(sent.number, sent.message.upper()))
    assert [(call.code, call.body) for call in calls] == [(Code.OK, b"A"), (Code.OK, b"B")]


@pytest.mark.parametrize(
    ("peer", "named"), [(Peer("127.0.0.1:1", "spiffe://a"), "spiffe://a"), (Peer("127.0.0.1:1"), "127.0.0.1:1")]
)
def test_the_control_process_is_told_who_asks(peer: Peer, named: str) -> None:
    bench = Bench()
    call = FakeCall(b"")
    call.peer = peer
    bench.errands.handler("Kind")(call)
    assert bench.sent[0].peer == named


def test_an_error_keeps_its_code_its_text_and_its_details() -> None:
    bench = Bench()
    call, error = bench.ask(), NotFound("there is no model m")
    details = status.details(error)
    bench.errands.done(link.ErrandDone(bench.sent[0].number, b"", error.code, str(error), details))
    assert (call.code, call.text, call.trailers) == (Code.NOT_FOUND, str(error), {status.DETAILS: details})


def test_who_asks_too_much_at_once_is_refused() -> None:
    bench = Bench()
    for _ in range(MAX_ERRANDS):
        bench.ask()
    refused = bench.ask()
    assert (refused.code, refused.words) == (Code.RESOURCE_EXHAUSTED, {"grpc-retry-pushback-ms": "1000"})
    bench.errands.done(link.ErrandDone(bench.sent[0].number))
    assert bench.ask().code is None


def test_what_was_given_up_keeps_its_place_until_the_control_process_has_answered() -> None:
    """Else whoever asks with short deadlines would have it work on any number at once."""
    bench = Bench()
    for number in range(MAX_ERRANDS):
        call = bench.ask(deadline_s=1.0 if number % 2 else inf)
        if number % 3 == 0:
            call.cancel()
    bench.errands.sweep(QUICK_S)
    assert bench.ask().code == Code.RESOURCE_EXHAUSTED
    assert len(bench.sent) == MAX_ERRANDS
    bench.errands.done(link.ErrandDone(bench.sent[0].number))
    bench.errands.done(link.ErrandDone(bench.sent[0].number))
    assert [bench.ask().code for _ in range(2)] == [None, Code.RESOURCE_EXHAUSTED]


def test_a_message_that_no_such_call_can_need_does_not_go_out() -> None:
    bench = Bench()
    refused = bench.ask(bytes(MAX_MESSAGE_BYTES + 1))
    assert (refused.code, refused.text) == (
        Code.INVALID_ARGUMENT,
        "Kind: 1048577 bytes; at most 1048576 are taken, and files of models go into the models directory",
    )
    assert bench.ask(bytes(MAX_MESSAGE_BYTES)).code is None
    assert len(bench.sent) == 1


def test_nobody_waits_for_a_control_process_that_keeps_silent() -> None:
    bench = Bench()
    quick, long, hurried = bench.ask(), bench.ask(limit_s=LONG_S), bench.ask(deadline_s=3.0)
    bench.errands.sweep(2.9)
    assert [call.code for call in (quick, long, hurried)] == [None, None, None]
    bench.errands.sweep(QUICK_S)
    assert [call.code for call in (quick, long, hurried)] == [Code.UNAVAILABLE, None, Code.DEADLINE_EXCEEDED]
    bench.errands.done(link.ErrandDone(bench.sent[0].number))  # too late: answered already
    bench.errands.done(link.ErrandDone(bench.sent[1].number, b"done"))
    assert long.body == b"done"


def test_a_caller_that_left_is_forgotten() -> None:
    bench = Bench()
    call = bench.ask()
    call.cancel()
    bench.errands.sweep(0.1)
    bench.errands.done(link.ErrandDone(bench.sent[0].number))
    assert call.answers == 0


def test_a_control_process_that_is_gone_answers_nobody() -> None:
    bench = Bench()
    waiting = bench.ask()
    bench.errands.gone()
    late = bench.ask()
    assert [(call.code, call.text) for call in (waiting, late)] == [(Code.UNAVAILABLE, GONE)] * 2
    assert len(bench.sent) == 1
