"""How long a batch may wait to grow, and what happens when none can be made."""

from math import inf
from time import monotonic
from typing import Any

import pytest

from gateway.dataplane import lane
from gateway.errors import Code
from gateway.routing.snapshot import Queueing
from tests.unit.gateway.dataplane.fakes import FakeCall, LaneBench, infer, job_of


class Delayed(LaneBench):
    def __init__(self, **queueing: Any) -> None:
        super().__init__(queueing=Queueing(max_queue_delay_s=0.5, **queueing))

    def ask(self, rows: int = 1, within_s: float = inf) -> FakeCall:
        now_s = monotonic()
        call = FakeCall(infer(*[(1, 2)] * rows), arrived_s=now_s, deadline_s=now_s + within_s)
        self.lane.submit(job_of(self.lane, call, self.series))
        self.turn()
        return call

    def delay_s(self) -> float:
        """In which the one timer ends."""
        ((delay_s, *_),) = self.loop.later
        return float(delay_s)


def test_a_batch_may_wait_to_grow_and_one_timer_ends_that() -> None:
    bench = Delayed()
    for _ in range(3):
        bench.ask()
    assert bench.worker.frames() == []
    ((delay_s, let_go, arguments),) = bench.loop.later
    assert 0 < delay_s <= 0.5
    for waiting in bench.lane._waiting:
        waiting.call.arrived_s -= 1.0
    let_go(*arguments)
    bench.turn()
    assert [frame.rows for frame in bench.worker.frames()] == [3]


def test_a_full_batch_waits_for_nobody() -> None:
    bench = Delayed()
    for _ in range(8):
        bench.ask()
    assert [frame.rows for frame in bench.worker.frames()] == [8]


def test_a_preferred_size_is_enough() -> None:
    bench = Delayed(preferred_batch_sizes=(2, 4))
    for rows in (1, 3, 1):
        bench.ask(rows)
    assert [frame.rows for frame in bench.worker.frames()] == [4]
    bench.ask()
    assert [frame.rows for frame in bench.worker.frames()] == [4, 2]


def test_a_deadline_ends_the_wait_in_time() -> None:
    bench = Delayed()
    bench.lane.door.backlog.cost.start_us = 200_000.0
    bench.ask(within_s=0.5)
    assert 0 < bench.delay_s() <= 0.1


def test_who_is_in_a_hurry_brings_the_end_of_the_wait_forward() -> None:
    bench = Delayed()
    bench.ask()
    assert bench.delay_s() > 0.4
    bench.ask(within_s=0.2)
    assert 0 < bench.delay_s() <= 0.15
    bench.ask()
    assert bench.delay_s() <= 0.15


def test_what_was_sent_before_waits_no_second_time() -> None:
    bench = Delayed()
    for _ in range(8):
        bench.ask()
    worker = bench.add_worker()
    bench.workers[0].die()
    bench.turn()
    assert [frame.rows for frame in worker.frames()] == [1]


def test_a_batch_that_cannot_be_made_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = LaneBench(shared=True)

    def no_memory(*_: Any) -> bytes:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(lane, "run_frame", no_memory)
        calls = [bench.submit((1, 2)), bench.submit((1, 2))]
        bench.turn()
    assert [call.code for call in calls] == [Code.INTERNAL] * 2
    assert "MemoryError" in calls[0].text
    assert (bench.load.in_flight, bench.lane.idle) == (0, True)
    for _ in range(5):
        call = bench.submit((1, 2))
        bench.turn()
        bench.worker.answer()
        bench.turn()
        assert call.code == Code.OK
