"""The longest that requests of one release may take (`timeout_ms`), as a way into a lane of its own.

So it costs nothing where a release has none.
"""

from gateway.dataplane.door import Door
from gateway.dataplane.job import Job, Ranked
from gateway.dataplane.lane import Lane
from gateway.dataplane.plan import Plans
from gateway.errors import Late, RequestError


class TimedLane:
    """Puts jobs into a lane whose callers wait no longer than `timeout_ms`, whatever their deadlines are."""

    __slots__ = ("_lane", "_timeout_ms")

    def __init__(self, lane: Lane, timeout_ms: int) -> None:
        self._lane = lane
        self._timeout_ms = timeout_ms

    @property
    def plans(self) -> Plans:
        """The lane's."""
        return self._lane.plans

    @property
    def door(self) -> Door:
        """The lane's."""
        return self._lane.door

    def submit(self, job: Job) -> None:
        """Queues the job as `Lane.submit` does; one whose caller allows more time gets the release's."""
        call = job.call
        until_s = call.arrived_s + self._timeout_ms / 1000
        if call.deadline_s <= until_s:
            self._lane.submit(job)
            return
        call.deadline_s = until_s
        timed = TimedJob(job, self._timeout_ms)
        timed.deadline_s = min(job.deadline_s, until_s)
        try:
            self._lane.submit(timed)
        except Late as error:
            raise timed.named(error, timed.deadline_s) from None


class TimedJob(Ranked):
    """A job whose deadline is its release's."""

    __slots__ = ("_timeout_ms",)

    def __init__(self, job: Job, timeout_ms: int) -> None:
        super().__init__(job, job.level, job.who)
        self._timeout_ms = timeout_ms

    def fail(self, error: RequestError, now_s: float) -> None:
        """Answers with the error; one that it owes to the release says so."""
        super().fail(self.named(error, now_s) if isinstance(error, Late) else error, now_s)

    def named(self, error: Late, now_s: float) -> Late:
        """The error, with the setting if it is the release's time that is up, and not an earlier limit of waiting."""
        if now_s < self.call.deadline_s:
            return error
        return Late(f"{error}; it is the release's: timeout_ms = {self._timeout_ms}")
