"""What was met at each multiple of the capacity, when it was over, and the table and aims made of it. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Final

from loadtests import units
from loadtests.bench.aims import Aim, at_least, at_most, ratio
from loadtests.bench.openloop import Found
from loadtests.recorder import OK

FACTORS: Final = (0.5, 0.8, 1.0, 1.5, 2.0, 4.0, 10.0)
"""Offered load in multiples of the capacity."""
REFUSED: Final = "RESOURCE_EXHAUSTED"
DEADLINE: Final = "DEADLINE_EXCEEDED"
NORMAL: Final = 2.0
"""A latency up to so many times that of before is normal."""
RECOVERY_S: Final = 2.0


@dataclass(frozen=True)
class Step:
    """One offered load. memory_bytes: the most that all processes of the gateway held meanwhile."""

    factor: float
    found: Found
    memory_bytes: int
    slo_s: float

    @property
    def goodput(self) -> float:
        """OK answers within the objective, per second."""
        return self.found.within(self.slo_s * 1e6) / self.found.seconds

    @property
    def late(self) -> int:
        """Answers after the objective, and those that came to nothing because their deadline had passed."""
        return self.found.ok - self.found.within(self.slo_s * 1e6) + self.found.answers.get(DEADLINE, 0)

    @property
    def refused(self) -> int:
        """Told at once to come back later."""
        return self.found.answers.get(REFUSED, 0)

    @property
    def others(self) -> int:
        """Whatever else: other errors, never answered, and never sent."""
        known = self.found.ok + self.refused + self.found.answers.get(DEADLINE, 0)
        return self.found.intended - known

    def share(self, count: int) -> float:
        """Of all requests."""
        return count / self.found.intended if self.found.intended else 0.0

    @property
    def p99_us(self) -> float | None:
        """Of accepted requests: those that were not refused. Whatever did not end well ranks behind what did."""
        found = self.found
        return found.quantile_us(0.99, found.intended - found.unsent - self.refused - found.ok)


@dataclass(frozen=True)
class Course:
    """One run of the bench. recovery_s: None when latencies did not become normal while it looked."""

    capacity: float
    max_queue_wait: str
    slo_s: float
    steps: Sequence[Step]
    recovery_s: float | None

    def step(self, factor: float) -> Step | None:
        """What was met at this multiple of the capacity."""
        return next((step for step in self.steps if step.factor == factor), None)


def recovered_after_s(report: dict[str, Any]) -> float | None:
    """Seconds from the end of the flood until latencies are normal, in a run of three stages: before, flood, after.

    Normal is a slice whose requests were all answered with OK, p99 at most twice that of before; two in a row must be.
    None: not while it looked.
    """
    before, flood, _ = report["stages"]
    over_s: float = before["seconds"] + flood["seconds"]
    bound_us = NORMAL * (before["latency_us"]["p99"] or 0.0)
    slices = [each for each in report["slices"] if each["at_s"] >= over_s - 1e-9]
    good = [_normal(each, bound_us) for each in slices]
    for index in range(len(good) - 1):
        if good[index] and good[index + 1]:
            return max(0.0, float(slices[index]["at_s"] - over_s))
    return None


def _normal(part: dict[str, Any], bound_us: float) -> bool:
    p99_us = part["latency_us"]["p99"]
    return part["answers"].get(OK, 0) == part["intended"] and p99_us is not None and p99_us <= bound_us


def table(course: Course) -> Iterator[str]:
    """The Markdown lines."""
    slo = f"p99 of accepted requests ≤ {units.format_us(course.slo_s * 1e6)}"
    yield f"capacity {course.capacity:,.0f}/s (closed loop), max_queue_wait {course.max_queue_wait}, objective: {slo}"
    yield ""
    heads = ("offered", "requests/s", "OK/s in time", "refused", "late", "other", "p50 of OK", "p99 of OK")
    yield f"| {' | '.join(heads)} | memory MB | sent late p99 |"
    yield f"|---|{'---:|' * (len(heads) + 1)}"
    for step in course.steps:
        found = step.found
        shares = " | ".join(units.format_percent(step.share(count)) for count in (step.refused, step.late, step.others))
        times = " | ".join(units.format_us(found.quantile_us(part)) for part in (0.5, 0.99))
        delay = units.format_us(found.send_delay_p99_us) + (": spoiled" if found.spoiled else "")
        yield (
            f"| {step.factor:g} × | {found.offered_per_s:,.0f} | {step.goodput:,.0f} | {shares} | {times} "
            f"| {step.memory_bytes / 1e6:,.0f} | {delay} |"
        )
    yield ""
    yield (
        f"After the flood latencies at {FACTORS[0]:g} × were normal "
        + ("not again while it looked." if course.recovery_s is None else f"within {course.recovery_s:.2f} s.")
    )
    yield ""


def aims(course: Course) -> list[Aim]:
    """What a gateway under flood owes those it accepts."""
    flood, calm = course.step(FACTORS[-1]), course.step(1.0)
    goodput = ratio(flood.goodput, course.capacity) if flood else None
    p99_us = flood.p99_us if flood else None
    if flood and p99_us is None:
        p99_us = inf
    recovery_s = inf if course.steps and course.recovery_s is None else course.recovery_s
    memory = ratio(float(flood.memory_bytes), float(calm.memory_bytes)) if flood and calm else None
    return [
        at_least("goodput at 10 ×, by the capacity", goodput, 0.9),
        at_most("p99 of accepted requests at 10 ×", None if p99_us is None else p99_us / 1e3, course.slo_s * 1e3, "ms"),
        at_most("memory at 10 ×, by that at 1 ×", memory, 1.1),
        at_most("until latencies are normal again", recovery_s, RECOVERY_S, "s"),
    ]
