import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane import mirror as mirrors
from gateway.dataplane.job import Batch
from gateway.dataplane.mirror import Mirror, ShadowLane
from gateway.dataplane.slots import Slots
from gateway.errors import Code
from gateway.observe.histogram import index
from gateway.routing.snapshot import Pool, Tensor
from tests.unit.gateway.dataplane.fakes import (
    FakeWorker,
    Frame,
    LaneBench,
    ManualLoop,
    compared,
    error,
    floats,
    frame,
    pool,
)
from tests.unit.gateway.dataplane.test_ragged import ask, doubled, ragged_lane
from workers import wire

SHADOW: dict[str, Any] = {"version": 2, "shadow": True}


class ShadowBench:
    """A production lane whose answers are copied to one shadow lane, each with one worker."""

    def __init__(
        self, max_queue: int = 8, rate: float = 1.0, workers: int = 1, *, shared: bool = False, **changes: Any
    ) -> None:
        """shared: both lanes share memory with their workers, for all tensors."""
        self.loop = ManualLoop()
        self.held = False
        self.lane = ShadowLane(pool(**(SHADOW | changes)), self.loop.real, max_queue, lambda: self.held)
        self.workers = [
            FakeWorker(self.lane.schedule, lambda _: None, shared=Slots(0) if shared else None) for _ in range(workers)
        ]
        self.lane.update(self.lane.pool, tuple(worker.channel for worker in self.workers))
        self.production = LaneBench(shared=shared)
        self.production.lane.mirror = Mirror(((self.lane, rate),))

    def answer(self, *requests: list[tuple[float, float]]) -> None:
        """Production answers one batch of requests."""
        calls = [self.production.submit(*rows) for rows in requests]
        self.production.turn()
        self.production.worker.answer()
        self.production.turn()
        assert [call.code for call in calls] == [Code.OK] * len(calls)

    @property
    def worker(self) -> FakeWorker:
        (worker,) = self.workers
        return worker


ROW = [(1.0, 2.0)]


def test_a_copy_carries_inputs_and_what_production_answered() -> None:
    bench = ShadowBench()
    bench.answer([(1, 2), (3, 4)], [(5, 6)])
    assert bench.worker.frames() == [], "copies wait until production's turn is over"
    bench.loop.run()
    (asked,) = bench.worker.frames()
    assert asked.kind == wire.COMPARE
    inputs, answers = asked.sections
    assert (inputs.signature.rstrip(), inputs.rows) == (b'[["X","FP32",[2]]]', 3)
    assert (answers.signature.rstrip(), answers.rows) == (b'[["Y","FP32",[2]]]', 3)
    assert inputs.tensors == answers.tensors


def test_copies_of_what_lies_in_shared_memory_are_the_same() -> None:
    bench = ShadowBench(shared=True)
    production = bench.production
    slots = production.worker.shared
    assert slots is not None
    for rows in ([(1, 2), (3, 4)], [(5, 6)]):
        production.submit(*rows)
    production.turn()
    production.worker.answer()
    assert len(slots.free) == 2, "held until the copy is made"
    production.submit((7, 8))
    production.turn()
    assert len(slots.free) == 2, "of the next batch"
    production.worker.answer()
    production.turn()
    assert len(slots.free) == 3
    bench.loop.run()
    (asked, *_) = bench.worker.frames()
    assert (asked.kind, asked.slot) == (wire.COMPARE, 1)
    for section, name in zip(asked.sections, "XY", strict=True):
        assert (section.signature.rstrip(), section.rows) == (f'[["{name}","FP32",[2]]]'.encode(), 3)
        assert section.tensors == [floats(1, 2, 3, 4, 5, 6)]
    bench.worker.answer(lambda frame: compared(frame.number, 3, 3))
    for worker in (*bench.workers, *bench.production.workers):
        worker.channel.connection_lost(None)


def test_comparisons_are_folded() -> None:
    bench = ShadowBench()
    for rows, agreed, difference in ((3, 2, 0.5), (1, 1, 0.25)):
        bench.answer([(1, 2)] * rows)
        bench.loop.run()
        number = bench.worker.frames()[0].number
        answer = compared(number, rows, agreed, difference=difference)
        bench.worker.channel.data_received(answer)
        bench.worker.waiting.clear()
    report = bench.lane.tap.take()
    assert report is not None
    assert (report.copies, report.compared, report.agreed, report.max_abs_difference) == (2, 4, 3, 0.5)
    assert (report.dropped, report.failed, report.incomparable) == (0, 0, 0)
    assert sum(report.latency.values()) == 2
    batches = bench.lane.batches.take()
    assert batches is not None
    assert (batches.version, batches.shadow, batches.batches, batches.rows, batches.compute_us) == (2, True, 2, 4, 10)
    assert bench.lane.idle


