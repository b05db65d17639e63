from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane.cost import Cost

sizes = st.integers(1, 512)
durations_us = st.floats(1.0, 1e8)


@given(st.floats(0.0, 1e5), st.floats(0.0, 1e6), st.sets(sizes, min_size=2, max_size=20))
def test_a_straight_line_is_found_exactly(row_us: float, start_us: float, rows: set[int]) -> None:
    cost = Cost()
    for n in rows:
        cost.observe(n, row_us * n + start_us)
    for n in (1, 64, 512):
        assert cost.run_us(n) == pytest.approx(row_us * n + start_us, rel=1e-3, abs=1e-3)


@given(st.lists(st.tuples(sizes, durations_us), max_size=100), st.lists(st.tuples(sizes, st.integers(1, 10**8))))
def test_whatever_is_seen_more_rows_never_cost_less_and_nothing_costs_less_than_nothing(
    seen: list[tuple[int, float]], anchors: list[tuple[int, int]]
) -> None:
    cost = Cost(anchors)
    for rows, took_us in seen:
        cost.observe(rows, took_us)
    assert cost.row_us >= 0
    assert cost.start_us >= 0
    assert 0 <= cost.run_us(1) <= cost.run_us(64)


@given(st.floats(0.1, 1e4), st.floats(0.0, 1e4), st.floats(0.0, 1e6))
def test_the_rows_within_a_time_take_that_time(row_us: float, start_us: float, us: float) -> None:
    cost = Cost()
    cost.row_us, cost.start_us = row_us, start_us
    rows = cost.rows_within(us)
    assert rows == 0 if us < start_us else row_us * rows + start_us == pytest.approx(us, abs=1e-6)


def test_before_anything_is_seen_everything_is_in_time() -> None:
    assert Cost().run_us(64) == 0
    assert Cost().rows_within(1.0) == inf


def test_batches_of_one_size_say_nothing_of_the_slope_but_warm_up_does() -> None:
    alone, warmed = Cost(), Cost([(1, 1_000), (64, 64_000)])
    for cost in (alone, warmed):
        for _ in range(20):
            cost.observe(1, 1_000.0)
    assert alone.run_us(64) == pytest.approx(1_000)
    assert warmed.run_us(64) == pytest.approx(64_000, rel=0.01)


def test_what_warm_up_measured_fades() -> None:
    """The first run of a size can be many times as slow as all after it."""
    cost = Cost([(1, 1_000), (64, 1_000_000)])
    for _ in range(200):
        cost.observe(1, 1_000.0)
        cost.observe(32, 32_000.0)
    assert cost.run_us(64) == pytest.approx(64_000, rel=0.1)


def test_what_a_new_worker_measured_replaces_only_what_the_last_one_did() -> None:
    cost = Cost([(1, 10), (64, 10)])
    for _ in range(50):
        cost.observe(1, 1_000.0)
        cost.observe(64, 64_000.0)
    cost.anchor([(1, 1_000), (64, 64_000)])
    assert cost.run_us(64) == pytest.approx(64_000, rel=0.01)
    cost.anchor([])
    assert cost.run_us(64) == pytest.approx(64_000, rel=0.01)


@given(st.floats(1.0, 1e5), st.floats(0.0, 1e5))
def test_enough_rows_save_all_but_a_twentieth_and_more_only_if_that_is_short(row_us: float, start_us: float) -> None:
    cost = Cost()
    for n in (1, 1000):
        cost.observe(n, row_us * n + start_us)
    rows = cost.enough
    assert (cost.row_us * rows + cost.start_us) / rows <= 1.05 * cost.row_us * (1 + 1e-9)
    short = cost.row_us * rows + cost.start_us <= 5000 * (1 + 1e-9)
    assert short or rows == pytest.approx(20 * cost.start_us / cost.row_us)


def test_every_size_is_worth_it_while_rows_cost_nothing() -> None:
    assert Cost().enough == inf


def test_what_is_long_ago_is_forgotten() -> None:
    cost = Cost([(1, 100)])
    for _ in range(300):
        cost.observe(4, 100.0)
    for _ in range(300):
        cost.observe(4, 50_000.0)
    assert cost.run_us(4) == pytest.approx(50_000, rel=0.05)
