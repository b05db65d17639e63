"""gRFC A9: when a connection has had its time."""

import pytest

from gateway.transport.h2.lifetime import Lifetime, Verdict
from gateway.transport.h2.limits import Limits

NEVER = Limits(idle_timeout_s=0.0)


def verdicts(life: Lifetime, seconds: int, *, idle: bool = False, opened: int = 0) -> list[tuple[int, str]]:
    """(second, verdict) for those that are no STAYS."""
    said = ((second, life.look(1.0, idle=idle, opened=opened)) for second in range(1, seconds + 1))
    return [(second, verdict.value) for second, verdict in said if verdict]


def test_an_idle_connection_goes_once() -> None:
    life = Lifetime(Limits(idle_timeout_s=60.0))
    assert verdicts(life, 1000) == [], "a call is under way"
    assert verdicts(life, 60, idle=True) == []
    assert verdicts(life, 60, idle=True, opened=1) == [], "there was a call between two looks"
    assert verdicts(life, 100, idle=True, opened=1) == [(2, "max_idle")]


def test_by_default_an_hour_of_idleness_ends_a_connection_and_age_does_not() -> None:
    assert verdicts(Lifetime(Limits()), 4000, idle=True) == [(3601, "max_idle")]
    assert verdicts(Lifetime(Limits()), 100_000) == []
    assert verdicts(Lifetime(NEVER), 100_000, idle=True) == []


@pytest.mark.parametrize(("luck", "second"), [(0.0, 91), (0.5, 101), (1.0, 111)])
def test_age_differs_by_a_tenth(luck: float, second: int) -> None:
    assert verdicts(Lifetime(Limits(max_age_s=100.0), luck), 1000) == [(second, "max_age")]


def test_calls_have_a_grace_after_that() -> None:
    life = Lifetime(Limits(max_age_s=100.0, max_age_grace_s=30.0))
    assert verdicts(life, 1000) == [(101, "max_age"), (132, "max_age_grace")]


def test_idleness_needs_no_grace() -> None:
    life = Lifetime(Limits(idle_timeout_s=60.0, max_age_s=1000.0, max_age_grace_s=30.0))
    assert verdicts(life, 5000, idle=True) == [(61, Verdict.IDLE)]


def test_a_call_that_came_while_an_idle_connection_was_sent_away_has_no_more_time_than_others() -> None:
    life = Lifetime(Limits(idle_timeout_s=10.0, max_age_s=100.0, max_age_grace_s=30.0))
    assert verdicts(life, 12, idle=True) == [(11, "max_idle")]
    assert verdicts(life, 1000, opened=1) == [(89, "max_age"), (120, "max_age_grace")]
