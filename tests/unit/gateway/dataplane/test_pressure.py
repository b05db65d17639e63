from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane.pressure import HOLD_S, MAX_HOLD_S, RELAPSE_S, Pressure, Sample, needed_cores

IDLE = Sample(free_cores=2.0, cores=2, loop=0.1, queued=False, throttled=False)
BUSY = [
    IDLE._replace(free_cores=0.2),
    IDLE._replace(loop=0.98),
    IDLE._replace(queued=True),
    IDLE._replace(throttled=True),
]
SAMPLES = st.builds(
    Sample,
    st.none() | st.floats(0, 4),
    st.integers(1, 4),
    st.floats(0, 1),
    st.booleans(),
    st.booleans(),
)


class Clock:
    """Ten samples a second."""

    def __init__(self) -> None:
        self.pressure = Pressure()
        self.now_s = 100.0

    def add(self, sample: Sample) -> bool:
        self.now_s += 0.1
        return self.pressure.add(sample, self.now_s)

    def until_changed(self, sample: Sample, limit: int = 1000) -> float:
        """Seconds until `high` changes."""
        before_s = self.now_s
        for _ in range(limit):
            if self.add(sample):
                return self.now_s - before_s
        raise AssertionError(f"nothing has changed: {self.pressure}")


def settled(samples: Iterable[Sample]) -> bool:
    clock = Clock()
    for sample in samples:
        clock.add(sample)
    return clock.pressure.high


def test_copies_go_while_a_core_is_free() -> None:
    assert not settled([IDLE] * 100)
    assert not settled([IDLE._replace(free_cores=1.0)] * 100)


@pytest.mark.parametrize("busy", BUSY, ids=["no core", "loop", "queue", "throttled"])
def test_each_kind_of_shortage_holds_them_back_within_a_second(busy: Sample) -> None:
    clock = Clock()
    assert clock.until_changed(busy) < 1.0
    assert clock.pressure.high
    assert HOLD_S - 0.15 < clock.until_changed(IDLE) < HOLD_S + 1.5
    assert not clock.pressure.high


def test_a_single_moment_is_no_shortage() -> None:
    for busy in BUSY[:3]:
        assert not settled([IDLE] * 10 + [busy] + [IDLE] * 10), busy


def test_between_tight_and_calm_everything_stays() -> None:
    between = IDLE._replace(free_cores=1.0)
    assert not settled([between] * 100)
    assert settled([BUSY[0]] * 10 + [between] * 100)


def test_what_is_unknown_is_left_out() -> None:
    assert not settled([IDLE._replace(free_cores=None)] * 50)
    assert settled([IDLE._replace(free_cores=None, queued=True)] * 50)


@pytest.mark.parametrize("busy", BUSY, ids=["no core", "loop", "queue", "throttled"])
def test_where_free_cores_are_unknown_copies_go_on_after_a_shortage(busy: Sample) -> None:
    clock = Clock()
    clock.until_changed(busy)
    assert clock.until_changed(IDLE._replace(free_cores=None)) < HOLD_S + 1.5


def test_a_container_that_is_stopped_by_its_limit_holds_longer_each_time() -> None:
    clock = Clock()
    held = []
    for _ in range(8):
        clock.until_changed(BUSY[3])
        held.append(round(clock.until_changed(IDLE)))
    assert held == [1, 2, 4, 8, 16, 30, 30, 30]
    for _ in range(round(RELAPSE_S * 10) + 1):
        clock.add(IDLE)
    clock.until_changed(BUSY[3])
    assert round(clock.until_changed(IDLE)) == HOLD_S, "after a good while it is a new story"


def test_as_long_as_it_is_stopped_the_hold_starts_anew() -> None:
    assert settled([BUSY[3]] * 500)


@given(st.lists(SAMPLES, max_size=200))
def test_whatever_was_it_goes_on_when_all_is_calm(samples: list[Sample]) -> None:
    clock = Clock()
    for sample in samples:
        clock.add(sample)
    if clock.pressure.high:
        assert clock.until_changed(IDLE) <= MAX_HOLD_S + 3.0
    assert not clock.pressure.high
    assert str(clock.pressure)


@given(st.lists(SAMPLES, max_size=200))
def test_it_says_when_it_changes_and_holds_for_a_second_at_least(samples: list[Sample]) -> None:
    clock = Clock()
    high, since_s = False, clock.now_s
    for sample in samples:
        changed = clock.add(sample)
        assert changed == (clock.pressure.high != high)
        if changed:
            assert not high or clock.now_s - since_s >= HOLD_S - 0.01
            high, since_s = clock.pressure.high, clock.now_s


def test_the_cores_that_copies_need() -> None:
    assert [needed_cores(cores) for cores in (1, 2, 8, 16, 64)] == [0.5, 1.0, 1.0, 1.0, 4.0]
