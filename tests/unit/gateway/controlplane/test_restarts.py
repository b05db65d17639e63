from hypothesis import given
from hypothesis import strategies as st

from gateway.controlplane.restarts import FIRST_DELAY_S, HEALTHY_S, SLOWEST_DELAY_S, Restarts


def test_the_delay_doubles_up_to_the_slowest() -> None:
    history = Restarts()
    delays = [history.crashed(now_s=minute * 100.0, healthy_s=1.0) for minute in range(9)]
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    assert not history.looping


def test_five_crashes_in_a_minute_are_a_loop_and_slowest_from_then_on() -> None:
    history = Restarts()
    delays = [history.crashed(now_s=float(second), healthy_s=0.0) for second in range(5)]
    assert history.looping
    assert delays[-1] == SLOWEST_DELAY_S
    assert history.crashed(now_s=1000.0, healthy_s=30.0) == SLOWEST_DELAY_S


def test_a_minute_of_service_clears_the_slate() -> None:
    history = Restarts()
    for second in range(5):
        history.crashed(now_s=float(second), healthy_s=0.0)
    assert history.crashed(now_s=100.0, healthy_s=HEALTHY_S) == FIRST_DELAY_S
    assert not history.looping


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), max_size=30))
def test_every_delay_lies_between_the_first_and_the_slowest(crashes: list[tuple[float, float]]) -> None:
    history, now_s = Restarts(), 0.0
    for pause_s, healthy_s in crashes:
        now_s += pause_s
        assert FIRST_DELAY_S <= history.crashed(now_s, healthy_s) <= SLOWEST_DELAY_S
