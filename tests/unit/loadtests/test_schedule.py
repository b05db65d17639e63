"""Arrivals follow the rate, and the seed."""

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests import schedule
from loadtests.schedule import Stage

stages = st.lists(
    st.builds(
        Stage,
        st.just("stage"),
        st.floats(0.1, 20),
        st.floats(0.1, 200),
        st.floats(0.1, 200),
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
).map(tuple)


@given(stages, st.sampled_from(schedule.ARRIVALS), st.integers(0, 9))
@settings(deadline=None, max_examples=50)
def test_arrivals_are_in_order_in_their_stage_and_repeatable(made: tuple[Stage, ...], kind: str, seed: int) -> None:
    found = list(schedule.arrivals(made, kind, seed))
    assert found == list(schedule.arrivals(made, kind, seed))
    assert [arrival.number for arrival in found] == list(range(len(found)))
    assert all(one.at_s <= two.at_s for one, two in pairwise(found))
    edges = [math.fsum(stage.duration_s for stage in made[:index]) for index in range(len(made) + 1)]
    for arrival in found:
        assert edges[arrival.stage] - 1e-9 <= arrival.at_s <= edges[arrival.stage + 1] + 1e-9


@given(stages)
@settings(deadline=None, max_examples=50)
def test_constant_arrivals_are_as_many_as_the_rate_says(made: tuple[Stage, ...]) -> None:
    found = len(list(schedule.arrivals(made, "constant", 0)))
    assert abs(found - math.fsum(stage.expected for stage in made)) <= 1


def test_constant_arrivals_have_even_gaps() -> None:
    times = [arrival.at_s for arrival in schedule.arrivals(schedule.steady(2, 100, 0), "constant", 0)]
    assert len(times) == 200
    assert times == pytest.approx([0.01 * n for n in range(1, 201)])


def test_poisson_arrivals_look_like_independent_users() -> None:
    times = [arrival.at_s for arrival in schedule.arrivals(schedule.steady(100, 100, 0), "poisson", 1)]
    gaps = [two - one for one, two in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    deviation = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert mean == pytest.approx(0.01, rel=0.05)
    assert deviation / mean == pytest.approx(1, abs=0.05)  # 1 for exponential gaps, 0 for even ones
    assert times != [arrival.at_s for arrival in schedule.arrivals(schedule.steady(100, 100, 0), "poisson", 2)]


def test_a_ramp_grows_along_a_line() -> None:
    made = schedule.ramp(10, 100, 0)
    assert [stage.name for stage in made] == ["0-20%", "20-40%", "40-60%", "60-80%", "80-100%"]
    times = [arrival.at_s for arrival in schedule.arrivals(made, "constant", 0)]
    assert len(times) == 500
    assert times[0] == pytest.approx(math.sqrt(2 / 10))  # 10 more per second each second: 5 t² = 1
    assert [sum(second <= at < second + 1 for at in times) for second in range(10)] == pytest.approx(
        [5 + 10 * second for second in range(10)], abs=1
    )


def test_a_spike_is_a_multiple_for_a_fifth_of_the_time() -> None:
    made = schedule.spike(10, 50, 2, peak=4)
    assert [(stage.name, stage.duration_s, stage.start_rate, stage.measured) for stage in made] == [
        ("warm-up", 2, 50, False),
        ("before", 4, 50, True),
        ("spike", 2, 200, True),
        ("after", 4, 50, True),
    ]
    assert schedule.length_s(made) == 12


@pytest.mark.parametrize("suite", schedule.SUITES)
def test_every_suite_is_built_by_name(suite: str) -> None:
    made = schedule.build(suite, 10, 100, 1, 3)
    assert made[0] == Stage("warm-up", 1, made[0].start_rate, made[0].start_rate, measured=False)
    assert math.fsum(stage.duration_s for stage in made[1:]) == pytest.approx(10)
    assert schedule.build(suite, 10, 100, 0, 3) == made[1:]
