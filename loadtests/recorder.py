"""What the requests of a load test met: per stage and per second, mergeable across processes. Pure.

A latency runs from the moment a request ought to have been sent. A request that failed or was never sent has none: it
ranks behind every answered one, so failing fast cannot improve a percentile.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from loadtests.schedule import Stage

OK = "OK"
UNSENT = "UNSENT"

SUB_BITS = 7
_EXACT = 1 << (SUB_BITS + 1)


class Histogram:
    """Counts of whole microseconds: exact below 256 µs, then 128 buckets per power of two (under 0.8 % wide)."""

    __slots__ = ("count", "counts", "max_us", "sum_us")

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self.count = 0
        self.sum_us = 0
        self.max_us = 0

    def add(self, value_us: int) -> None:
        """Counts one duration; negative counts as 0."""
        value_us = max(0, value_us)
        self.counts[bucket(value_us)] += 1
        self.count += 1
        self.sum_us += value_us
        self.max_us = max(self.max_us, value_us)

    def quantile_us(self, fraction: float, ranked_behind: int = 0) -> float | None:
        """The duration of nearest rank `ceil(fraction * n)`, n counting `ranked_behind` more that have no duration.

        None when the rank falls among those, or when there is nothing.
        """
        rank = max(1, math.ceil(round(fraction * (self.count + ranked_behind), 9)))
        if rank > self.count:
            return None
        seen = 0
        for index in sorted(self.counts):
            seen += self.counts[index]
            if seen >= rank:
                return min(float(upper_us(index)), float(self.max_us))
        return None

    def within(self, limit_us: float) -> int:
        """How many durations are at most so long, as far as buckets tell: those of the bucket it falls into count."""
        if limit_us < 0:
            return 0
        last = bucket(int(limit_us))
        return sum(count for index, count in self.counts.items() if index <= last)

    @property
    def mean_us(self) -> float | None:
        """The exact mean; None when empty."""
        return self.sum_us / self.count if self.count else None

    def merge(self, other: "Histogram") -> None:
        """Adds the other's counts to these."""
        self.counts.update(other.counts)
        self.count += other.count
        self.sum_us += other.sum_us
        self.max_us = max(self.max_us, other.max_us)

    def to_json(self) -> dict[str, Any]:
        """Plain values; `counts` as `[bucket, count]` pairs."""
        return {"counts": sorted(self.counts.items()), "sum_us": self.sum_us, "max_us": self.max_us}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Histogram":
        """The inverse of `to_json`."""
        made = cls()
        made.counts = Counter({int(index): int(count) for index, count in data["counts"]})
        made.count, made.sum_us, made.max_us = made.counts.total(), int(data["sum_us"]), int(data["max_us"])
        return made


def bucket(value_us: int) -> int:
    """The bucket of a duration in whole microseconds."""
    if value_us < _EXACT:
        return value_us
    shift = value_us.bit_length() - SUB_BITS - 1
    return (shift << SUB_BITS) + (value_us >> shift)


def upper_us(index: int) -> int:
    """The largest duration that falls into the bucket."""
    if index < _EXACT:
        return index
    shift = (index >> SUB_BITS) - 1
    sub = index & ((1 << SUB_BITS) - 1)
    return ((sub + (1 << SUB_BITS) + 1) << shift) - 1


