import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.controlplane.units import BYTES, SECONDS, duration_s, size_bytes, written_duration, written_size


@pytest.mark.parametrize(("written", "seconds"), [("250ms", 0.25), ("20s", 20.0), ("1.5m", 90.0), (" 1 h ", 3600.0)])
def test_durations(written: str, seconds: float) -> None:
    assert duration_s(written) == seconds


@pytest.mark.parametrize(("written", "size"), [("512B", 512), ("64KiB", 65536), ("0.5MiB", 524288), ("1GiB", 1 << 30)])
def test_sizes(written: str, size: int) -> None:
    assert size_bytes(written) == size


@pytest.mark.parametrize("written", [20, 1.5, True, None, "", "20", "s", "20 sec", "-1s", "1e3s", "4MiB"])
def test_anything_else_is_told_the_units_of_durations(written: object) -> None:
    with pytest.raises(ValueError, match='must be a number with one of the units ms, s, m, h, such as "20s"'):
        duration_s(written)


def test_a_duration_beyond_a_day_is_refused() -> None:
    assert duration_s("24h") == 86_400
    with pytest.raises(ValueError, match="must be at most 24h"):
        duration_s("99999999999999999h")


@pytest.mark.parametrize("written", [4, "4MB", "4mib", "20s"])
def test_anything_else_is_told_the_units_of_sizes(written: object) -> None:
    with pytest.raises(ValueError, match="one of the units B, KiB, MiB, GiB"):
        size_bytes(written)


@given(st.integers(0, 24), st.sampled_from(sorted(SECONDS)), st.sampled_from(sorted(BYTES)))
def test_whole_numbers_are_exact_in_every_unit(number: int, unit_s: str, unit_bytes: str) -> None:
    assert duration_s(f"{number}{unit_s}") == number * SECONDS[unit_s]
    assert size_bytes(f"{number}{unit_bytes}") == number * BYTES[unit_bytes]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0s"), (20.0, "20s"), (0.25, "250ms"), (3600.0, "1h"), (60.0, "1m"), (1e-5, "0.00001s")]
)
def test_durations_are_written_in_the_largest_unit_that_fits(seconds: float, text: str) -> None:
    assert written_duration(seconds) == text


@given(st.floats(0, 86_400), st.integers(1, 2**31 - 1))
def test_every_duration_and_size_survives(seconds: float, size: int) -> None:
    assert duration_s(written_duration(seconds)) == seconds
    assert size_bytes(written_size(size)) == size
