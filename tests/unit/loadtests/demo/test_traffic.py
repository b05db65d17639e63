"""The demo's clients: every question answered once, streams that end."""

import numpy as np

from loadtests.demo import traffic
from loadtests.demo.train import Digits
from tests.unit.loadtests.target import Serve

DIGITS = Digits(np.zeros((30, 64), np.float32), np.zeros(30, np.int64))


def test_answers_come_in_the_order_of_the_questions(serve: Serve) -> None:
    questions = [(f"user-{number}", number) for number in range(30)]
    with traffic.clients(serve(), "digits", DIGITS) as asking:
        answers = traffic.ask_all(asking, questions)
        forced = traffic.ask_all(asking, questions[:3], "canary-2")
    assert [(answer.user, answer.row) for answer in answers] == questions
    assert {(answer.version, answer.arm, answer.error) for answer in answers} == {("1", "stable", "")}
    assert {(answer.version, answer.arm) for answer in forced} == {("2", "canary-2")}
    assert all(answer.sent_s <= answer.done_s for answer in answers)


def test_failures_are_answers_too(serve: Serve) -> None:
    with traffic.clients(serve("--fail-every", "2"), "digits", DIGITS) as asking:
        answers = traffic.ask_all(asking, [("user-1", 0)] * 20)
    assert sum(answer.error == "RESOURCE_EXHAUSTED" for answer in answers) == 10


def test_a_stream_ends_with_its_block(serve: Serve) -> None:
    with (
        traffic.clients(serve(), "digits", DIGITS) as asking,
        traffic.streaming(asking, users=10, rows=30) as stream,
    ):
        stream.wait_for(50)
        seen = len(stream.answers)
    assert seen >= 50
    assert len(stream.answers) <= seen + 2 * len(asking)
    assert {answer.version for answer in stream.answers} == {"1"}