def test_a_copy_s_latency_counts_from_its_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [10.0]
    monkeypatch.setattr(mirrors, "monotonic", lambda: now_s[0])
    bench = ShadowBench()
    bench.answer(ROW, ROW)
    now_s[0] = 10.5
    bench.loop.run()
    now_s[0] = 11.0
    bench.worker.answer(lambda asked: compared(asked.number, 2, 2))
    report = bench.lane.tap.take()
    assert report is not None
    assert report.latency == {index(1_000_000): 2}
    assert report.latency_max_us == 1_000_000


def test_the_queue_is_bounded_by_copies_and_what_is_too_much_is_counted() -> None:
    bench = ShadowBench(max_queue=3)
    for _ in range(2):
        bench.answer(ROW)
    bench.loop.run()  # both are at the worker now
    for _ in range(2):
        bench.answer(ROW, ROW)
    bench.answer(ROW)
    bench.answer(ROW)
    assert bench.lane.queued == 4, "a batch that meets room fits, whatever its size"
    report = bench.lane.tap.take()
    assert report is not None
    assert (report.copies, report.dropped) == (8, 2)


def test_the_queue_is_bounded_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = ShadowBench(max_queue=1000)
    for _ in range(2):
        bench.answer(ROW)
    bench.loop.run()
    size = len(bench.worker.channel.in_flight[0].frame)
    monkeypatch.setattr(mirrors, "MAX_QUEUE_BYTES", 3 * size)
    for _ in range(5):
        bench.answer(ROW)
    assert bench.lane.queued == 3
    for _ in range(2):
        bench.worker.answer(lambda asked: compared(asked.number, 1, 1))
        bench.loop.run()
    bench.answer(ROW)
    report = bench.lane.tap.take()
    assert report is not None
    assert (report.copies, report.dropped) == (8, 2)


def test_without_a_worker_copies_are_dropped() -> None:
    bench = ShadowBench(workers=0)
    bench.answer(ROW, ROW)
    report = bench.lane.tap.take()
    assert report is not None
    assert (report.copies, report.dropped) == (2, 2)
    assert bench.lane.idle


def test_a_queue_that_nobody_will_read_keeps_no_lane_alive() -> None:
    bench = ShadowBench()
    for _ in range(3):
        bench.answer(ROW)
    bench.loop.run()
    assert not bench.lane.idle
    bench.worker.die()
    assert not bench.lane.idle
    bench.lane.update(bench.lane.pool, ())
    assert bench.lane.queued == 1
    assert bench.lane.idle


@pytest.mark.parametrize(
    "changes",
    [
        {"inputs": (Tensor("Z", "FP32", (-1, 2)),)},
        {"inputs": (Tensor("X", "FP64", (-1, 2)),)},
        {"inputs": (Tensor("X", "FP32", (-1, 3)),)},
        {"inputs": (Tensor("X", "FP32", (-1, 2, 2)),)},
        {"inputs": (Tensor("X", "FP32", (-1, 2)), Tensor("W", "FP32", (-1,)))},
        {"inputs": ()},
        {"batched": False},
    ],
    ids=str,
)
def test_what_is_no_input_of_the_shadow_is_incomparable(changes: dict[str, Any]) -> None:
    bench = ShadowBench(**changes)
    bench.answer(ROW, ROW)
    bench.loop.run()
    assert bench.worker.frames() == []
    report = bench.lane.tap.take()
    assert report is not None
    assert (report.copies, report.incomparable, report.dropped) == (2, 2, 0)


def test_inputs_of_any_size_take_every_size() -> None:
    bench = ShadowBench(inputs=(Tensor("X", "FP32", (-1, -1)),))
    bench.answer(ROW)
    bench.loop.run()
    assert len(bench.worker.frames()) == 1


def test_a_new_description_is_looked_at_again() -> None:
    bench = ShadowBench(inputs=())
    bench.answer(ROW)
    bench.lane.update(pool(**SHADOW), tuple(worker.channel for worker in bench.workers))
    bench.answer(ROW)
    bench.loop.run()
    assert len(bench.worker.frames()) == 1


