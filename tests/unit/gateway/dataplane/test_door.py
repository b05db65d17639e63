"""Who is let in, who is refused on arrival, and who waits in front of whom."""

from math import inf
from time import monotonic
from typing import Any

import pytest
from msgspec import structs

from gateway.dataplane.job import Job, Ranked
from gateway.errors import Code, Late, QueueFull
from gateway.routing.snapshot import Queueing
from tests.unit.gateway.dataplane.fakes import FakeCall, LaneBench, infer, job_of

SECOND_US = 1_000_000


class Crowd(LaneBench):
    """A lane whose one worker takes a second for a row and a second for each batch, and has both of its places full:
    who comes now waits for 4 s, and 1.25 s longer for each row in front.
    """

    def __init__(self, *, queueing: Queueing = Queueing(), **changes: Any) -> None:  # noqa: B008 - it is a value
        super().__init__(max_batch_size=4, queueing=queueing, costs=((1, 2 * SECOND_US), (4, 5 * SECOND_US)), **changes)
        self.ask()
        self.turn()
        self.worker.answer()
        for _ in range(2):
            self.ask()
            self.turn()
        cost = self.lane.door.backlog.cost
        cost.row_us = cost.start_us = SECOND_US
        self.lane.door.backlog.row_s = 1.25
        self.lane.door.price()

    def ask(
        self, rows: int = 1, *, within_s: float = inf, who: str = "", level: int | None = None, timeout_s: float = inf
    ) -> FakeCall:
        now_s = monotonic()
        call = FakeCall(infer(*[(1, 2)] * rows), arrived_s=now_s, deadline_s=now_s + within_s)
        job = Ranked(job_of(self.lane, call, self.series), self.lane.door.lowest if level is None else level, who)
        job.deadline_s = min(job.deadline_s, now_s + timeout_s)
        self.lane.submit(job)
        return call


def test_a_row_of_a_full_batch_is_what_each_row_costs_those_behind_it() -> None:
    bench = Crowd()
    bench.lane.door.backlog.answered(4, 5 * SECOND_US)
    assert bench.lane.door.backlog.row_s == pytest.approx(1.25, rel=0.2)


def test_who_would_wait_too_long_is_refused_with_the_time_to_wait() -> None:
    bench = Crowd(queueing=Queueing(max_queue_wait_s=6.0))
    bench.ask()
    bench.ask()
    with pytest.raises(QueueFull, match=r"requests would wait longer than 6 s \(max_queue_wait\)") as caught:
        bench.ask()
    assert caught.value.pushback_ms == 5000
    assert bench.lane.queued == 2
    assert bench.load.in_flight == 4


def test_without_a_bound_requests_may_wait_as_long_as_the_queue_is() -> None:
    bench = Crowd(queueing=Queueing(max_queue_wait_s=0.0), max_queue=50)
    for _ in range(50):
        bench.ask()
    with pytest.raises(QueueFull, match="50 requests wait already") as caught:
        bench.ask()
    assert caught.value.pushback_ms == 10_000


def test_a_deadline_that_would_pass_is_refused_on_arrival() -> None:
    bench = Crowd()
    with pytest.raises(Late, match="would pass before a worker is free"):
        bench.ask(within_s=3.5)
    bench.ask()
    bench.ask(within_s=5.5)
    with pytest.raises(Late, match="would pass before a worker is free"):
        bench.ask(within_s=5.5)
    bench.ask(within_s=9.0)
    assert bench.load.in_flight == 5


def test_an_own_timeout_counts_like_a_deadline_until_the_request_is_sent() -> None:
    bench = Crowd()
    bench.ask()
    with pytest.raises(Late):
        bench.ask(timeout_s=5.0)
    patient = bench.ask(timeout_s=6.0)
    bench.lane.sweep(monotonic() + 7.0)
    assert patient.code == Code.DEADLINE_EXCEEDED
    assert "waited longer for a worker than it may" in patient.text


def test_the_versions_queue_timeout_holds_for_all() -> None:
    bench = Crowd(queueing=Queueing(queue_timeout_s=6.0))
    calls = [bench.ask(), bench.ask(timeout_s=7.0)]
    bench.lane.sweep(monotonic() + 6.5)
    assert [call.code for call in calls] == [Code.DEADLINE_EXCEEDED] * 2, "a request may shorten it only"


def test_who_has_many_waiting_is_refused_while_others_come_in() -> None:
    bench = Crowd(queueing=Queueing(max_queue_wait_s=0.0), max_queue=18)
    for _ in range(9):
        bench.ask()
    assert bench.lane.door.crowded
    for _ in range(8):
        bench.ask(who="flood")
    with pytest.raises(QueueFull, match="too many of the waiting requests are of this unit"):
        bench.ask(who="flood")
    guest = bench.ask(who="guest")
    assert guest.answers == 0


