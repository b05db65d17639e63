"""What travels through lanes: a job is one request on its way, a batch is what one worker runs at once."""

import itertools
import struct
from collections.abc import Callable, Sequence
from math import inf
from typing import TYPE_CHECKING, Any, Final

from gateway.dataplane.plan import Plan
from gateway.dataplane.ragged import Padded
from gateway.dataplane.refusal import refuse
from gateway.dataplane.slots import Slot
from gateway.dataplane.tap import Series
from gateway.errors import Code, Late, RequestError
from gateway.oip.request import Raw
from gateway.transport.call import Call, Trailers
from workers import wire

if TYPE_CHECKING:
    from gateway.dataplane.channel import Channel

Data = bytes | memoryview
"""What a worker answered: received, or where it lies in shared memory."""

_NUMBER: Final = struct.Struct("<I")
_numbers = itertools.count(1)


def next_number() -> int:
    """A batch number for the wire."""
    return next(_numbers) & 0xFFFF_FFFF


class Load:
    """Requests of this proxy without an answer, against their limit; how many were run again; and who works."""

    __slots__ = ("busy", "half", "in_flight", "limit", "retries")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.half = limit // 2
        """From here on versions that are not stable ones may have no room."""
        self.in_flight = 0
        self.retries = 0
        self.busy: set[Any] = set()
        """Lanes that have had something to do since the sweep last found them idle."""

    def admits(self, *, stable: bool) -> bool:
        """Whether one more may come in. Half of the limit is kept for stable versions: one that was down and comes
        back to a long queue, or that is slow, must not take the room of those who everybody needs.
        """
        if self.in_flight >= self.limit:
            return False
        return stable or self.in_flight < self.half or self.minor < self.half

    @property
    def minor(self) -> int:
        """How many of them are for versions that are not stable ones."""
        return sum(lane.pending for lane in self.busy if lane.minor)


class Job:
    """One admitted request. `tensors` are raw, in the model's input order; `losses`: workers that died with it.

    deadline_s: until when it must have been sent to a worker (monotonic); the call's own deadline or an earlier one.
    level: its priority, from 0, the first to be served. who: who asks, once many wait; "": in the order of arrival.
    """

    __slots__ = ("call", "deadline_s", "done", "id", "losses", "plan", "series", "tensors", "trailers")

    level = 0
    who = ""

    def __init__(
        self, call: Call, plan: Plan, tensors: Sequence[Raw], id_: bytes, series: Series, trailers: Trailers
    ) -> None:
        self.call = call
        self.plan = plan
        self.tensors = tensors
        self.id = id_
        self.series = series
        self.trailers = trailers
        self.deadline_s = call.deadline_s
        self.losses = 0
        self.done = False
        """Counted; it may still be in flight at a worker."""

    def fail(self, error: RequestError, now_s: float) -> None:
        """Answers with the error; a caller that left is counted as CANCELLED."""
        if self.call.closed:
            self.left(now_s)
        elif not self.done:
            self._count(error.code, now_s)
            refuse(self.call, error, self.trailers)

    def left(self, now_s: float) -> None:
        """Counts a caller that left before the answer, or whose deadline passed: clients then leave by themselves.

        Tells the transport that the work on the call has ended.
        """
        if not self.done:
            late = self.call.deadline_s <= now_s
            self._count(Code.DEADLINE_EXCEEDED if late else Code.CANCELLED, now_s)
            self.call.fail(Code.CANCELLED, "the caller left")

    def _count(self, code: Code, now_s: float) -> None:
        self.done = True
        self.series.failed(code, int((now_s - self.call.arrived_s) * 1e6))


class Ranked(Job):
    """A job where it matters how important it is, or who asks."""

    __slots__ = ("level", "who")

    def __init__(self, job: Job, level: int, who: str) -> None:
        super().__init__(job.call, job.plan, job.tensors, job.id, job.series, job.trailers)
        self.level = level
        self.who = who


