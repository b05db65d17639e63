"""What counts as good, late and refused, and when a flood is over."""

import dataclasses
from math import inf
from typing import Any

import pytest

from loadtests.bench.openloop import Found
from loadtests.overload.steps import Course, Step, aims, recovered_after_s, table
from loadtests.recorder import Histogram
from tests.unit.loadtests.overload.samples import course, step


def test_every_request_is_something() -> None:
    latencies = Histogram()
    for latency_us in (1_000, 50_000, 150_000):
        latencies.add(latency_us)
    answers = {"OK": 3, "RESOURCE_EXHAUSTED": 4, "DEADLINE_EXCEEDED": 2, "UNAVAILABLE": 1}
    met = Step(2.0, Found(7.0, 2.0, answers, 3, 1, latencies, 0.0), 1, 0.1)
    assert met.goodput == 1.0  # two in time, in two seconds
    assert (met.late, met.refused, met.others) == (3, 4, 5)
    assert 2 * met.goodput + met.late + met.refused + met.others == met.found.intended == 14
    assert met.share(7) == 0.5


def test_a_gateway_that_keeps_its_promises() -> None:
    found = aims(course())
    assert [aim.value for aim in found] == pytest.approx([0.99, 40, 1.0, 0.5], rel=0.01)
    assert {aim.verdict for aim in found} == {"reached"}


@pytest.mark.parametrize(
    ("broken", "index"),
    [(course(latency_ms=300.0), 0), (course(latency_ms=300.0), 1), (course(recovery_s=2.5), 3)],
)
def test_broken_promises(broken: Course, index: int) -> None:
    assert aims(broken)[index].verdict == "not reached"


def test_memory_that_grows_is_noticed() -> None:
    good = course()
    grown = dataclasses.replace(good, steps=[*good.steps[:-1], step(10.0, memory_bytes=150_000_000)])
    assert aims(grown)[2].verdict == "not reached"


def test_who_was_accepted_and_not_answered_ranks_behind() -> None:
    latencies = Histogram()
    for _ in range(2760):
        latencies.add(60_000)
    answers = {"OK": 2760, "DEADLINE_EXCEEDED": 240, "RESOURCE_EXHAUSTED": 27_000}
    late = Step(10.0, Found(5000.0, 6.0, answers, 0, 0, latencies, 10.0), 100, 0.1)
    assert late.p99_us is None
    p99 = aims(dataclasses.replace(course(), steps=[late]))[1]
    assert (p99.value, p99.verdict) == (inf, "not reached")
    answers = {"OK": 2760, "DEADLINE_EXCEEDED": 20, "RESOURCE_EXHAUSTED": 27_220}
    assert Step(10.0, Found(5000.0, 6.0, answers, 500, 0, latencies, 10.0), 100, 0.1).p99_us == 60_000


def test_a_flood_after_which_nothing_became_normal_broke_the_promise() -> None:
    assert aims(course(recovery_s=None))[3].verdict == "not reached"


def test_what_was_not_measured_reaches_nothing() -> None:
    assert {aim.verdict for aim in aims(Course(500, "50ms", 0.1, [], None))} == {"not measured"}


def test_the_table_has_a_row_for_each_load() -> None:
    lines = list(table(course()))
    assert "| 10 × | 5,000 | 495 | 90% | 0.1% | 0% | 40.2 ms | 40.2 ms | 120 | 100 µs |" in lines
    assert lines[0].startswith("capacity 500/s (closed loop), max_queue_wait 50ms, objective: p99 of accepted")
    assert lines[-2].endswith("normal within 0.50 s.")
    assert "not again while it looked" in list(table(course(recovery_s=None)))[-2]


def report(*slices: tuple[float, int, float | None]) -> dict[str, Any]:
    """One second before (p99 10 ms), one of flood, then these slices: (at_s, refused of 10, p99 in ms)."""
    return {
        "stages": [{"seconds": 1.0, "latency_us": {"p99": 10_000}}, {"seconds": 1.0, "latency_us": {"p99": None}}, {}],
        "slices": [
            {
                "at_s": at_s,
                "intended": 10,
                "answers": {"OK": 10 - refused, "RESOURCE_EXHAUSTED": refused},
                "latency_us": {"p99": p99_ms and p99_ms * 1000},
            }
            for at_s, refused, p99_ms in slices
        ],
    }


@pytest.mark.parametrize(
    ("slices", "seconds"),
    [
        ([(1.75, 0, 5), (2.0, 0, 9), (2.25, 0, 9)], 0.0),
        ([(2.0, 3, 9), (2.25, 0, 30), (2.5, 0, 19), (2.75, 0, 20)], 0.5),
        ([(2.0, 0, 9), (2.25, 1, 9), (2.5, 0, 9), (2.75, 0, 9)], 0.5),
        ([(2.0, 10, None), (2.25, 10, None)], None),
        ([(2.0, 0, 9)], None),
        ([], None),
    ],
)
def test_it_is_over_when_two_slices_in_a_row_are_normal(
    slices: list[tuple[float, int, float | None]], seconds: float | None
) -> None:
    assert recovered_after_s(report(*slices)) == seconds
