"""Whatever happens to callers and workers: each call is answered once, with its own rows, and nothing is left.

And whatever requests do to workers: only those that are to blame fail, also those of other proxies.
"""

from math import inf
from time import monotonic
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dataplane.channel import DEPTH
from gateway.dataplane.job import Batch, Data
from gateway.errors import Code, QueueFull
from tests.unit.gateway.dataplane.fakes import FakeCall, FakeWorker, Frame, LaneBench, echo, error, frame
from workers import wire

POISON, RAISES = 666.0, 13.0
DEADLINE_S = 1000.0

rows = st.lists(st.sampled_from([1.0, 2.0, 3.0, 4.0, POISON, RAISES]), max_size=3)
submit = st.tuples(st.just("submit"), rows, st.booleans())
pick = st.integers(0, 9)
steps = st.one_of(
    submit,
    submit,
    st.tuples(
        st.sampled_from(["answer", "answer", "turn", "cancel", "die", "die idle", "join", "sweep", "garbage"]), pick
    ),
)


class Story:
    """One lane and everything that happens to it."""

    def __init__(self, *, shared: bool) -> None:
        self.bench = LaneBench(workers=2, max_queue=12, shared=shared)
        self.bench.lane.mirror = _copy_is_of_one_batch
        self.calls: list[tuple[FakeCall, list[float]]] = []

    def tell(self, step: tuple[Any, ...]) -> None:
        match step:
            case ("submit", values, deadline):
                self._submit(values, deadline)
            case ("turn", _):
                self.bench.turn()
            case ("sweep", number):
                self.bench.lane.sweep(monotonic() + (2 * DEADLINE_S if number == 0 else 0))
            case ("cancel", number) if self.calls:
                self.calls[number % len(self.calls)][0].cancel()
            case ("join", _) if len(self.bench.workers) < 3:
                self.bench.add_worker()
            case (what, number) if self.bench.workers:
                self._work(self.bench.workers[number % len(self.bench.workers)], what)

    def _submit(self, values: list[float], deadline: bool) -> None:
        deadline_s = monotonic() + DEADLINE_S if deadline else inf
        try:
            call = self.bench.submit(*[(value, value) for value in values], deadline_s=deadline_s)
        except QueueFull:
            return
        self.calls.append((call, values))

    def _work(self, worker: FakeWorker, what: str) -> None:
        frames = worker.frames()
        assert len(frames) <= DEPTH
        if what.startswith("die"):
            worker.die(idle=what == "die idle")
        elif what == "answer" and frames:
            if frames[0].number in worker.cancelled:
                worker.answer(lambda asked: error(asked.number, "not run", Code.CANCELLED))
            elif POISON in _values(frames[0]):
                worker.die()
            else:
                worker.answer(lambda asked: error(asked.number) if RAISES in _values(asked) else echo(asked))
        elif what == "garbage" and frames:
            worker.answer(lambda asked: frame(asked.number, wire.RESULT, b"\0\1\2"))

    def finish(self) -> None:
        """Lets everything come to its end."""
        bench = self.bench
        for _ in range(10_000):
            bench.turn()
            if bench.lane.idle:
                return
            if not bench.workers:
                bench.add_worker()
            for worker in list(bench.workers):
                self._work(worker, "answer")
        raise AssertionError("the story does not end")

    def check(self) -> None:
        assert self.bench.load.in_flight == 0
        for call, values in self.calls:
            assert call.answers == (0 if call.cancelled else 1)
            assert not call.worked_on
            if call.code == Code.OK:
                assert call.array() == [[value, value] for value in values]
                assert POISON not in values
                assert RAISES not in values
        report = self.bench.series.take()
        assert sum(report.codes.values() if report else ()) == len(self.calls), "each call is counted once"
        for worker in self.bench.workers:
            slots = worker.shared
            assert slots is None or sorted(slot.number for slot in slots.free) == [1, 2, 3], "each slot came back"
            worker.channel.connection_lost(None)


def _values(asked: Frame) -> list[float]:
    return list(np.frombuffer(asked.sections[0].tensors[0], "<f4").tolist())


def _copy_is_of_one_batch(batch: Batch, data: Data, start: int, stop: int) -> None:
    """The model is Y = X: a copy whose inputs are not its outputs was made of a slot that others had already."""
    inputs, outputs = (bytes(section) for section in (batch.body, memoryview(data)[start:stop]))
    size = 8 * batch.rows
    assert inputs[len(inputs) - size :] == outputs[len(outputs) - size :]


@settings(max_examples=100, deadline=None)
@given(st.lists(steps, max_size=40), st.booleans())
def test_each_call_of_any_story_is_answered_exactly_once(story: list[tuple[Any, ...]], shared: bool) -> None:
    told = Story(shared=shared)
    for step in story:
        told.tell(step)
    told.finish()
    told.check()


class Shared:
    """Two proxies at one worker, which runs what either has sent in any order and dies of every POISON."""

    def __init__(self) -> None:
        self.benches = [LaneBench(max_queue=100), LaneBench(max_queue=100)]
        self.calls: list[tuple[FakeCall, list[float]]] = []
        self.deaths = 0
        self.runs = 0

    def submit(self, proxy: int, values: list[float]) -> None:
        self.calls.append((self.benches[proxy].submit(*[(value, value) for value in values]), values))

    def run(self, proxy: int) -> None:
        """The oldest frame of that proxy, or of the other one."""
        bench = next((b for b in (self.benches[proxy], self.benches[1 - proxy]) if b.worker.frames()), None)
        if bench is None:
            return
        self.runs += 1
        values = _values(bench.worker.frames()[0])
        if POISON in values:
            self.deaths += 1
            for each in self.benches:
                each.worker.die(idle=each is not bench)
                each.add_worker()
        else:
            bench.worker.answer(lambda asked: error(asked.number) if RAISES in values else echo(asked))
        for each in self.benches:
            each.turn()


innocent = st.lists(st.sampled_from([1.0, 2.0, 3.0]), max_size=3)
either = st.integers(0, 1)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(either, innocent), max_size=20),
    st.lists(st.tuples(st.integers(0, 20), either, st.sampled_from([POISON, RAISES])), max_size=3),
    st.lists(either, max_size=30),
    st.data(),
)
def test_only_the_requests_that_are_to_blame_fail(
    asked: list[tuple[int, list[float]]], culprits: list[tuple[int, int, float]], turns: list[int], data: st.DataObject
) -> None:
    shared = Shared()
    for at, proxy, value in culprits:
        asked.insert(at, (proxy, [1.0, value]))
    for proxy, values in asked:
        shared.submit(proxy, values)
        if data.draw(st.booleans()):
            shared.benches[proxy].turn()
    for bench in shared.benches:
        bench.turn()
    order = iter(turns)
    while any(bench.worker.frames() for bench in shared.benches):
        assert shared.runs < 1000, "it does not end"
        shared.run(next(order, 0))
    for call, values in shared.calls:
        expected = Code.UNAVAILABLE if POISON in values else Code.INTERNAL if RAISES in values else Code.OK
        assert (call.code, call.answers) == (expected, 1)
    assert shared.deaths <= 2 * sum(value == POISON for _, _, value in culprits)
