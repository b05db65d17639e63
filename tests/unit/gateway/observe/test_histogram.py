import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.observe.histogram import BUCKET_COUNT, index, lower_bound_us, quantile_us, upper_bound_us


@given(st.integers(min_value=0, max_value=(1 << 37) - 1))
def test_a_value_lies_within_its_bucket_and_the_bucket_within_an_eighth(value: int) -> None:
    bucket = index(value)
    low, high = lower_bound_us(bucket), upper_bound_us(bucket)
    assert low <= value < high
    assert high - low <= max(1, low // 8)


@given(st.integers(min_value=0, max_value=1 << 40), st.integers(min_value=0, max_value=1 << 40))
def test_buckets_keep_the_order_of_values(a: int, b: int) -> None:
    assert (index(min(a, b))) <= index(max(a, b)) < BUCKET_COUNT


def test_negative_counts_as_zero_and_the_last_bucket_takes_the_rest() -> None:
    assert index(-5) == 0
    assert index(1 << 60) == BUCKET_COUNT - 1


def test_quantile_of_nothing_is_zero() -> None:
    assert quantile_us({}, 0.99) == 0.0


@given(st.lists(st.integers(min_value=0, max_value=10_000_000), min_size=1, max_size=200), st.floats(0, 1))
def test_quantile_is_as_near_as_one_bucket(values: list[int], fraction: float) -> None:
    counts: dict[int, int] = {}
    for value in values:
        counts[index(value)] = counts.get(index(value), 0) + 1
    ordered = sorted(values)
    position = min(len(ordered) - 1, max(0, int(fraction * len(ordered) - 1e-9)))
    bucket = index(ordered[position])
    assert lower_bound_us(bucket) <= quantile_us(counts, fraction) <= upper_bound_us(bucket)


def test_quantile_interpolates_inside_its_bucket() -> None:
    assert quantile_us({index(1024): 100}, 0.5) == pytest.approx(1024 + 64)
