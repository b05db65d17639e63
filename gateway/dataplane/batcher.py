"""Which jobs go next, together: of one signature, within rows and bytes, in time for the tightest deadline. Pure."""

from collections import deque
from collections.abc import Iterable, Sequence
from math import inf
from typing import Final

from gateway.dataplane.cost import Cost
from gateway.dataplane.job import Job
from gateway.dataplane.plan import Plan
from gateway.dataplane.slots import MAX_BATCH_BYTES
from gateway.dataplane.waiting import Waiting

LOOK_AHEAD: Final = 256
"""How far behind a job that cannot be joined others are looked for that can."""


class Taken:
    """`jobs` to be run together, their `rows`, and the `late` in front of them that nobody waits for any more."""

    __slots__ = ("_ahead_s", "_cost", "_look_ahead", "_most", "_size", "_tightest_s", "_wanted", "jobs", "late", "rows")

    def __init__(self, most: int, wanted: int, cost: Cost, ahead_s: float) -> None:
        """`most`: rows. `wanted`: rows that wait. `ahead_s`: when it can be begun (monotonic)."""
        self.jobs: list[Job] = []
        self.late: list[Job] = []
        self.rows = 0
        self._most: float = most
        self._wanted = wanted
        self._cost = cost
        self._ahead_s = ahead_s
        self._size = 0
        self._tightest_s = inf
        self._look_ahead = LOOK_AHEAD

    def take(self, line: deque[Job], allowance: float, now_s: float) -> tuple[int, int, int, bool]:
        """Takes jobs from the front of a line until their rows reach the allowance.

        (jobs taken out, their rows, those of them that are to be run, whether more may be taken.) One loop, no calls:
        this runs for every request.
        """
        jobs, rows, size, most = self.jobs, self.rows, self._size, self._most
        tightest_s = self._tightest_s
        first = jobs[0].plan if jobs else None
        there, given, late, end, more = len(line), -rows, 0, rows + allowance, True
        while line and rows < end:
            job = line.popleft()
            plan, call = job.plan, job.call
            if call.closed or job.deadline_s <= now_s:
                self.late.append(job)
                late += plan.weight
                continue
            if plan is not first:
                if first is None:
                    first = plan
                    more = plan.joinable
                elif plan.joins != first.joins or not plan.joinable:
                    line.appendleft(job)
                    more = False
                    break
            if call.deadline_s < tightest_s:
                tightest_s = call.deadline_s
                most = self._fitting(tightest_s, most)
            weight_bytes = plan.size or sum(map(len, job.tensors))
            if jobs and (rows + plan.rows > most or size + weight_bytes > MAX_BATCH_BYTES):
                line.appendleft(job)
                more = False
                break
            jobs.append(job)
            rows += plan.rows
            size += weight_bytes
            if not more:
                given += plan.weight - plan.rows
                break
        self.rows, self._size, self._most, self._tightest_s = rows, size, most, tightest_s
        given += rows
        return there - len(line), given + late, given, more

    def search(self, line: deque[Job], now_s: float) -> tuple[int, int, int, bool]:
        """Takes what can be joined from further behind in a line; returns what `take` does.

        The order of those that stay is kept, and the one in front begins the next batch, so none waits for ever.
        """
        joins = self.jobs[0].plan.joins
        near = [line.popleft() for _ in range(min(self._look_ahead, len(line)))]
        self._look_ahead -= len(near)
        same = deque(job for job in near if job.plan.joins == joins)
        count, rows, run, more = self.take(same, inf, now_s)
        stay = set(map(id, same))
        line.extendleft(job for job in reversed(near) if job.plan.joins != joins or id(job) in stay)
        return count, rows, run, more and self._look_ahead > 0

    def _fitting(self, deadline_s: float, most: float) -> float:
        """Rows of a batch that meets the deadline, if it is the tightest in it.

        All the same `most` when that would cost more than half of the rows that could be joined: while many wait,
        small batches would make more of them late than they save. And when it is expected to be missed anyway.
        """
        fits = self._cost.rows_within((deadline_s - self._ahead_s) * 1e6)
        return min(most, fits) if fits >= 1 and 2 * fits >= min(self._wanted, most) else most


class Batcher:
    """Takes batches for one lane. `preferred`: sizes in rows, ascending; none: any.

    largest: batches are as large as they may be, also where that saves next to nothing (see `Cost.enough`).
    """

    __slots__ = ("cost", "largest", "most", "preferred")

    def __init__(self, most: int, preferred: Sequence[int], cost: Cost, *, largest: bool = False) -> None:
        self.most = most
        self.largest = largest or bool(preferred)
        self.preferred = tuple(size for size in preferred if size <= most)
        self.cost = cost

    @property
    def full(self) -> int:
        """Rows for which no batch need wait to grow: as in Triton, any preferred size is enough."""
        return self.preferred[0] if self.preferred else self.most

    def take(self, waiting: Waiting, now_s: float, ahead_us: float) -> Taken:
        """The next batch, which can be begun in `ahead_us`. Late jobs in front of it are taken out, too.

        What is taken out is the caller's to answer.
        """
        most, there = self.most, waiting.rows
        for size in self.preferred:
            if size <= there:
                most = size
        if most > self.cost.enough and not self.largest:
            most = max(1, int(self.cost.enough))
        batch = Taken(most, there, self.cost, now_s + ahead_us / 1e6)
        more = True
        while more and waiting:
            line, allowance = waiting.turn()
            count, rows, run, more = batch.take(line, allowance, now_s)
            if more or not line or not _differs(batch.jobs[0].plan, line[0].plan):
                waiting.took(line, count, rows, run)
                continue
            further = batch.search(line, now_s)
            waiting.took(line, count + further[0], rows + further[1], run + further[2])
            if further[3]:
                waiting.share_ride(lambda line: batch.search(line, now_s), LOOK_AHEAD)
        return batch


def held_until_s(waiting: Iterable[Job], delay_s: float, run_s: float) -> float:
    """Until when a batch of all that waits may be held back to grow, when it runs for `run_s`; monotonic.

    Nobody waits longer than the delay, and whoever has a deadline keeps a quarter of the time given, and twice the run.
    """
    until_s = inf
    for job in waiting:
        arrived_s, deadline_s = job.call.arrived_s, job.deadline_s
        until_s = min(until_s, arrived_s + delay_s)
        if deadline_s < inf:
            until_s = min(until_s, deadline_s - max(2 * run_s, (deadline_s - arrived_s) / 4))
    return until_s


def _differs(first: Plan, plan: Plan) -> bool:
    """The batch ended because this request cannot be joined with it, though others may be."""
    return first.joinable and plan.joins != first.joins
