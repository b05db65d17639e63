"""Judging is pure: what was measured, what was asked for, one line each."""

import pytest

from loadtests import verdict
from loadtests.recorder import OK, Tally
from loadtests.slo import Slo


def tally(ok: int, *, latency_us: int = 1000, failed: int = 0, unsent: int = 0) -> Tally:
    made = Tally()
    made.intended = ok + failed + unsent
    made.outcomes[OK] = ok
    made.outcomes["UNAVAILABLE"] = failed
    for _ in range(ok):
        made.latency.add(latency_us)
    return made


ALL = Slo((("p99", 2000.0), ("mean", 1500.0), ("max", 5000.0)), 0.01, 90.0, 0.99, 500)


def test_everything_met() -> None:
    found = verdict.judge(tally(1000), 10.0, ALL)
    assert found.passed
    assert [objective.text for objective in found.objectives] == [
        "p99 1.00 ms ≤ 2.00 ms (n = 1,000)",
        "mean 1.00 ms ≤ 1.50 ms (n = 1,000)",
        "max 1.00 ms ≤ 5.00 ms (n = 1,000)",
        "error rate 0% ≤ 1% (n = 1,000)",
        "throughput 100/s ≥ 90/s (n = 1,000)",
        "answered of intended 100% ≥ 99% (n = 1,000)",
    ]


def test_each_bound_can_break() -> None:
    found = verdict.judge(tally(980, latency_us=6000, failed=15, unsent=5), 20.0, ALL)
    assert found.result == "fail"
    assert {objective.result for objective in found.objectives} == {"fail"}
    texts = [objective.text for objective in found.objectives]
    assert texts[0] == "p99 no answer > 2.00 ms (n = 1,000)"
    assert texts[2] == "max 6.00 ms > 5.00 ms (n = 1,000)"
    assert texts[3] == "error rate 2% > 1% (n = 1,000)"
    assert texts[4] == "throughput 49/s < 90/s (n = 1,000)"
    assert texts[5] == "answered of intended 98% < 99% (n = 1,000)"


def test_few_requests_are_inconclusive_and_not_passed() -> None:
    found = verdict.judge(tally(499), 5.0, ALL)
    assert found.result == "inconclusive"
    assert not found.passed
    assert found.objectives[0].text.endswith("(n = 499): needs 500 requests")


def test_nothing_at_all_is_inconclusive() -> None:
    assert verdict.judge(Tally(), 0.0, ALL).result == "inconclusive"


def test_a_dead_service_fails() -> None:
    assert verdict.judge(tally(0, failed=1000), 10.0, ALL).result == "fail"


@pytest.mark.parametrize(("fraction", "needed"), [(0.5, 6), (0.9, 30), (0.99, 300), (0.999, 3000)])
def test_a_percentile_needs_enough_requests_to_speak_of(fraction: float, needed: int) -> None:
    assert verdict.needed(fraction) == needed


def test_a_percentile_beyond_the_sample_does_not_spoil_the_others() -> None:
    slo = Slo((("p50", 2000.0), ("p99.9", 2000.0)), min_requests=100)
    found = verdict.judge(tally(1000), 10.0, slo)
    assert [objective.result for objective in found.objectives] == ["pass", "inconclusive"]
    assert found.result == "inconclusive"
    assert verdict.judge(tally(1000, latency_us=3000), 10.0, slo).result == "fail"


def test_a_bound_is_met_when_it_is_reached() -> None:
    slo = Slo((("max", 1000.0),), max_error_rate=0.0, min_requests=1)
    assert verdict.judge(tally(10), 1.0, slo).passed


def late(measured: Tally, late_us: int) -> Tally:
    """As if the load generator had handed out every request that late."""
    for _ in range(measured.intended):
        measured.pacing.add(late_us)
    return measured


def test_a_late_load_generator_cannot_break_a_latency_bound() -> None:
    slo = Slo((("p99", 2000.0), ("mean", 2000.0), ("p50", 4000.0)))
    found = verdict.judge(late(tally(1000, latency_us=3000), 1500), 10.0, slo)
    assert [objective.result for objective in found.objectives] == ["inconclusive", "inconclusive", "pass"]
    assert found.result == "inconclusive"
    assert found.objectives[0].text == (
        "p99 3.00 ms > 2.00 ms (n = 1,000): the load generator itself was late (p99 1.50 ms), so this says little"
    )


@pytest.mark.parametrize(("late_us", "result"), [(1000, "fail"), (1001, "inconclusive")])
def test_up_to_half_of_the_bound_is_not_late(late_us: int, result: str) -> None:
    slo = Slo((("max", 2000.0),))
    assert verdict.judge(late(tally(1000, latency_us=3000), late_us), 10.0, slo).result == result


def test_a_late_load_generator_excuses_no_errors() -> None:
    slo = Slo((("p99", 2000.0),), max_error_rate=0.01)
    found = verdict.judge(late(tally(900, failed=100), 5000), 10.0, slo)
    assert [objective.result for objective in found.objectives] == ["fail", "fail"]


def test_waiting_for_a_slow_service_is_not_the_load_generators_delay() -> None:
    slow = late(tally(1000, latency_us=9000), 100)
    for _ in range(1000):
        slow.delay.add(8000)
    assert verdict.judge(slow, 10.0, Slo((("p99", 2000.0),))).result == "fail"
