"""The door of a lane: who may wait, and who is refused on arrival."""

from collections.abc import Sequence
from math import inf
from time import monotonic
from typing import Final

from gateway.dataplane.backlog import Backlog, pushback_ms
from gateway.dataplane.channel import DEPTH, Channel
from gateway.dataplane.job import Job, Load
from gateway.dataplane.waiting import Waiting
from gateway.errors import Late, NotReady, QueueFull
from gateway.routing.snapshot import Pool

OWN_SHARE: Final = (
    "too many of the waiting requests are of this unit (or address, where no unit is named): "
    "nobody may have more than 8 times what is free of max_queue"
)
TOO_LATE: Final = "its deadline (of gRPC, timeout or queue_timeout) would pass before a worker is free"
QUICK_US: Final = 1000
"""Of batches that take less, thousands come in a second:"""
SKIPPED: Final = 6
"""learning from one of seven is enough. An odd number: batches may come in turns of two or four kinds."""


class Door:
    """Puts jobs into `waiting`, or refuses them.

    Up to `easy_rows` waiting rows a job may be put last without a closer look, unless its deadline is closer than
    (waiting + `flying_rows`) · `row_s`: its lane does that itself, as it happens for nearly every request.
    """

    __slots__ = (
        "_calm",
        "_channels",
        "_crowd",
        "_load",
        "_max_queue",
        "_max_wait_s",
        "_pool",
        "_queue_timeout_s",
        "_skipped",
        "backlog",
        "crowded",
        "easy_rows",
        "flying_rows",
        "last",
        "lowest",
        "plain",
        "quick",
        "row_s",
        "waiting",
    )

    def __init__(self, pool: Pool, load: Load, max_queue: int) -> None:
        self.waiting = Waiting(max(1, pool.queueing.priority_levels))
        self.backlog = Backlog(pool.max_batch_size, pool.costs)
        self.crowded = False
        """So many wait that it matters who asks: `Job.who` is to be set."""
        self.quick = False
        """The last batch was answered in less than QUICK_US."""
        self._load = load
        self._max_queue = max_queue
        self._skipped = SKIPPED
        """Quick batches since the last one that was learned from; the first is."""
        self.obey(pool, ())

    def obey(self, pool: Pool, channels: Sequence[Channel]) -> None:
        """Takes over what the pool says about queueing; `channels` are those of its workers."""
        rules = pool.queueing
        self._pool = pool
        self._channels = channels
        self.backlog.share(pool.max_batch_size, len(channels))
        self.flying_rows = DEPTH * pool.max_batch_size * len(channels)
        """As many can be in flight."""
        self._queue_timeout_s = rules.queue_timeout_s
        self._max_wait_s = rules.max_queue_wait_s or inf
        self._crowd = min(2 * pool.max_batch_size, max(1, self._max_queue // 2))
        self._calm = min(self._crowd, self._max_queue)
        levels = max(1, rules.priority_levels)
        self.lowest = levels - 1
        """The level of requests that say nothing of priority."""
        if levels != self.waiting.levels:
            self.waiting.relevel(levels)
        self.last = self.waiting.last
        self.price()

    def price(self) -> None:
        """Works out how many rows may wait while a request needs no closer look; none: each needs one.

        As if as many were in flight as can be: a closer look counts them.
        """
        self.row_s = row_s = self.backlog.row_s
        self.plain = not (self.lowest or self.crowded)
        """Requests wait in the order of arrival: neither who asks nor how much it matters makes a difference."""
        if not self.plain or self._queue_timeout_s or not self._channels:
            self.easy_rows = -1.0
        elif row_s * (self._calm + self.flying_rows) > self._max_wait_s:
            self.easy_rows = self._max_wait_s / row_s - self.flying_rows
        else:
            self.easy_rows = self._calm - 1.0

    def level(self, priority: int) -> int:
        """Where a request of that priority waits: 1 is the first; 0, and what there is not, the last."""
        return min(priority - 1, self.lowest) if priority else self.lowest

    def answered(self, rows: int, took_us: float) -> None:
        """A batch came back."""
        self.quick = took_us < QUICK_US
        if self.quick and self._skipped < SKIPPED:
            self._skipped += 1
            return
        self._skipped = 0
        self.backlog.answered(rows, took_us)
        self.price()

    def empty(self) -> None:
        """Nobody waits any more."""
        self.crowded = False
        self.price()

    def admit(self, job: Job) -> None:
        """Queues a job after a closer look. Raises QueueFull, Late and NotReady."""
        waiting = self.waiting
        if self._queue_timeout_s:
            job.deadline_s = min(job.deadline_s, job.call.arrived_s + self._queue_timeout_s)
        wait_s = waiting.rows_before(job) * self.row_s + self._busy_s(job.call.arrived_s)
        if wait_s > self._max_wait_s:
            text = f"requests would wait longer than {self._max_wait_s:g} s (max_queue_wait)"
            # As below: whoever comes back finds half of the room free.
            raise QueueFull(f"{self._pool.name}: {text}", pushback_ms(wait_s - self._max_wait_s / 2))
        if job.call.arrived_s + wait_s > job.deadline_s:
            raise Late(TOO_LATE)
        if not self._channels and self._pool.state == "failed":
            raise NotReady(f"{self._pool.name} is not ready: {self._pool.error}")
        if job.who and not waiting.finds_room(job, self._max_queue):
            raise self._full(OWN_SHARE)
        if len(waiting) >= self._max_queue and not self._made_room(job):
            raise self._full(f"{self._max_queue} requests wait already in this proxy (max_queue)")
        waiting.append(job)
        if len(waiting) >= self._crowd:
            self.crowded = True
            self.price()

    def _busy_s(self, now_s: float) -> float:
        """For how long what is in flight keeps the workers busy, spread over them."""
        if not self._channels:
            return 0.0
        return sum([each.busy_s(self.backlog.cost, now_s) for each in self._channels]) / len(self._channels)

    def _full(self, text: str) -> QueueFull:
        return QueueFull(f"{self._pool.name}: {text}", pushback_ms(self.waiting.rows * self.row_s / 2 or 0.1))

    def _made_room(self, job: Job) -> bool:
        """Refuses a request of lower priority instead."""
        spared = self.waiting.spare(job.level)
        if spared is None:
            return False
        self._load.in_flight -= 1
        spared.fail(self._full("requests of higher priority take its place"), monotonic())
        return True
