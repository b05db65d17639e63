"""A lane: the queue and batcher for one version in one proxy.

Batching is work-conserving unless told otherwise: an idle worker takes what is there at once; while it is busy, the
next batch grows. Who would wait too long is refused on arrival. Requests that were lost with their worker, or whose
batch failed, are run again, apart from each other: the one that is to blame fails alone (see `again`).
"""

import asyncio
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Final

import structlog

from gateway.dataplane import answer
from gateway.dataplane.again import MAX_LOSSES, Again
from gateway.dataplane.batcher import Batcher, held_until_s
from gateway.dataplane.channel import Channel
from gateway.dataplane.door import Door
from gateway.dataplane.job import Batch, Data, Job, Load, latest_deadline_s, padded, run_frame
from gateway.dataplane.plan import Plans
from gateway.dataplane.tap import BatchTap
from gateway.dataplane.tracer import Tracer
from gateway.errors import Code, InferenceFailed, InvalidRequest, Late, NotReady
from gateway.routing.snapshot import Pool
from workers import wire

NOT_RUN: Final = frozenset({Code.CANCELLED, Code.DEADLINE_EXCEEDED})
"""A worker that gives one of these has not run the batch: it thinks that nobody waits for it any more."""

log = structlog.get_logger(__name__)

Copier = Callable[[Batch, Data, int, int], None]