@pytest.mark.parametrize(("width", "incomparable"), [(8, 0), (5, 2)])
def test_a_padded_batch_is_taken_as_it_was_run(width: int, incomparable: int) -> None:
    """Not as its first request was, which is narrower."""
    bench = ShadowBench(inputs=(Tensor("X", "FP32", (-1, width)),))
    bench.production = ragged_lane()
    bench.production.lane.mirror = Mirror(((bench.lane, 1.0),))
    for asked in (5, 8):
        ask(bench.production, np.ones((1, asked)))
    bench.production.turn()
    bench.production.worker.answer(doubled)
    bench.production.turn()
    report = bench.lane.tap.take()
    assert report is not None
    assert (report.copies, report.incomparable) == (2, incomparable)


def test_an_answer_of_another_shape_is_incomparable_and_counts_copies() -> None:
    bench = ShadowBench()
    bench.answer(ROW, ROW, ROW)
    bench.loop.run()
    bench.worker.answer(lambda asked: compared(asked.number, 0, 0, 1))
    report = bench.lane.tap.take()
    assert report is not None
    assert (report.copies, report.incomparable, report.compared) == (3, 3, 0)


@pytest.mark.parametrize(
    "make",
    [
        lambda asked: error(asked.number),
        lambda asked: frame(asked.number, wire.COMPARED, b"short"),
        lambda asked: frame(asked.number, wire.RESULT, b"\0" * wire.COMPARISON.size),
    ],
    ids=["raises", "short", "result"],
)
def test_a_shadow_that_fails_is_counted_in_copies(make: Any) -> None:
    bench = ShadowBench()
    bench.answer([(1, 2), (3, 4)], ROW)
    bench.loop.run()
    bench.worker.answer(make)
    report = bench.lane.tap.take()
    assert report is not None
    assert (report.copies, report.failed, report.compared) == (2, 2, 0)


def test_a_shadow_that_dies_is_counted_and_not_retried() -> None:
    bench = ShadowBench()
    bench.answer(ROW, ROW)
    bench.loop.run()
    bench.worker.die()
    report = bench.lane.tap.take()
    assert report is not None
    assert (report.copies, report.failed) == (2, 2)
    assert bench.lane.queued == 0


def test_a_shadow_never_has_more_than_two_batches() -> None:
    bench = ShadowBench(max_queue=100)
    for _ in range(6):
        bench.answer(ROW)
        bench.loop.run()
    assert len(bench.worker.frames()) == 2
    assert bench.lane.queued == 4


def test_nothing_a_shadow_does_touches_production() -> None:
    """Calls are answered before the copy is made, whatever becomes of the copy; counters of production stay."""
    bench = ShadowBench(max_queue=1)
    for turn in range(6):
        bench.answer(ROW)
        bench.loop.run()
        if turn == 3:
            bench.worker.die()
    assert bench.production.load.in_flight == 0
    report = bench.production.series.take()
    assert report is not None
    assert report.codes == {Code.OK: 6}


