"""Where the jobs of one lane wait: by priority, then in the order of arrival while few do, else fairly by who asks.

Fair is fair queueing (Demers, Keshav, Shenker 1989) by rows: of those who ask, the one who was given the fewest rows
goes next, so that neither many requests nor large ones starve anybody. Who comes new counts as given what everybody was
who has been there all the time: the level's clock. Pure; nothing is answered here.
"""

from collections import deque
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from math import inf
from operator import attrgetter
from typing import Final

from gateway.dataplane.job import Job

SHARE: Final = 8
"""One who asks may have so many jobs waiting for each that still finds room: 8/9 of the queue, if alone. So the room
left is never taken by those who have most (dynamic thresholds: Choudhury and Hahne 1998). Jobs of lower priorities do
not count, as they make room."""
REMEMBERED: Final = 1024
"""Of so many who have left, what they were given is remembered while it matters."""

Turn = tuple[deque[Job], float]
"""A line of jobs, and how many rows it may give before others have their turn."""

Search = Callable[[deque[Job]], tuple[int, int, int, bool]]
"""Takes from a line: (jobs taken out, their rows, those of them that are to be run, whether more may be taken)."""


class Flow:
    """Jobs of one who asks. `given`: rows, on the level's clock, that it was given so far."""

    __slots__ = ("given", "jobs", "number", "rows", "who")

    def __init__(self, who: str, given: float, number: int) -> None:
        self.who = who
        self.jobs: deque[Job] = deque()
        self.rows = 0
        self.given = given
        self.number = number

    def __lt__(self, other: "Flow") -> bool:
        return (self.given, self.number) < (other.given, other.number)


class Level:
    """Jobs of one priority."""

    __slots__ = (
        "_clock",
        "_heap",
        "_left",
        "_numbers",
        "first",
        "first_rows",
        "flow_count",
        "flow_rows",
        "flows",
    )

    def __init__(self) -> None:
        self.first: deque[Job] = deque()
        """Those that came while few waited, in the order of arrival; they go before the flows."""
        self.first_rows = 0
        self.flows: dict[str, Flow] = {}
        self.flow_count = 0
        self.flow_rows = 0
        self._heap: list[Flow] = []
        """The flows, and some that have meanwhile been emptied by `spare`."""
        self._left: dict[str, float] = {}
        """What those were given who have nothing waiting any more: coming back at once must gain them nothing."""
        self._clock = 0.0
        """Rows given to each who has been here all the time."""
        self._numbers = 0

    def __iter__(self) -> Iterator[Job]:
        yield from self.first
        for flow in self.flows.values():
            yield from flow.jobs

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.first) + self.flow_count

    def append(self, job: Job) -> None:
        """Puts a job last, or last in the flow of who asks."""
        rows = job.plan.weight
        if not job.who:
            self.first.append(job)
            self.first_rows += rows
            return
        flow = self.flows.get(job.who)
        if flow is None:
            self._numbers += 1
            given = max(self._clock, self._left.pop(job.who, 0.0))
            flow = self.flows[job.who] = Flow(job.who, given, self._numbers)
            heappush(self._heap, flow)
        flow.jobs.append(job)
        flow.rows += rows
        self.flow_rows += rows
        self.flow_count += 1

    def turn(self) -> Turn:
        """Whose turn it is."""
        if self.first:
            return self.first, inf
        while not self._heap[0].jobs:
            heappop(self._heap)
        flow = self._heap[0]
        others = min((other.given for other in self._heap[1:3]), default=inf)  # the smaller child of a heap's root
        return flow.jobs, max(1.0, others - flow.given)

    def took(self, line: deque[Job], count: int, rows: int, run: int) -> None:
        """So many jobs and rows were taken from the line that had the turn; so many of the rows are to be run."""
        if line is self.first:
            self.first_rows -= rows
            return
        self.flow_rows -= rows
        self.flow_count -= count
        flow = heappop(self._heap)
        # Endlessly many who ask once each would else all go before the second request of anybody.
        self._clock = max(flow.given, self._clock + run / len(self.flows))
        flow.given += run
        flow.rows -= rows
        if flow.jobs:
            heappush(self._heap, flow)
        else:
            self._leaves(flow)

    def share_ride(self, search: Search, most: int) -> None:
        """Lets `search` take from up to so many flows beside the one that has the turn, least given first."""
        self._heap = [flow for flow in self._heap if flow.jobs]
        heapify(self._heap)
        there = len(self.flows)
        for flow in sorted(self._heap[:most], key=attrgetter("given")):
            count, rows, run, more = search(flow.jobs)
            if count:
                self.flow_rows -= rows
                self.flow_count -= count
                self._clock += run / there
                flow.given += run
                flow.rows -= rows
                if not flow.jobs:
                    self._leaves(flow)
            if not more:
                break
        heapify(self._heap)

    def spare(self) -> Job | None:
        """Takes out the job that can best be spared: the newest of whoever has most waiting; if all have one, the
        newest.
        """
        if not self.flows:
            if not self.first:
                return None
            job = self.first.pop()
            self.first_rows -= job.plan.weight
            return job
        if self.flow_count == len(self.flows):
            flow = self.flows[next(reversed(self.flows))]
        else:
            flow = max(self.flows.values(), key=attrgetter("rows"))
        job = flow.jobs.pop()
        flow.rows -= job.plan.weight
        self.flow_rows -= job.plan.weight
        self.flow_count -= 1
        if not flow.jobs:
            self._leaves(flow)
            if len(self._heap) > 2 * len(self.flows) + 64:
                self._heap = list(self.flows.values())
                heapify(self._heap)
        return job

    def sift(self, waits: Callable[[Job], bool]) -> None:
        """Forgets every job for which `waits` is false."""
        self.first = deque(filter(waits, self.first))
        for flow in self.flows.values():
            flow.jobs = deque(filter(waits, flow.jobs))
        self._count()

    def rows_before(self, who: str, rows: int = 0) -> float:
        """Rows of this level that may go before a job of so many rows put in now."""
        if not who:
            return self.first_rows + self.flow_rows
        flow = self.flows.get(who)
        if flow is None:
            given = self._left.get(who, self._clock)
        else:
            given, rows = flow.given, rows + flow.rows
        turns = rows + max(0.0, given - self._clock)
        return self.first_rows + min(self.flow_rows, turns * len(self.flows))

    def _leaves(self, flow: Flow) -> None:
        """A flow has no jobs any more."""
        del self.flows[flow.who]
        if not self.flows:
            self._left.clear()
            return
        self._left[flow.who] = flow.given
        if len(self._left) > REMEMBERED:
            self._left = {who: given for who, given in self._left.items() if given > self._clock}
            if len(self._left) > REMEMBERED // 2:
                self._left.clear()

    def _count(self) -> None:
        """Counts anew, and forgets flows without jobs."""
        for flow in list(self.flows.values()):
            flow.rows = sum(job.plan.weight for job in flow.jobs)
            if not flow.jobs:
                self._leaves(flow)
        self._heap = list(self.flows.values())
        heapify(self._heap)
        self.first_rows = sum(job.plan.weight for job in self.first)
        self.flow_rows = sum(flow.rows for flow in self._heap)
        self.flow_count = sum(len(flow.jobs) for flow in self._heap)


