"""A lane: the queue and batcher for one version in one proxy.

Batching is work-conserving: an idle worker takes what is there at once; while it is busy, the next batch grows.
Requests that were lost with their worker, or whose batch failed, are run again, apart from each other: the one that is
to blame fails alone (see `again`).
"""

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final

from gateway.dataplane import answer
from gateway.dataplane.again import MAX_LOSSES, Again
from gateway.dataplane.channel import Channel
from gateway.dataplane.job import Batch, Job, Load, latest_deadline_s, run_frame
from gateway.dataplane.plan import Plans
from gateway.dataplane.tap import BatchTap
from gateway.errors import Code, InferenceFailed, InvalidRequest, Late, NotReady, QueueFull
from gateway.routing.snapshot import Pool
from workers import wire

MAX_BATCH_BYTES: Final = 64 << 20
PUSHBACK_MS: Final = 100
"""What a refused client is told to wait before it retries."""
NOT_RUN: Final = frozenset({Code.CANCELLED, Code.DEADLINE_EXCEEDED})
"""A worker that gives one of these has not run the batch: it thinks that nobody waits for it any more."""


class Lane:
    """Jobs for one live pool. `mirror(batch, data, start, stop)` sees every answered batch when it is set."""

    __slots__ = (
        "_again", "_channels", "_down_since_s", "_load", "_loop", "_max_queue", "_queue", "_scheduled", "_wait_s",
        "mirror", "plans", "pool", "tap",
    )  # fmt: skip

    def __init__(self, pool: Pool, load: Load, loop: asyncio.AbstractEventLoop, max_queue: int, wait_s: float) -> None:
        self.pool = pool
        self.plans = Plans(pool)
        self.tap = BatchTap(pool.model, pool.version, shadow=False)
        self.mirror: Callable[[Batch, bytes, int, int], None] | None = None
        self._load = load
        self._loop = loop
        self._max_queue = max_queue
        self._wait_s = wait_s
        self._queue: deque[Job] = deque()
        self._again = Again()
        self._channels: tuple[Channel, ...] = ()
        self._scheduled = False
        self._down_since_s: float | None = None
        """Since when no worker is connected, as the sweep noticed it; None while one is."""

    @property
    def queued(self) -> int:
        """Jobs waiting for a worker."""
        return len(self._queue) + len(self._again)

    @property
    def ready(self) -> bool:
        """A worker is connected."""
        return any(channel.connected for channel in self._channels)

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is in flight."""
        return not self.queued and not any(channel.in_flight for channel in self._channels)

    def update(self, pool: Pool, channels: tuple[Channel, ...]) -> None:
        """Takes a new description of the same pool."""
        if (pool.inputs, pool.outputs, pool.batched) != (self.pool.inputs, self.pool.outputs, self.pool.batched):
            self.plans = Plans(pool)
        else:
            self.plans.pool = pool
        self.pool = pool
        self._channels = channels
        self.schedule()

    def submit(self, job: Job) -> None:
        """Queues the job. Raises QueueFull, or NotReady when the pool has failed."""
        if len(self._queue) >= self._max_queue:
            raise QueueFull(
                f"{self.pool.model} version {self.pool.version}: {self._max_queue} requests wait already", PUSHBACK_MS
            )
        if self.pool.state == "failed" and not self._channels:
            raise NotReady(f"{self.pool.model} version {self.pool.version} is not ready: {self.pool.error}")
        self._queue.append(job)
        self._load.in_flight += 1
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._pump)

    def schedule(self) -> None:
        """Pumps in this or the next turn of the loop."""
        if (self._queue or self._again.parties) and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._scheduled = False
        while self._queue or self._again.parties:
            again = self._again.parties
            suspect = bool(again) and again[0].suspect
            channel = self._free_channel(exclusive=suspect)
            if channel is None:
                return
            now_s = monotonic()
            jobs, rows = self._take_again(again.popleft().jobs, now_s) if again else self._take(now_s)
            if jobs:
                deadline_ms = wire.deadline_ms(latest_deadline_s(jobs), now_s)
                frame = run_frame(jobs, rows, deadline_ms, wire.TELL if suspect else 0)
                batch = Batch(frame, rows, jobs, self._answered, self._failed, self._lost)
                batch.exclusive = suspect
                batch.listen()
                channel.send(batch, now_s)

    def _free_channel(self, *, exclusive: bool) -> Channel | None:
        best = None
        for channel in self._channels:
            if channel.has_room(exclusive=exclusive):
                if not channel.in_flight:
                    return channel
                best = channel
        return best

    def _take(self, now_s: float) -> tuple[list[Job], int]:
        """The next jobs that may run together, and their rows; late and cancelled ones are answered instead."""
        jobs: list[Job] = []
        queue = self._queue
        rows = size = 0
        while queue:
            job = queue[0]
            if job.call.closed or job.call.deadline_s <= now_s:
                queue.popleft()
                self._expire(job, now_s)
                continue
            plan = job.plan
            weight = plan.size or sum(map(len, job.tensors))
            if jobs:
                first = jobs[0].plan
                if plan is not first and plan.signature != first.signature:
                    break
                if rows + plan.rows > self.pool.max_batch_size or size + weight > MAX_BATCH_BYTES:
                    break
            queue.popleft()
            jobs.append(job)
            rows += plan.rows
            size += weight
            if not plan.joinable:
                break
        return jobs, rows

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
                wanted.append(job)
        return wanted

    def _expire(self, job: Job, now_s: float) -> None:
        self._load.in_flight -= 1
        job.fail(Late("the deadline passed before the request was run"), now_s)

    def _answered(self, batch: Batch, kind: int, micros: int, data: bytes, start: int, stop: int) -> None:
        self._load.in_flight -= len(batch.jobs)
        if kind != wire.RESULT:
            answer.misfit(batch, f"a frame of kind {kind}", monotonic())
            return
        self.tap.add(batch.rows, micros)
        if answer.deliver(batch, data, start, stop) and self.mirror is not None:
            # After the replies have left: a copy must not delay them, not even by the time it takes to make it.
            self._loop.call_soon(self.mirror, batch, data, start, stop)

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
            job.fail(NotReady(f"{self.pool.model} version {self.pool.version}: {what} {times}"), now_s)
        return spared

    def _waited_s(self, job: Job, now_s: float) -> float:
        """How long the job has waited for a worker to come back; time in which it was run does not count."""
        return now_s - max(job.call.arrived_s, self._down_since_s or 0.0)

    def _waits(self, job: Job, now_s: float) -> bool:
        """Whether a job still waits for a worker; else it is answered."""
        if job.call.closed or job.call.deadline_s <= now_s:
            self._expire(job, now_s)
            return False
        if self._down_since_s is not None and self._waited_s(job, now_s) > self._wait_s:
            self._load.in_flight -= 1
            reason = self.pool.error or "no worker is up"
            job.fail(NotReady(f"{self.pool.model} version {self.pool.version} is not ready: {reason}"), now_s)
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
        self._queue = deque([job for job in self._queue if self._waits(job, now_s)])
        for channel in self._channels:
            for batch in list(channel.in_flight):
                batch.drop_late(now_s)
