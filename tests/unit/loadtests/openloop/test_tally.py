from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.openloop.tally import Slices, Tally, report, warnings
from loadtests.schedule import Stage

ANSWERS = st.lists(st.tuples(st.sampled_from(["OK", "RESOURCE_EXHAUSTED"]), st.integers(0, 10**7)))


def tallied(answers: list[tuple[str, int]], deadline_us: int = 0) -> Tally:
    tally = Tally()
    for status, latency_us in answers:
        tally.intended += 1
        tally.answered(status, latency_us, deadline_us)
    return tally


@given(ANSWERS, ANSWERS)
def test_stages_add_up(one: list[tuple[str, int]], two: list[tuple[str, int]]) -> None:
    stages = (Stage("warm", 1, 1, 1, measured=False), Stage("a", 1, 1, 1), Stage("b", 3, 1, 1))
    told = report(stages, [tallied([("OK", 5)]), tallied(one), tallied(two)], Slices(1.0))
    both = tallied(one + two).told(4.0)
    assert told["measured"] == both
    assert [stage["measured"] for stage in told["stages"]] == [False, True, True]


@given(ANSWERS)
def test_requests_that_were_not_answered_well_rank_behind_all_others(answers: list[tuple[str, int]]) -> None:
    told = tallied(answers).told(1.0)
    good = sorted(latency for status, latency in answers if status == "OK")
    if 2 * len(good) < len(answers):
        assert told["ranked_us"]["p50"] is None
    if good:
        middle = good[(len(good) - 1) // 2]
        assert told["latency_us"]["p50"] == pytest.approx(middle, rel=0.01)
        assert told["latency_us"]["max"] == good[-1]


def test_everything_is_accounted_for() -> None:
    tally = tallied([("OK", 10), ("OK", 300), ("INTERNAL", 5)], deadline_us=100)
    tally.intended += 3
    tally.unsent += 1
    told = tally.told(2.0)
    assert (told["intended"], told["late"], told["unsent"], told["unanswered"]) == (6, 1, 1, 2)
    assert told["answers"] == {"INTERNAL": 1, "OK": 2}
    assert (told["ok_per_s"], told["intended_per_s"]) == (1.0, 3.0)


def test_slices_are_told_in_order() -> None:
    slices = Slices(0.25)
    for at_s in (1.1, 0.1, 1.2):
        slices.at(at_s).intended += 1
    assert [(each["at_s"], each["intended"]) for each in slices.told()] == [(0.0, 1), (1.0, 2)]


@pytest.mark.parametrize(
    ("delay_us", "unsent", "unanswered", "said"),
    [
        (10, 0, 0, []),
        (700, 0, 0, ["late itself"]),
        (10, 2, 3, ["2 requests were not sent", "3 requests had no answer"]),
    ],
)
def test_a_run_that_was_spoiled_says_so(delay_us: int, unsent: int, unanswered: int, said: list[str]) -> None:
    measured: dict[str, Any] = {"send_delay_us": {"p99": delay_us}, "latency_us": {"p99": 1000}}
    found = warnings(measured | {"unsent": unsent, "unanswered": unanswered})
    assert len(found) == len(said)
    assert all(words in sentence for words, sentence in zip(said, found, strict=True))
