"""Histogram, tallies and what they make of failures."""

import json
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.recorder import OK, Histogram, Recorder, Tally, bucket, upper_us
from loadtests.schedule import Stage

durations = st.lists(st.integers(0, 10**9), min_size=1, max_size=200)


def histogram(values: list[int]) -> Histogram:
    made = Histogram()
    for value in values:
        made.add(value)
    return made


@given(st.integers(0, 2**40))
def test_a_bucket_holds_its_value_within_one_percent(value: int) -> None:
    upper = upper_us(bucket(value))
    assert value <= upper <= value * 1.01
    assert bucket(upper) == bucket(value)
    assert bucket(upper + 1) == bucket(value) + 1


@given(durations, st.floats(0.001, 1))
@settings(deadline=None)
def test_quantiles_are_the_nearest_rank_within_one_percent(values: list[int], fraction: float) -> None:
    exact = sorted(values)[max(1, math.ceil(round(fraction * len(values), 9))) - 1]
    found = histogram(values).quantile_us(fraction)
    assert found is not None
    assert exact <= found <= exact * 1.01


@given(durations, st.integers(-5, 10**9))
def test_how_many_took_at_most_so_long(values: list[int], limit: int) -> None:
    found = histogram(values).within(limit)
    assert sum(value <= limit for value in values) <= found <= sum(value <= limit * 1.01 for value in values)


@given(durations, durations)
@settings(deadline=None)
def test_merging_is_adding_up(one: list[int], two: list[int]) -> None:
    merged = histogram(one)
    merged.merge(histogram(two))
    assert merged.to_json() == histogram(one + two).to_json()
    assert Histogram.from_json(json.loads(json.dumps(merged.to_json()))).quantile_us(0.9) == merged.quantile_us(0.9)


def test_an_empty_histogram_has_no_quantile() -> None:
    assert Histogram().quantile_us(0.5) is None
    assert Histogram().mean_us is None


def test_failed_and_unsent_requests_rank_behind_every_answer() -> None:
    tally = Tally()
    tally.intended = 100
    for latency in range(1, 91):
        tally.outcomes[OK] += 1
        tally.latency.add(latency)
    tally.outcomes["UNAVAILABLE"] = 7
    assert tally.unsent == 3
    assert tally.failed == 10
    assert tally.quantile_us(0.90) == 90
    assert tally.quantile_us(0.91) is None
    assert tally.errors() == {"UNAVAILABLE": 7, "UNSENT": 3}


def recorder() -> Recorder:
    made = Recorder([Stage("warm-up", 1, 10, 10, measured=False), Stage("steady", 2, 10, 10)])
    made.intend(0, 0.5, waits=False)
    made.record(0, 0.5, 0.5, 0.9, OK)
    made.intend(1, 1.5, waits=True, late_s=0.003)
    made.record(1, 1.5, 1.7, 1.75, OK)
    made.intend(1, 2.0, waits=False)
    made.record(1, 2.0, 2.0, 2.1, "WRONG_VERSION")
    made.intend(1, 2.9, waits=True)
    return made


def test_latency_counts_from_the_intended_time() -> None:
    made = recorder()
    assert made.tallies[1].latency.max_us == 250_000
    assert made.tallies[1].delay.max_us == 200_000
    assert (made.tallies[1].pacing.count, made.tallies[1].pacing.max_us) == (3, 3000)


def test_only_measured_stages_count() -> None:
    made = recorder().measured()
    assert (made.intended, made.ok, made.unsent, made.waited) == (3, 1, 1, 2)
    assert recorder().measured_s() == 2


def test_answers_beyond_the_end_lengthen_the_time() -> None:
    made = recorder()
    made.record(1, 2.9, 3.5, 4.5, OK)
    assert made.measured_s() == 3.5


def test_seconds_are_those_of_the_intended_time() -> None:
    made = recorder()
    assert {second: tally.intended for second, tally in made.seconds.items()} == {0: 1, 1: 1, 2: 2}


def test_processes_add_up() -> None:
    whole = recorder()
    whole.merge(Recorder.from_json(json.loads(json.dumps(recorder().to_json()))))
    assert whole.measured().intended == 6
    assert whole.measured().latency.count == 2
    assert whole.seconds[2].intended == 4
    assert whole.stages == recorder().stages