def test_a_flood_does_not_use_up_the_time_of_others() -> None:
    bench = Crowd(queueing=Queueing(max_queue_wait_s=30.0))
    for _ in range(9):
        bench.ask()
    for _ in range(12):
        bench.ask(who="flood")
    with pytest.raises(QueueFull, match="max_queue_wait"):
        bench.ask(who="flood")
    bench.ask(who="guest")


def test_many_who_ask_for_little_are_too_many_all_the_same() -> None:
    bench = Crowd(queueing=Queueing(max_queue_wait_s=30.0))
    for _ in range(9):
        bench.ask()
    for number in range(12):
        bench.ask(who=f"guest {number}")
    with pytest.raises(QueueFull, match="max_queue_wait"):
        bench.ask(who="one more")


def test_a_lower_priority_takes_no_room_from_a_higher_one() -> None:
    bench = Crowd(queueing=Queueing(max_queue_wait_s=0.0, priority_levels=2), max_queue=18)
    for _ in range(15):
        bench.ask(who="bulk")
    for _ in range(5):
        bench.ask(who="vip", level=0)
    assert bench.lane.queued == 18


def test_nobody_is_put_out_for_a_request_that_is_refused_itself() -> None:
    bench = Crowd(queueing=Queueing(max_queue_wait_s=0.0, priority_levels=2), max_queue=9)
    low = [bench.ask() for _ in range(9)]
    for _ in range(8):
        bench.ask(who="vip", level=0)
    with pytest.raises(QueueFull, match="too many of the waiting requests are of this unit"):
        bench.ask(who="vip", level=0)
    assert sum(call.answers for call in low) == 8


def test_a_short_queue_is_shared_out_early() -> None:
    bench = Crowd(queueing=Queueing(max_queue_wait_s=0.0), max_queue=4)
    bench.ask()
    bench.ask()
    assert not bench.lane.door.crowded
    bench.ask()
    assert bench.lane.door.crowded


def test_a_restarted_worker_leaves_what_was_learned() -> None:
    bench = LaneBench(costs=((1, 100), (8, 800)))
    for _ in range(100):
        bench.lane.door.backlog.answered(8, 4000)
    changed = structs.replace(bench.lane.pool, costs=((1, 9000), (8, 9000)))
    bench.lane.update(changed, bench.lane._channels)
    assert bench.lane.door.backlog.cost.run_us(8) == pytest.approx(4000, rel=0.1)


def test_who_comes_while_many_wait_is_served_in_turn() -> None:
    bench = Crowd(queueing=Queueing(max_queue_wait_s=0.0))
    for _ in range(8):
        bench.ask()
    flood = [bench.ask(who="flood") for _ in range(12)]
    guest = bench.ask(who="guest")
    while not guest.answers:
        bench.worker.answer()
        bench.turn()
    assert sum(call.answers for call in flood) <= 4, "at most what shared its batch, or went before"
    while bench.worker.frames():
        bench.worker.answer()
        bench.turn()
    assert all(call.code == Code.OK for call in flood)
    assert not bench.lane.door.crowded


def test_a_higher_priority_is_served_first_and_takes_the_place_of_a_lower_one() -> None:
    bench = Crowd(queueing=Queueing(max_queue_wait_s=0.0, priority_levels=3), max_queue=4)
    low = [bench.ask() for _ in range(4)]
    high = bench.ask(level=0)
    assert [call.code for call in low] == [None, None, None, Code.RESOURCE_EXHAUSTED]
    assert "requests of higher priority take its place" in low[3].text
    for _ in range(3):
        bench.worker.answer()
        bench.turn()
    assert high.code == Code.OK


@pytest.mark.parametrize(("levels", "found"), [(0, [0, 0, 0, 0]), (3, [2, 0, 1, 2])])
def test_levels_by_priority(levels: int, found: list[int]) -> None:
    lane = LaneBench(queueing=Queueing(priority_levels=levels)).lane
    assert [lane.door.level(priority) for priority in (0, 1, 2, 9)] == found


def test_a_new_description_changes_the_rules_for_those_who_wait() -> None:
    bench = Crowd(queueing=Queueing(max_queue_wait_s=0.0))
    calls = [bench.ask() for _ in range(3)]
    levels = Queueing(max_queue_wait_s=0.0, priority_levels=2)
    pool = bench.lane.pool
    changed = type(pool)(**{name: getattr(pool, name) for name in pool.__struct_fields__} | {"queueing": levels})
    bench.lane.update(changed, bench.lane._channels)
    assert (bench.lane.door.lowest, bench.lane.queued) == (1, 3)
    while bench.worker.frames():
        bench.worker.answer()
        bench.turn()
    assert all(call.code == Code.OK for call in calls)


def test_jobs_without_an_answer_are_counted() -> None:
    bench = Crowd()
    bench.ask()
    assert (bench.lane.queued, bench.lane.pending) == (1, 3)


def test_the_queue_knows_its_jobs() -> None:
    bench = Crowd()
    bench.ask()
    assert all(isinstance(job, Job) for job in bench.lane._waiting)
