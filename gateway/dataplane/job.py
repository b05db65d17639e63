"""What travels through lanes: a job is one request on its way, a batch is what one worker runs at once."""

import itertools
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

from gateway.dataplane.plan import Plan
from gateway.dataplane.refusal import refuse
from gateway.dataplane.tap import Series
from gateway.errors import Code, RequestError
from gateway.oip.request import Raw
from gateway.transport.call import Call, Trailers
from workers import wire

MAX_ATTEMPTS: Final = 2
"""A request whose worker died is sent once more."""

_NUMBER: Final = struct.Struct("<I")
_numbers = itertools.count(1)


def next_number() -> int:
    """A batch number for the wire."""
    return next(_numbers) & 0xFFFF_FFFF


class Load:
    """Requests of this proxy without an answer, against their limit; how many were sent twice; and who works."""

    __slots__ = ("busy", "in_flight", "limit", "retries")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_flight = 0
        self.retries = 0
        self.busy: set[Any] = set()
        """Lanes that have had something to do since the sweep last found them idle."""


class Job:
    """One admitted request. `tensors` are raw, in the model's input order; `alone`: never joined with others again."""

    __slots__ = ("alone", "attempts", "call", "done", "id", "plan", "series", "tensors", "trailers")

    def __init__(
        self, call: Call, plan: Plan, tensors: Sequence[Raw], id_: bytes, series: Series, trailers: Trailers
    ) -> None:
        self.call = call
        self.plan = plan
        self.tensors = tensors
        self.id = id_
        self.series = series
        self.trailers = trailers
        self.attempts = 0
        self.alone = False
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


class Batch:
    """Jobs that one worker runs at once, or copies (then without jobs). The frame is what went to the worker."""

    __slots__ = ("exclusive", "frame", "jobs", "number", "on_answer", "on_error", "on_lost", "rows", "sent_s")

    def __init__(
        self,
        frame: bytes,
        rows: int,
        jobs: list[Job],
        on_answer: "Callable[[Batch, int, int, bytes, int, int], None]",
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
        self.sent_s = 0.0


def run_frame(jobs: list[Job], rows: int) -> bytes:
    """The RUN frame of jobs whose plans share one signature: their tensors joined, input by input."""
    first = jobs[0]
    signature = first.plan.signature
    if len(jobs) == 1:
        tensors: list[Raw] = list(first.tensors)
        sizes = [len(tensor) for tensor in tensors]
    elif len(first.tensors) == 1:
        tensors = [job.tensors[0] for job in jobs]
        sizes = [sum(map(len, tensors))]
    else:
        columns = [[job.tensors[index] for job in jobs] for index in range(len(first.tensors))]
        tensors = [tensor for column in columns for tensor in column]
        sizes = [sum(map(len, column)) for column in columns]
    table = b"".join([wire.SIZE.pack(size) for size in sizes])
    length = wire.SECTION.size + len(table) + len(signature) + sum(sizes)
    header = wire.HEADER.pack(length, next_number(), wire.RUN, 0, 0, 0)
    return b"".join([header, wire.SECTION.pack(len(signature), len(sizes), rows), table, signature, *tensors])