class Waiting:
    """The jobs of one lane; its length is how many there are."""

    __slots__ = ("_giving", "_levels")

    def __init__(self, levels: int) -> None:
        """`levels`: how many priorities there are, at least 1."""
        self._levels = [Level() for _ in range(levels)]
        self._giving = self._levels[-1]

    def __len__(self) -> int:
        return sum([level.count for level in self._levels])

    def __bool__(self) -> bool:
        for level in self._levels:  # noqa: SIM110 - a generator costs, and lanes ask for every batch
            if level.first or level.flows:
                return True
        return False

    @property
    def rows(self) -> int:
        """Of all of them."""
        rows = 0
        for level in self._levels:
            rows += level.first_rows + level.flow_rows
        return rows

    @property
    def last(self) -> Level:
        """Where most are: those that say nothing of priority. Whoever calls its `append` need not call ours."""
        return self._levels[-1]

    def __iter__(self) -> Iterator[Job]:
        for level in self._levels:
            yield from level

    @property
    def levels(self) -> int:
        """How many priorities there are."""
        return len(self._levels)

    def append(self, job: Job) -> None:
        """Puts a job where its level and `who` say."""
        self._levels[job.level].append(job)

    def turn(self) -> Turn:
        """Whose turn it is. There must be a job; what is taken from the line is told to `took` before the next turn."""
        for level in self._levels:
            if level.first or level.flows:
                self._giving = level
                return level.turn()
        raise LookupError("nothing waits")

    def took(self, line: deque[Job], count: int, rows: int, run: int) -> None:
        """So many jobs and rows were taken from the line that had the turn; so many of the rows are to be run."""
        if count:
            self._giving.took(line, count, rows, run)

    def share_ride(self, search: Search, most: int) -> None:
        """Lets `search` take from others than whose turn it was; what it takes is counted here."""
        if self._giving.flows:
            self._giving.share_ride(search, most)

    def rows_before(self, job: Job) -> float:
        """Rows that may go before a job put in now; fewer may come before it later, and more of higher priority."""
        above = sum(level.rows_before("") for level in self._levels[: job.level])
        return above + self._levels[job.level].rows_before(job.who, job.plan.weight)

    def finds_room(self, job: Job, limit: int) -> bool:
        """Whether who asks may have one more job waiting, of so many that may wait in all."""
        flow = self._levels[job.level].flows.get(job.who)
        if flow is None:
            return True
        taken = sum(level.count for level in self._levels[: job.level + 1])
        return len(flow.jobs) < SHARE * (limit - taken)

    def spare(self, level: int) -> Job | None:
        """Takes out a job of a lower priority than `level`, to make room; None when there is none."""
        for lower in reversed(self._levels[level + 1 :]):
            job = lower.spare()
            if job is not None:
                return job
        return None

    def sift(self, waits: Callable[[Job], bool]) -> None:
        """Forgets every job for which `waits` is false."""
        for level in self._levels:
            level.sift(waits)

    def relevel(self, levels: int) -> None:
        """The same jobs under another number of priorities. Those of the last one stay in the last one."""
        before = self._levels
        self._levels = [Level() for _ in range(levels)]
        self._giving = self._levels[-1]
        for number, level in enumerate(before):
            to = self._levels[-1 if level is before[-1] else min(number, levels - 1)]
            for job in level:
                to.append(job)