class Lane:
    """Jobs for one live pool. `mirror(batch, data, start, stop)` sees every answered batch when it is set."""

    __slots__ = (
        "_again",
        "_batcher",
        "_channels",
        "_delay_s",
        "_down_since_s",
        "_held",
        "_held_s",
        "_load",
        "_loop",
        "_scheduled",
        "_wait_s",
        "_waiting",
        "door",
        "minor",
        "mirror",
        "plans",
        "pool",
        "tap",
        "tracer",
    )

    def __init__(self, pool: Pool, load: Load, loop: asyncio.AbstractEventLoop, max_queue: int, wait_s: float) -> None:
        self.pool = pool
        self.plans = Plans(pool)
        self.tap = BatchTap(pool.model, pool.version, shadow=False)
        self.tracer: Tracer | None = None
        self.mirror: Copier | None = None
        self.minor = False
        """Its version is not the stable one."""
        self._load = load
        self._loop = loop
        self._wait_s = wait_s
        self.door = Door(pool, load, max_queue)
        self._waiting = self.door.waiting
        self._again = Again()
        self._channels: tuple[Channel, ...] = ()
        self._scheduled = False
        self._held: asyncio.TimerHandle | None = None
        """Ends the time for which a batch may wait to grow, at `_held_s`."""
        self._held_s = inf
        self._down_since_s: float | None = None
        """Since when no worker is connected, as the sweep noticed it; None while one is."""
        self._obey()

    def _obey(self) -> None:
        """Takes over what the pool says about queueing."""
        pool, rules = self.pool, self.pool.queueing
        self.door.obey(pool, self._channels)
        self._delay_s = rules.max_queue_delay_s
        self._batcher = Batcher(
            pool.max_batch_size, rules.preferred_batch_sizes, self.door.backlog.cost, largest=self._delay_s > 0
        )

    @property
    def queued(self) -> int:
        """Jobs waiting for a worker."""
        return len(self._waiting) + len(self._again)

    @property
    def pending(self) -> int:
        """Jobs without an answer."""
        return self.queued + sum(len(batch.jobs) for each in self._channels for batch in each.in_flight)

    @property
    def ready(self) -> bool:
        """A worker is connected."""
        return any(channel.connected for channel in self._channels)

    @property
    def idle(self) -> bool:
        """Nothing waits, nothing is in flight, and nothing is about to be looked at."""
        return not self._scheduled and not self.queued and not any(channel.in_flight for channel in self._channels)

    def update(self, pool: Pool, channels: tuple[Channel, ...]) -> None:
        """Takes a new description of the same pool."""
        if (pool.inputs, pool.outputs, pool.batched) != (self.pool.inputs, self.pool.outputs, self.pool.batched):
            self.plans = Plans(pool)
        else:
            self.plans.pool = pool
        if pool.costs != self.pool.costs:
            self.door.backlog.anchor(pool.costs)
        self.pool = pool
        self._channels = channels
        self._obey()
        self.schedule()

    def submit(self, job: Job) -> None:
        """Queues the job.

        Raises QueueFull when too many wait or it would wait too long, Late when longer than its deadline allows, and
        NotReady when the pool has failed.
        """
        door = self.door
        level = door.last
        rows = level.first_rows
        if rows > door.easy_rows or job.call.arrived_s + (rows + door.flying_rows) * door.row_s > job.deadline_s:
            door.admit(job)
        else:
            level.first.append(job)
            level.first_rows = rows + job.plan.weight
        self._load.in_flight += 1
        if not self._scheduled:
            self._scheduled = True
            self._load.busy.add(self)
            self._loop.call_soon(self._pump)

    def schedule(self) -> None:
        """Pumps in this or the next turn of the loop."""
        if (self._waiting or self._again.parties) and not self._scheduled:
            self._scheduled = True
            self._load.busy.add(self)
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._scheduled = False
        waiting = self._waiting
        while waiting or self._again.parties:
            again = self._again.parties
            suspect = bool(again) and again[-1].suspect
            channel = self._free_channel(exclusive=suspect)
            if channel is None:
                return
            now_s = monotonic()
            if again:
                jobs, rows = self._take_again(again.pop().jobs, now_s)
            elif self._grows(channel) or (self._delay_s and self._holds_back(now_s)):
                return
            else:
                jobs, rows = self._take(channel, now_s)
            if jobs:
                self._send(channel, jobs, rows, now_s, suspect=suspect)

    def _send(self, channel: Channel, jobs: list[Job], rows: int, now_s: float, *, suspect: bool) -> None:
        slot = channel.take_slot()
        try:
            deadline_ms = wire.deadline_ms(latest_deadline_s(jobs), now_s)
            alike = padded(jobs)
            frame = run_frame(jobs, rows, deadline_ms, wire.TELL if suspect else 0, slot, alike)
        except Exception as error:  # noqa: BLE001 - no memory, or a fault of ours: answered, or they would wait for ever
            if slot is not None:
                slot.give_back()
            self._unsent(jobs, error, now_s)
            return
        batch = Batch(frame, rows, jobs, self._answered, self._failed, self._lost)
        batch.slot = slot
        batch.padded = alike
        batch.exclusive = suspect
        batch.listen()
        channel.send(batch, now_s)

    def _unsent(self, jobs: list[Job], error: Exception, now_s: float) -> None:
        """Answers jobs of which no batch could be made."""
        log.error("no batch could be made", model=self.pool.model, version=self.pool.version, exc_info=error)
        self._load.in_flight -= len(jobs)
        failure = InferenceFailed(f"{self.pool.name}: the proxy could not make a batch: {type(error).__name__}")
        for job in jobs:
            job.fail(failure, now_s)

    def _take(self, channel: Channel, now_s: float) -> tuple[list[Job], int]:
        """The next batch from the queue, and its rows; late jobs in front of it are answered."""
        waiting, backlog = self._waiting, self.door.backlog
        ahead_us = backlog.cost.run_us(channel.in_flight[-1].rows) if channel.in_flight else 0.0
        taken = self._batcher.take(waiting, now_s, ahead_us)
        left = bool(waiting)
        backlog.cut(taken.rows, left=left)
        if not left and self.door.crowded:
            self.door.empty()
        for job in taken.late:
            self._expire(job, now_s)
        return taken.jobs, taken.rows

    def _grows(self, channel: Channel) -> bool:
        """Whether the next batch grows until it is as large as the one in flight, or that is answered.

        While batches are quick, what each costs the proxy counts for more than a worker that waits for a hop.
        """
        return self.door.quick and bool(channel.in_flight) and self._waiting.rows < channel.in_flight[-1].rows

    def _holds_back(self, now_s: float) -> bool:
        """Whether the next batch may still wait to grow; then a timer ends that."""
        waiting = self._waiting
        if waiting.rows >= self._batcher.full:
            return False
        until_s = held_until_s(waiting, self._delay_s, self.door.backlog.cost.run_us(waiting.rows) / 1e6)
        if now_s >= until_s:
            return False
        if self._held is None or until_s < self._held_s:
            if self._held is not None:
                self._held.cancel()
            self._held_s = until_s
            self._held = self._loop.call_later(until_s - now_s, self._let_go)
        return True

    def _let_go(self) -> None:
        self._held = None
        self.schedule()

    def _free_channel(self, *, exclusive: bool) -> Channel | None:
        best = None
        for channel in self._channels:
            if channel.has_room(exclusive=exclusive):
                if not channel.in_flight:
                    return channel
                best = channel
        return best

    def _take_again(self, party: list[Job], now_s: float) -> tuple[list[Job], int]:
        """Those of a party for whom somebody still waits, and their rows; the others are answered instead."""
        jobs = self._wanted(party, now_s)
        return jobs, sum(job.plan.rows for job in jobs)

    def _wanted(self, jobs: list[Job], now_s: float) -> list[Job]:
        """Those for whom somebody still waits; the others are answered instead."""
        wanted = []
        for job in jobs:
            if job.call.closed or job.call.deadline_s <= now_s:
                self._expire(job, now_s)
            else:
                job.deadline_s = job.call.deadline_s  # it was sent in time once
                wanted.append(job)
        return wanted

    def _expire(self, job: Job, now_s: float) -> None:
        self._load.in_flight -= 1
        if job.call.deadline_s <= now_s:
            job.fail(Late("the deadline passed before the request was run"), now_s)
        else:
            job.fail(
                Late("the request waited longer for a worker than it may (queue_timeout, or its own timeout)"), now_s
            )

    def _answered(self, batch: Batch, kind: int, micros: int, data: Data, start: int, stop: int) -> None:
        self._load.in_flight -= len(batch.jobs)
        if kind != wire.RESULT:
            answer.misfit(batch, f"a frame of kind {kind}", monotonic())
            return
        self.door.answered(batch.rows, batch.took_us)
        ended_s = self.tap.answered(batch.rows, len(batch.jobs), batch.sent_s, micros)
        if not answer.deliver(batch, data, start, stop):
            return
        if self.mirror is not None:
            # After the replies have left: a copy must not delay them, not even by the time it takes to make it.
            batch.held = True
            self._loop.call_soon(_mirror, self.mirror, batch, data, start, stop)
        if self.tracer is not None:
            self.tracer.saw(self.pool.version, batch, micros, ended_s)

    def _failed(self, batch: Batch, code: int, text: str) -> None:
        """The model raised, and whoever shared the batch may be innocent; or the worker has not run the batch."""
        now_s = monotonic()
        if code in NOT_RUN:
            batch.begun = False
            self._again.together(self._spared(batch, "the worker did not run it", now_s))
        elif len(batch.jobs) > 1:
            self._again.halves(self._wanted(batch.jobs, now_s))
        else:
            (job,) = batch.jobs
            self._load.in_flight -= 1
            job.fail(InvalidRequest(text) if code == Code.INVALID_ARGUMENT else InferenceFailed(text), now_s)
        self.schedule()

    def _lost(self, batch: Batch) -> None:
        """The worker died. Each request is run again, alone, unless it is to blame."""
        again = self._spared(batch, "the worker died", monotonic())
        self._load.retries += len(again)
        self._again.singles(again)
        self.schedule()

    def _spared(self, batch: Batch, what: str, now_s: float) -> list[Job]:
        """Of a batch that has come to nothing, the jobs that have one more chance; the others are answered."""
        spared = []
        for job in self._wanted(batch.jobs, now_s):
            job.losses += 1
            if not batch.begun and job.losses < MAX_LOSSES:
                spared.append(job)
                continue
            self._load.in_flight -= 1
            times = {2: "twice"}.get(job.losses, f"{job.losses} times")
            job.fail(NotReady(f"{self.pool.name}: {what} {times}"), now_s)
        return spared

    def _waited_s(self, job: Job, now_s: float) -> float:
        """How long the job has waited for a worker to come back; time in which it was run does not count."""
        return now_s - max(job.call.arrived_s, self._down_since_s or 0.0)

    def _waits(self, job: Job, now_s: float) -> bool:
        """Whether a job still waits for a worker; else it is answered."""
        if job.call.closed or job.deadline_s <= now_s:
            self._expire(job, now_s)
            return False
        if self._down_since_s is not None and self._waited_s(job, now_s) > self._wait_s:
            self._load.in_flight -= 1
            reason = self.pool.error or "no worker is up"
            job.fail(NotReady(f"{self.pool.name} is not ready: {reason}"), now_s)
            return False
        return True

    def sweep(self, now_s: float) -> None:
        """Answers what waited too long, in the queue or in flight, and forgets callers that left."""
        waits = not self.ready
        if not waits:
            self._down_since_s = None
        elif self._down_since_s is None:
            self._down_since_s = now_s
        self._again.sift(lambda job: self._waits(job, now_s))
        self._waiting.sift(lambda job: self._waits(job, now_s))
        for channel in self._channels:
            for batch in list(channel.in_flight):
                batch.drop_late(now_s)


def _mirror(mirror: Copier, batch: Batch, data: Data, start: int, stop: int) -> None:
    """What was in the batch's slot is copied; then others may have it."""
    try:
        mirror(batch, data, start, stop)
    finally:
        batch.release()
