"""What became of the requests of an open-loop run: per stage and per slice of time. Pure.

A latency runs from the moment a request ought to have been sent. `unsent`: too many were in flight then, and it never
was; or the generator did not get to it. `unanswered`: the run ended before it was. Both, like every answer but OK, have
no latency.
"""

from collections import Counter
from typing import Any, Final

from loadtests.recorder import OK, Histogram
from loadtests.schedule import Stage

QUANTILES: Final = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999))


class Tally:
    """The requests of one stretch of time."""

    def __init__(self) -> None:
        self.intended = 0
        self.unsent = 0
        self.codes: Counter[str] = Counter()
        self.ok = Histogram()
        self.delays = Histogram()
        """How late requests left: the load generator's own share."""
        self.late = 0
        """OK, but after the deadline."""

    def answered(self, status: str, latency_us: int, deadline_us: int) -> None:
        """Counts one answer; `deadline_us` 0: none."""
        self.codes[status] += 1
        if status == OK:
            self.ok.add(latency_us)
            if deadline_us and latency_us > deadline_us:
                self.late += 1

    def add(self, other: "Tally") -> None:
        """Adds the other's requests to these."""
        self.intended += other.intended
        self.unsent += other.unsent
        self.codes.update(other.codes)
        self.ok.merge(other.ok)
        self.delays.merge(other.delays)
        self.late += other.late

    @property
    def unanswered(self) -> int:
        """Sent, and nothing came back."""
        return self.intended - self.unsent - self.codes.total()

    def told(self, seconds: float) -> dict[str, Any]:
        """Plain values. `latency_us` is that of OK answers; in `ranked_us` all other requests rank behind them."""
        behind = self.intended - self.ok.count
        return {
            "seconds": seconds,
            "intended": self.intended,
            "intended_per_s": self.intended / seconds,
            "ok_per_s": self.codes[OK] / seconds,
            "answers": dict(sorted(self.codes.items())),
            "late": self.late,
            "unsent": self.unsent,
            "unanswered": self.unanswered,
            "latency_us": quantiles(self.ok) | {"max": self.ok.max_us, "mean": self.ok.mean_us},
            "ranked_us": {name: self.ok.quantile_us(part, behind) for name, part in QUANTILES},
            "send_delay_us": quantiles(self.delays) | {"max": self.delays.max_us},
            "histogram": self.ok.to_json(),
        }


class Slices:
    """Short stretches of intended time, for what changes during a run."""

    def __init__(self, width_s: float) -> None:
        self.width_s = width_s
        self._tallies: dict[int, Tally] = {}

    def at(self, at_s: float) -> Tally:
        """The slice that a moment belongs to."""
        index = int(at_s / self.width_s)
        tally = self._tallies.get(index)
        if tally is None:
            tally = self._tallies[index] = Tally()
        return tally

    def told(self) -> list[dict[str, Any]]:
        """Plain values, in order of time."""
        return [
            {
                "at_s": index * self.width_s,
                "intended": tally.intended,
                "unsent": tally.unsent,
                "unanswered": tally.unanswered,
                "answers": dict(sorted(tally.codes.items())),
                "latency_us": quantiles(tally.ok),
            }
            for index, tally in sorted(self._tallies.items())
        ]


def quantiles(histogram: Histogram) -> dict[str, float | None]:
    """The usual ones, in microseconds; None when there is nothing."""
    return {name: histogram.quantile_us(part) for name, part in QUANTILES}


def report(stages: tuple[Stage, ...], tallies: list[Tally], slices: Slices) -> dict[str, Any]:
    """All stages, their measured sum, and the slices."""
    together = Tally()
    seconds = 0.0
    for stage, tally in zip(stages, tallies, strict=True):
        if stage.measured:
            together.add(tally)
            seconds += stage.duration_s
    return {
        "stages": [
            {"name": stage.name, "measured": stage.measured, "rate": stage.start_rate} | tally.told(stage.duration_s)
            for stage, tally in zip(stages, tallies, strict=True)
        ],
        "measured": together.told(seconds),
        "slices": slices.told(),
    }


def warnings(measured: dict[str, Any]) -> list[str]:
    """What makes the numbers less than they seem, in sentences."""
    found = []
    delay_us, latency_us = measured["send_delay_us"]["p99"] or 0, measured["latency_us"]["p99"]
    if latency_us and delay_us > latency_us / 2:
        found.append(
            f"the load generator was late itself: p99 {delay_us:.0f} µs, of a p99 latency of {latency_us:.0f} µs; "
            "this run says little"
        )
    if measured["unsent"]:
        found.append(f"{measured['unsent']:,} requests were not sent: too many were in flight, or there was no time")
    if measured["unanswered"]:
        found.append(f"{measured['unanswered']:,} requests had no answer when the run ended")
    return found