class Batch:
    """Jobs that one worker runs at once, or copies (then without jobs). The frame is what went to the worker."""

    __slots__ = (
        "begun", "channel", "exclusive", "frame", "held", "jobs", "number", "on_answer", "on_error", "on_lost",
        "padded", "rows", "sent_s", "slot", "took_us", "waiting",
    )  # fmt: skip

    def __init__(
        self,
        frame: bytes,
        rows: int,
        jobs: list[Job],
        on_answer: "Callable[[Batch, int, int, Data, int, int], None]",
        on_error: "Callable[[Batch, int, str], None]",
        on_lost: "Callable[[Batch], None]",
    ) -> None:
        self.frame = frame
        self.rows = rows
        self.jobs = jobs
        self.on_answer = on_answer
        """(batch, kind, micros, data, start, stop) of a RESULT or COMPARED frame."""
        self.on_error = on_error
        """(batch, gRPC code, text)"""
        self.on_lost = on_lost
        (self.number,) = _NUMBER.unpack_from(frame, 4)
        self.exclusive = False
        """Nothing else may be in flight at its worker."""
        self.begun = False
        """The worker said that it runs it now; said only of those that are `exclusive`."""
        self.sent_s = 0.0
        self.took_us = 0.0
        """For how long it kept the worker busy, as this proxy sees it."""
        self.channel: Channel | None = None
        """Where it was sent."""
        self.padded: Padded | None = None
        """How requests of different last axes were joined."""
        self.waiting = len(jobs)
        """Callers that are still there."""
        self.slot: Slot | None = None
        """Where large tensors lie; it belongs to the batch until `release`."""
        self.held = False
        """Whoever set this reads the answer later, and then calls `release`."""

    def listen(self) -> None:
        """From now on hears of callers that leave."""
        heard = self.caller_left
        for job in self.jobs:
            job.call.on_cancel = heard

    def caller_left(self) -> bool:
        """One caller fewer waits; after the last one the worker is told. The work goes on until it answers."""
        self.waiting -= 1
        if self.waiting <= 0 and self.channel is not None:
            self.channel.cancel(self)
        return True

    def drop_late(self, now_s: float) -> None:
        """Answers those whose deadline has passed, and forgets callers that left, while the worker still has them."""
        for job in self.jobs:
            if job.call.closed:
                job.left(now_s)
            elif job.call.deadline_s <= now_s:
                job.fail(Late("the deadline passed while the request was run"), now_s)
                self.caller_left()

    @property
    def body(self) -> memoryview:
        """The section of the RUN frame, wherever it lies; until `release`."""
        if self.slot is not None and wire.HEADER.unpack_from(self.frame)[3] & wire.SLOT:
            return self.slot.sent(self.frame)
        return memoryview(self.frame)[wire.HEADER.size :]

    def answer_in_slot(self, data: bytes, start: int, stop: int) -> memoryview:
        """The section of an answer that lies in the batch's slot. Raises ValueError."""
        if self.slot is None:
            raise ValueError("an answer in a slot that its batch does not have")
        return self.slot.answer(data, start, stop)

    def release(self) -> None:
        """Nobody reads the batch's slot any more."""
        slot, self.slot = self.slot, None
        if slot is not None:
            slot.give_back()


def latest_deadline_s(jobs: Sequence[Job]) -> float:
    """When the last of the jobs is late: until then somebody waits for the batch."""
    if jobs[0].call.deadline_s == inf:
        return inf
    return max([job.call.deadline_s for job in jobs])


def padded(jobs: list[Job]) -> Padded | None:
    """How jobs that were joined are made alike, where they are not."""
    first = jobs[0].plan
    if not first.lasts or all(job.plan.signature == first.signature for job in jobs):
        return None
    return Padded(jobs)


def run_frame(
    jobs: list[Job],
    rows: int,
    deadline_ms: int = 0,
    flags: int = 0,
    slot: Slot | None = None,
    alike: Padded | None = None,
) -> bytes:
    """The RUN frame of jobs whose plans share one signature: their tensors joined, input by input.

    `deadline_ms` and `flags` are those of `workers.wire`. slot: where tensors are put if they are large. alike: how
    jobs of several signatures are joined.
    """
    signature = alike.signature if alike else jobs[0].plan.signature
    first = jobs[0].tensors
    if len(first) == 1 and alike is None:
        tensors: list[Raw] = [job.tensors[0] for job in jobs]
        sizes = [sum(map(len, tensors))]
    else:
        given: Sequence[Sequence[Raw]] = alike.tensors if alike else [job.tensors for job in jobs]
        columns = [[own[index] for own in given] for index in range(len(first))]
        tensors = [tensor for column in columns for tensor in column]
        sizes = [sum(map(len, column)) for column in columns]
    front = wire.front(len(sizes))
    section = len(signature), len(sizes), rows, *sizes
    length = front.size - wire.HEADER.size + len(signature) + sum(sizes)
    lent = 0
    if slot is not None:
        lent = slot.number
        if slot.wants(length):
            head = front.pack(0, 0, 0, 0, 0, 0, *section)[wire.HEADER.size :] + signature
            place = slot.put(head, tensors, length)
            if place:
                flags |= wire.SLOT
                return wire.HEADER.pack(len(place), next_number(), wire.RUN, flags, lent, deadline_ms) + place
    header = front.pack(length, next_number(), wire.RUN, flags, lent, deadline_ms, *section)
    return b"".join([header, signature, *tensors])
