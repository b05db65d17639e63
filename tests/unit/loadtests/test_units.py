"""Quantities with their units."""

import pytest

from loadtests import units


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250us", 250e-6), ("250 µs", 250e-6), ("5ms", 0.005), ("1.5s", 1.5), ("2min", 120), ("2m", 120), ("1h", 3600)],
)
def test_durations(text: str, seconds: float) -> None:
    assert units.duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("wrong", ["5", "ms", "-5ms", "5 parsecs", "", "5ms 3s", "1e3s", 5, 5.0, None, True, "200/s"])
def test_a_duration_needs_its_unit(wrong: object) -> None:
    with pytest.raises(units.UnitError, match="is not a duration such as"):
        units.duration_s(wrong)


def test_rates_and_percentages() -> None:
    assert units.rate_per_s("200/s") == 200
    assert units.rate_per_s("6000/min") == pytest.approx(100)
    assert units.fraction("0.1%") == pytest.approx(0.001)
    with pytest.raises(units.UnitError, match="more than 100%"):
        units.fraction("101%")
    with pytest.raises(units.UnitError, match='rate such as "200/s"'):
        units.rate_per_s("200")


@pytest.mark.parametrize(
    ("value_us", "text"),
    [(0, "0 µs"), (830.4, "830 µs"), (4210, "4.21 ms"), (42_100, "42.1 ms"), (421_000, "421 ms"), (1.2e6, "1.20 s"),
     (None, "no answer")],
)  # fmt: skip
def test_durations_for_people(value_us: float | None, text: str) -> None:
    assert units.format_us(value_us) == text


def test_rates_and_percentages_for_people() -> None:
    assert [units.format_rate(rate) for rate in (0, 99.75, 12_400.4)] == ["0/s", "99.75/s", "12,400/s"]
    assert [units.format_percent(part) for part in (0, 0.00025, 0.125, 1)] == ["0%", "0.025%", "12.5%", "100%"]
