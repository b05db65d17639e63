"""Tests of `workers.turns`."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.turns import Turns


class Proxy:
    """One that is served; `got_s` is the time it was given."""

    def __init__(self, name: str = "", costs_s: float = 1.0) -> None:
        self.name = name
        self.costs_s = costs_s
        self.got_s = 0.0
        self.queued = False
        self.used_s = 0.0


def serve(turns: Turns[Proxy], until_s: float) -> None:
    """Everybody who waits has ever more work."""
    spent_s = 0.0
    while spent_s < until_s:
        proxy = turns.take()
        spent_s += proxy.costs_s
        proxy.got_s += proxy.costs_s
        proxy.used_s += proxy.costs_s
        turns.enter(proxy)


def test_large_batches_and_single_rows_get_half_of_the_time_each() -> None:
    large, small = Proxy("64 rows", 64.0), Proxy("1 row", 1.0)
    turns: Turns[Proxy] = Turns()
    turns.enter(large)
    turns.enter(small)
    serve(turns, 10_000.0)
    assert abs(large.got_s - small.got_s) <= 64.0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.01, 100.0), min_size=1, max_size=8), st.floats(1.0, 10_000.0))
def test_shares_differ_by_no_more_than_one_batch(costs: list[float], until_s: float) -> None:
    proxies = [Proxy(str(number), cost) for number, cost in enumerate(costs)]
    turns: Turns[Proxy] = Turns()
    for proxy in proxies:
        turns.enter(proxy)
    serve(turns, until_s)
    shares = [proxy.got_s for proxy in proxies]
    assert max(shares) - min(shares) <= max(costs) * 1.000001


def test_who_was_idle_saves_up_nothing() -> None:
    busy, idle = Proxy("busy"), Proxy("idle")
    turns: Turns[Proxy] = Turns()
    turns.enter(busy)
    serve(turns, 1000.0)
    turns.enter(idle)
    busy.got_s = 0.0
    serve(turns, 100.0)
    assert abs(busy.got_s - idle.got_s) <= 1.0


def test_who_comes_back_at_once_has_lost_nothing() -> None:
    large, small = Proxy("large", 10.0), Proxy("small", 1.0)
    turns: Turns[Proxy] = Turns()
    turns.enter(large)
    assert turns.take() is large
    turns.enter(small)  # while the large one is run
    large.used_s += 10.0
    turns.enter(large)
    order = []
    for _ in range(11):
        proxy = turns.take()
        order.append(proxy.name)
        proxy.used_s += proxy.costs_s
        turns.enter(proxy)
    assert order == ["small"] * 10 + ["large"]


def test_equal_ones_come_in_their_order() -> None:
    turns: Turns[Proxy] = Turns()
    for name in "abc":
        turns.enter(Proxy(name))
    assert "".join(turns.take().name for _ in "abc") == "abc"
    with pytest.raises(IndexError):
        turns.take()


def test_who_waits_already_waits_once() -> None:
    proxy = Proxy()
    turns: Turns[Proxy] = Turns()
    turns.enter(proxy)
    turns.enter(proxy)
    assert turns.take() is proxy
    assert (turns.waiting, proxy.queued) == ([], False)
