"""What a bench aims at and what it reached, as a Markdown table. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf


@dataclass(frozen=True)
class Aim:
    """One sentence with a bound. `unit` is written behind both numbers.

    `value` None: it was not measured; infinite: it was looked for, and never came.
    """

    text: str
    value: float | None
    bound: float
    at_least: bool
    unit: str = "×"

    @property
    def verdict(self) -> str:
        """In words."""
        if self.value is None:
            return "not measured"
        good = self.value >= self.bound if self.at_least else self.value <= self.bound
        return "reached" if good else "not reached"


def at_least(text: str, value: float | None, bound: float, unit: str = "×") -> Aim:
    """More is better."""
    return Aim(text, value, bound, True, unit)


def at_most(text: str, value: float | None, bound: float, unit: str = "×") -> Aim:
    """Less is better."""
    return Aim(text, value, bound, False, unit)


def ratio(one: float | None, other: float | None) -> float | None:
    """one / other, or None when either was not measured or there is nothing to divide by."""
    return one / other if one is not None and other else None


def table(aims: Iterable[Aim]) -> Iterator[str]:
    """The Markdown lines."""
    yield "| aim | bound | found | |"
    yield "|---|---:|---:|---|"
    for aim in aims:
        sign = "≥" if aim.at_least else "≤"
        found = "" if aim.value is None else _written(aim.value, aim.unit)
        yield f"| {aim.text} | {sign} {_written(aim.bound, aim.unit)} | {found} | {aim.verdict} |"


def _written(value: float, unit: str) -> str:
    if value == inf:
        return "never"
    number = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{unit} {number}" if unit == "×" else f"{number} {unit}"
