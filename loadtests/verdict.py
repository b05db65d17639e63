"""Whether what was measured meets a service-level objective, bound by bound. Pure."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from loadtests import units
from loadtests.recorder import Tally
from loadtests.slo import Slo, percentile

PASS = "pass"  # noqa: S105 - a verdict, not a password
FAIL = "fail"
INCONCLUSIVE = "inconclusive"

LATE_SHARE = 0.5
"""A load generator whose own delay (p99) is above this part of a latency bound cannot tell that the bound is broken."""


@dataclass(frozen=True)
class Objective:
    """One bound and what was found. Values are microseconds, a fraction of one, or per second, as `unit` says."""

    metric: str
    value: float | None
    """None: the percentile falls among requests without a right answer."""
    bound: float
    unit: str
    """`us`, `fraction` or `per_s`."""
    n: int
    """Requests the value rests on."""
    result: str
    text: str


@dataclass(frozen=True)
class Verdict:
    """`fail` if any bound is broken, else `inconclusive` if any could not be judged, else `pass`."""

    result: str
    objectives: tuple[Objective, ...]

    @property
    def passed(self) -> bool:
        """Inconclusive is not passed."""
        return self.result == PASS


def judge(measured: Tally, seconds: float, slo: Slo) -> Verdict:
    """The verdict on `measured`, whose requests were answered within `seconds`."""
    objectives = tuple(_objectives(measured, seconds, slo))
    results = {objective.result for objective in objectives}
    return Verdict(next((result for result in (FAIL, INCONCLUSIVE) if result in results), PASS), objectives)


def needed(fraction: float) -> int:
    """How many requests a percentile must rest on: the rule of three.

    If all n requests keep the bound, more than 3/n of violations are excluded with 95 % confidence; so a p99 needs 300.
    """
    return math.ceil(round(3 / (1 - fraction), 6))


def _objectives(measured: Tally, seconds: float, slo: Slo) -> Iterator[Objective]:
    n = measured.intended
    for metric, bound_us in slo.latency_us:
        quantile = percentile(metric)
        if quantile is not None:
            value, enough = measured.quantile_us(quantile), max(slo.min_requests, needed(quantile))
        else:
            # Mean and slowest speak of the answers there were; the error rate speaks of the others.
            answered_us = measured.latency.mean_us if metric == "mean" else measured.latency.max_us
            value, enough = answered_us if measured.ok else None, slo.min_requests
        yield _excused(_objective(metric, value, "<=", bound_us, "us", n, enough), measured)
    if slo.max_error_rate is not None:
        value = measured.failed / n if n else 0.0
        yield _objective("error rate", value, "<=", slo.max_error_rate, "fraction", n, slo.min_requests)
    if slo.min_rate is not None:
        value = measured.ok / seconds if seconds > 0 else 0.0
        yield _objective("throughput", value, ">=", slo.min_rate, "per_s", n, slo.min_requests)
    if slo.min_of_intended is not None:
        value = measured.ok / n if n else 0.0
        yield _objective("answered of intended", value, ">=", slo.min_of_intended, "fraction", n, slo.min_requests)


def _excused(latency: Objective, measured: Tally) -> Objective:
    """A broken latency bound is inconclusive when the load generator was late itself; requests without a right answer
    are no matter of pace.
    """
    late_us = measured.pacing.quantile_us(0.99) or 0.0
    if latency.result != FAIL or latency.value is None or late_us <= LATE_SHARE * latency.bound:
        return latency
    text = f"{latency.text}: the load generator itself was late (p99 {units.format_us(late_us)}), so this says little"
    return replace(latency, result=INCONCLUSIVE, text=text)


def _objective(  # noqa: PLR0913 - one row of a table, in its order
    metric: str, value: float | None, sign: str, bound: float, unit: str, n: int, enough: int
) -> Objective:
    met = value is not None and (value <= bound if sign == "<=" else value >= bound)
    result = INCONCLUSIVE if n < enough else PASS if met else FAIL
    relation = {("<=", True): "≤", ("<=", False): ">", (">=", True): "≥", (">=", False): "<"}[sign, met]
    shown = f"{metric} {_format(value, unit)} {relation} {_format(bound, unit)} (n = {n:,})"
    if result == INCONCLUSIVE:
        shown += f": needs {enough:,} requests"
    return Objective(metric, value, bound, unit, n, result, shown)


def _format(value: float | None, unit: str) -> str:
    if unit == "us":
        return units.format_us(value)
    return units.format_rate(value or 0.0) if unit == "per_s" else units.format_percent(value or 0.0)
