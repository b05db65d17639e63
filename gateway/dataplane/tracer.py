"""Picks requests whose way is traced: one of every so many, looked for once per batch."""

from time import monotonic
from typing import Final

from gateway.dataplane.job import Batch
from gateway.routing.outcome import Trace

MAX_TRACES: Final = 1000
"""Kept until the next report; more are left out."""

MAX_ID_BYTES: Final = 256
"""Kept of a request's id, which callers choose."""


class Tracer:
    """The traces of one model in this proxy."""

    __slots__ = ("_due", "_found", "rate")

    def __init__(self, rate: int) -> None:
        """Every `rate`-th request is traced."""
        self._found: list[Trace] = []
        self.restart(rate)

    def restart(self, rate: int) -> None:
        """Counts anew, at another rate. What was found stays to be taken."""
        self.rate = rate
        self._due = rate  # so many requests until the next one that is picked

    def saw(self, version: int, batch: Batch, micros: int, ended_s: float) -> None:
        """A batch was answered: its result was here at `ended_s`, after `micros` inside ONNX Runtime."""
        due = self._due - len(batch.jobs)
        while due <= 0:
            if len(self._found) < MAX_TRACES:
                self._found.append(_trace(version, batch, due - 1, micros, ended_s))
            due += self.rate
        self._due = due

    def take(self) -> list[Trace]:
        """The traces since the last take."""
        found, self._found = self._found, []
        return found


def _trace(version: int, batch: Batch, position: int, micros: int, ended_s: float) -> Trace:
    """The trace of the job at `position` of the batch, counted from its end."""
    job = batch.jobs[position]
    ended_ns, sent_ns = _ns(ended_s), _ns(batch.sent_s)
    return Trace(
        model=job.plan.pool.model,
        version=version,
        request_id=bytes(job.id[:MAX_ID_BYTES]).decode(errors="replace"),
        arrived_ns=_ns(job.call.arrived_s),
        sent_ns=sent_ns,
        run_ns=max(sent_ns, ended_ns - micros * 1000),
        ended_ns=ended_ns,
        answered_ns=_ns(monotonic()),
    )


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