@pytest.mark.parametrize("rate", [0.0, 0.25, 1.0])
def test_the_rate_is_the_share_of_batches(rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(7)  # noqa: S311 - a test
    monkeypatch.setattr(mirrors, "random", chance.random)
    offered = 0

    class Counting:
        def offer(self, batch: Batch, data: bytes, start: int, stop: int) -> None:
            nonlocal offered
            offered += 1

    target: Any = Counting()
    copy = Mirror(((target, rate),))
    batch: Any = None
    for _ in range(4000):
        copy(batch, b"", 0, 0)
    assert abs(offered - 4000 * rate) <= 120  # more than four standard deviations


def test_each_shadow_has_a_rate_of_its_own() -> None:
    first, second = ShadowBench(), ShadowBench(version=3)
    first.production.lane.mirror = Mirror(((first.lane, 1.0), (second.lane, 1.0)))
    first.answer(ROW)
    for bench in (first, second):
        bench.loop.run()
        assert len(bench.worker.frames()) == 1


def test_a_pool_of_another_room_is_described() -> None:
    where: Pool = pool(**SHADOW)
    lane = ShadowLane(where, ManualLoop().real, 1)
    assert (lane.tap.model, lane.tap.version, lane.batches.shadow) == ("m", 2, True)


def slow(asked: Frame, micros: int) -> bytes:
    """The comparison of a copy that took so long."""
    return frame(asked.number, wire.COMPARED, wire.COMPARISON.pack(asked.rows, asked.rows, 0, 0, 0.0), micros=micros)


def test_held_copies_wait_and_then_go_on() -> None:
    bench = ShadowBench(max_queue=2)
    bench.held = True
    for _ in range(3):
        bench.answer(ROW)
        bench.loop.run()
    assert bench.worker.frames() == []
    assert bench.lane.queued == 2
    bench.held = False
    bench.lane.sweep()
    bench.loop.run()
    assert len(bench.worker.frames()) == 2
    report = bench.lane.tap.take()
    assert report is not None
    assert (report.copies, report.dropped) == (3, 1)


def test_what_waits_for_a_shadow_that_ended_is_dropped() -> None:
    bench = ShadowBench(max_queue=100)
    bench.held = True
    bench.answer(ROW, ROW)
    bench.answer(ROW)
    bench.lane.abandon()
    assert (bench.lane.queued, bench.lane.idle) == (0, True)
    report = bench.lane.tap.take()
    assert report is not None
    assert (report.copies, report.dropped) == (3, 3)


def test_what_is_dropped_is_not_even_made(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = ShadowBench(max_queue=1)
    bench.held = True
    bench.answer(ROW)
    monkeypatch.setattr(mirrors, "Copies", None)
    bench.answer(ROW)
    report = bench.lane.tap.take()
    assert report is not None
    assert report.dropped == 1


@pytest.mark.parametrize(("micros", "expected"), [(0, 90), (300, 36), (9_800, 2), (99_800, 1)])
def test_held_copies_get_a_fiftieth_of_a_core(micros: int, expected: int) -> None:
    """The longer one takes, the fewer there are: in 0.9 s, 18 ms of runs and of what comes with each."""
    bench = ShadowBench(max_queue=100, workers=2)
    for _ in range(100):
        bench.answer(ROW)
    bench.held = True
    sent = 0
    for _ in range(9):
        bench.lane.sweep()
        bench.loop.run()
        while asked := [worker for worker in bench.workers if worker.frames()]:
            (worker,) = asked
            assert len(worker.frames()) == 1, "only one at a time"
            worker.answer(lambda asked: slow(asked, micros))
            sent += 1
            bench.loop.run()
    assert abs(sent - expected) <= 1


def test_a_model_that_raises_pays_as_well() -> None:
    bench = ShadowBench(max_queue=100)
    bench.held = True
    for _ in range(20):
        bench.answer(ROW)
    bench.lane.sweep()
    bench.loop.run()
    while bench.worker.frames():
        bench.worker.answer(lambda asked: error(asked.number))
        bench.loop.run()
    report = bench.lane.tap.take()
    assert report is not None
    assert report.failed == mirrors.TRICKLE_US // mirrors.OVERHEAD_US


MAKERS: dict[str, Callable[[Frame], bytes]] = {
    "compare": lambda asked: slow(asked, 500),
    "raise": lambda asked: error(asked.number),
    "misfit": lambda asked: compared(asked.number, 0, 0, 1),
}
EVENTS = ["one", "many", "pause", "resume", "sweep", "compare", "raise", "misfit", "die", "back"]


@given(st.lists(st.sampled_from(EVENTS)))
def test_every_copy_is_counted_once(events: list[str]) -> None:
    bench = ShadowBench(max_queue=4)
    for event in events:
        match event:
            case "one":
                bench.answer(ROW)
            case "many":
                bench.answer(ROW, ROW + ROW, ROW)
            case "pause" | "resume":
                bench.held = event == "pause"
            case "sweep":
                bench.lane.sweep()
            case "compare" | "raise" | "misfit" if bench.worker.frames():
                bench.worker.answer(MAKERS[event])
            case "die":
                bench.worker.die()
            case "back" if not bench.worker.channel.connected:
                bench.worker.channel.connection_made(bench.worker.transport)
        bench.loop.run()
        tap = bench.lane.tap
        flying = sum(copy.copies for copy in bench.worker.channel.in_flight if isinstance(copy, mirrors.Copies))
        settled = sum(tap.latency.values()) + tap.incomparable + tap.failed + tap.dropped
        assert tap.copies == settled + flying + bench.lane.queued
