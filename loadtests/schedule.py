"""When requests ought to be sent: open-loop arrivals, their rate a function of time. Same seed, same times. Pure.

Arrivals do not wait for answers: a slow server meets the same load as a fast one, which makes its slowness visible.
"""

import math
import random
from collections.abc import Iterator
from typing import NamedTuple

ARRIVALS = ("poisson", "constant")
SUITES = ("steady", "ramp", "spike")
WARM_UP = "warm-up"


class Stage(NamedTuple):
    """A stretch of time with a rate that changes linearly; `measured` False keeps it out of the verdict."""

    name: str
    duration_s: float
    start_rate: float
    """Arrivals per second at its beginning."""
    end_rate: float
    measured: bool = True

    @property
    def expected(self) -> float:
        """The number of arrivals the stage stands for."""
        return self.duration_s * (self.start_rate + self.end_rate) / 2


class Arrival(NamedTuple):
    """One request to send `at_s` seconds after the start; `stage` is an index."""

    number: int
    at_s: float
    stage: int


def steady(duration_s: float, rate: float, warmup_s: float) -> tuple[Stage, ...]:
    """One rate from beginning to end."""
    return _with_warm_up(warmup_s, rate, (Stage("steady", duration_s, rate, rate),))


def ramp(duration_s: float, rate: float, warmup_s: float, steps: int = 5) -> tuple[Stage, ...]:
    """From nearly nothing to `rate` along one straight line, reported in `steps` equal pieces."""
    edges = [rate * step / steps for step in range(steps + 1)]
    pieces = [
        Stage(f"{100 * step // steps}-{100 * (step + 1) // steps}%", duration_s / steps, edges[step], edges[step + 1])
        for step in range(steps)
    ]
    return _with_warm_up(warmup_s, rate / steps, tuple(pieces))


def spike(duration_s: float, rate: float, warmup_s: float, peak: float = 3.0) -> tuple[Stage, ...]:
    """`rate`, then `peak` times as much at once for a fifth of the time, then `rate` again."""
    stages = (
        Stage("before", duration_s * 0.4, rate, rate),
        Stage("spike", duration_s * 0.2, rate * peak, rate * peak),
        Stage("after", duration_s * 0.4, rate, rate),
    )
    return _with_warm_up(warmup_s, rate, stages)


def build(suite: str, duration_s: float, rate: float, warmup_s: float, peak: float) -> tuple[Stage, ...]:
    """The stages of a suite by name. Raises KeyError for an unknown one."""
    if suite == "spike":
        return spike(duration_s, rate, warmup_s, peak)
    return {"steady": steady, "ramp": ramp}[suite](duration_s, rate, warmup_s)


def arrivals(stages: tuple[Stage, ...], kind: str, seed: int) -> Iterator[Arrival]:
    """The arrivals of all stages in order of time.

    Both kinds walk the cumulated rate: `constant` in steps of one, `poisson` in exponential steps of mean one (time
    change of a unit Poisson process), so a changing rate is followed exactly rather than in jumps.
    """
    source = random.Random(seed)  # noqa: S311 - a reproducible load, not a secret

    def step() -> float:
        return 1.0 if kind == "constant" else source.expovariate(1.0)

    number, mark = 0, step()
    begin_s, passed = 0.0, 0.0
    for index, stage in enumerate(stages):
        expected = stage.expected
        while mark <= passed + expected:
            yield Arrival(number, begin_s + _time_of(stage, mark - passed), index)
            number += 1
            mark += step()
        passed += expected
        begin_s += stage.duration_s


def length_s(stages: tuple[Stage, ...]) -> float:
    """Seconds from the start to the end of the last stage."""
    return math.fsum(stage.duration_s for stage in stages)


def _with_warm_up(warmup_s: float, rate: float, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    return (Stage(WARM_UP, warmup_s, rate, rate, measured=False), *stages) if warmup_s > 0 else stages


def _time_of(stage: Stage, count: float) -> float:
    """When the stage's cumulated rate reaches `count`: the root of start·t + slope·t²/2 = count, no cancellation."""
    slope = (stage.end_rate - stage.start_rate) / stage.duration_s
    root = math.sqrt(max(0.0, stage.start_rate**2 + 2 * slope * count))
    return min(stage.duration_s, 2 * count / (stage.start_rate + root)) if count > 0 else 0.0