class Tally:
    """The requests of one stretch of time."""

    __slots__ = ("delay", "intended", "latency", "outcomes", "pacing", "waited")

    def __init__(self) -> None:
        self.intended = 0
        """Requests that ought to have been sent."""
        self.waited = 0
        """Of these, requests that found every user busy and were sent late."""
        self.outcomes: Counter[str] = Counter()
        """Answers by outcome: OK, a gRPC status name, WRONG_VERSION, WRONG_ARM."""
        self.latency = Histogram()
        """OK answers, from the intended time."""
        self.delay = Histogram()
        """From the intended to the actual sending."""
        self.pacing = Histogram()
        """The load generator's own part of that: from the intended time until the request was handed out."""

    @property
    def ok(self) -> int:
        """Right answers."""
        return self.outcomes[OK]

    @property
    def unsent(self) -> int:
        """Requests that were still waiting for a user at the end."""
        return self.intended - sum(self.outcomes.values())

    @property
    def failed(self) -> int:
        """Requests without a right answer, the unsent included."""
        return self.intended - self.ok

    def errors(self) -> dict[str, int]:
        """Failed requests by what went wrong, the most frequent first."""
        found = {name: count for name, count in self.outcomes.most_common() if name != OK and count}
        return found | ({UNSENT: self.unsent} if self.unsent else {})

    def quantile_us(self, fraction: float) -> float | None:
        """A percentile over all intended requests; None when it falls among those that got no right answer."""
        return self.latency.quantile_us(fraction, ranked_behind=self.failed)

    def merge(self, other: "Tally") -> None:
        """Adds the other's requests to these."""
        self.intended += other.intended
        self.waited += other.waited
        self.outcomes.update(other.outcomes)
        self.latency.merge(other.latency)
        self.delay.merge(other.delay)
        self.pacing.merge(other.pacing)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "intended": self.intended,
            "waited": self.waited,
            "outcomes": dict(self.outcomes),
            "latency": self.latency.to_json(),
            "delay": self.delay.to_json(),
            "pacing": self.pacing.to_json(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Tally":
        """The inverse of `to_json`."""
        made = cls()
        made.intended, made.waited = int(data["intended"]), int(data["waited"])
        made.outcomes = Counter(data["outcomes"])
        made.latency, made.delay = Histogram.from_json(data["latency"]), Histogram.from_json(data["delay"])
        made.pacing = Histogram.from_json(data["pacing"])
        return made


class Recorder:
    """Tallies by stage and by second of the intended time."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = tuple(stages)
        self.tallies = [Tally() for _ in stages]
        self.seconds: dict[int, Tally] = {}
        self.last_s = 0.0
        """When the last answer came, in seconds after the start."""

    def intend(self, stage: int, at_s: float, waits: bool, late_s: float = 0.0) -> None:
        """A request is handed out, `late_s` after it was due; `waits` when no user is free to send it."""
        for tally in (self.tallies[stage], self._second(at_s)):
            tally.intended += 1
            tally.waited += waits
            tally.pacing.add(round(late_s * 1e6))

    def record(self, stage: int, at_s: float, sent_s: float, done_s: float, outcome: str) -> int:
        """A request is over; all times in seconds after the start. Returns its latency in microseconds."""
        latency_us, delay_us = round((done_s - at_s) * 1e6), round((sent_s - at_s) * 1e6)
        for tally in (self.tallies[stage], self._second(at_s)):
            tally.outcomes[outcome] += 1
            tally.delay.add(delay_us)
            if outcome == OK:
                tally.latency.add(latency_us)
        self.last_s = max(self.last_s, done_s)
        return latency_us

    def measured(self) -> Tally:
        """All stages that count for the verdict, added up."""
        return _sum(tally for stage, tally in zip(self.stages, self.tallies, strict=True) if stage.measured)

    def measured_s(self) -> float:
        """Seconds in which the measured requests were answered: the stages, and what the server needed beyond."""
        unmeasured_s = math.fsum(stage.duration_s for stage in self.stages if not stage.measured)
        planned_s = math.fsum(stage.duration_s for stage in self.stages if stage.measured)
        return max(planned_s, self.last_s - unmeasured_s)

    def merge(self, other: "Recorder") -> None:
        """Adds the requests of another process that drove a part of the same schedule."""
        for mine, theirs in zip(self.tallies, other.tallies, strict=True):
            mine.merge(theirs)
        for second, theirs in other.seconds.items():
            self._second(second).merge(theirs)
        self.last_s = max(self.last_s, other.last_s)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "stages": [list(stage) for stage in self.stages],
            "tallies": [tally.to_json() for tally in self.tallies],
            "seconds": [[second, tally.to_json()] for second, tally in sorted(self.seconds.items())],
            "last_s": self.last_s,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Recorder":
        """The inverse of `to_json`."""
        made = cls([Stage(*stage) for stage in data["stages"]])
        made.tallies = [Tally.from_json(tally) for tally in data["tallies"]]
        made.seconds = {int(second): Tally.from_json(tally) for second, tally in data["seconds"]}
        made.last_s = float(data["last_s"])
        return made

    def _second(self, at_s: float) -> Tally:
        second = int(at_s)
        if second not in self.seconds:
            self.seconds[second] = Tally()
        return self.seconds[second]


def _sum(tallies: Iterable[Tally]) -> Tally:
    total = Tally()
    for tally in tallies:
        total.merge(tally)
    return total
