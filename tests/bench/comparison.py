"""Two servers, one shape after the other, in turns; a Markdown table of both and their ratios."""

import math
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from tests.bench.servers import Echo

WARM_UP = 10
"""One in so many items is sent before anything is measured."""


@dataclass(frozen=True)
class Measured:
    """One run of one shape on one server.

    value: in the shape's unit. cpu_us: server CPU in µs for each call, message or MB; None: not asked.
    """

    value: float
    cpu_us: float | None = None


@dataclass(frozen=True)
class Side:
    """One of the two servers.

    share: the part of a shape's items that it is given, so that runs of a slow server take no longer.
    start: names of the module and its arguments, for shapes that want a server of their own.
    """

    name: str
    plain: Echo
    tls: Echo | None
    share: float
    module: str


@dataclass(frozen=True)
class Shape:
    """What is sent, and what of it is told.

    measure: runs so many items against a side.
    items: for one run of the fast side, about half a second's work. floor: for the slow side, at least.
    """

    name: str
    client: str
    unit: str
    cpu_unit: str
    measure: Callable[[Side, int], Measured]
    items: int
    aim: str = ""
    floor: int = 1


@dataclass(frozen=True)
class Row:
    """What the rounds of one shape came to.

    ratio: left by right, the median of the rounds' ratios: both sides of a round meet the same noise.
    """

    shape: Shape
    left: Measured
    right: Measured
    ratio: float


def compare(shapes: Sequence[Shape], left: Side, right: Side, rounds: int, scale: float = 1.0) -> Iterator[Row]:
    """Measures every shape `rounds` times on both sides, the order changing each time.

    scale: part of the items, for a quick look. Raises BenchError when an answer is not as it should be.
    """
    for shape in shapes:
        say(f"{shape.name} ({shape.client})")
        runs: dict[str, list[Measured]] = {left.name: [], right.name: []}
        for side in (left, right):
            shape.measure(side, items_of(shape, side, scale / WARM_UP))
        for number in range(rounds):
            for side in (left, right) if number % 2 else (right, left):
                runs[side.name].append(shape.measure(side, items_of(shape, side, scale)))
        for name, measured in runs.items():
            say(f"  {name}: {' '.join(written(run.value) for run in measured)} {shape.unit}")
        pairs = zip(runs[left.name], runs[right.name], strict=True)
        ratios = [one.value / other.value if other.value else math.inf for one, other in pairs]
        yield Row(shape, together(runs[left.name]), together(runs[right.name]), statistics.median(ratios))


def items_of(shape: Shape, side: Side, scale: float) -> int:
    """How many items a run of the shape has on a side."""
    return max(shape.floor, round(shape.items * side.share * scale))


def together(runs: Sequence[Measured]) -> Measured:
    """The median of values; of CPU, which the kernel counts in coarse steps, the mean without lowest and highest."""
    cpu = sorted(run.cpu_us for run in runs if run.cpu_us is not None)
    middle = cpu[1:-1] or cpu
    return Measured(statistics.median(run.value for run in runs), statistics.mean(middle) if middle else None)


def table(rows: Iterable[Row], left: str, right: str) -> Iterator[str]:
    """The Markdown lines. Ratios are the left side's figure divided by the right side's, of CPU that of the figures."""
    yield f"| shape | client | | {left} | {right} | ratio | aim | server CPU | {left} | {right} | ratio |"
    yield "|---|---|---|---:|---:|---:|---|---|---:|---:|---:|"
    for row in rows:
        shape, one, other = row.shape, row.left, row.right
        cells = [shape.name, shape.client, shape.unit, written(one.value), written(other.value)]
        cells += [f"× {written(row.ratio)}", shape.aim]
        if one.cpu_us is None or other.cpu_us is None:
            cells += [""] * 4
        else:
            share = f"× {written(one.cpu_us / other.cpu_us)}" if other.cpu_us else ""
            cells += [shape.cpu_unit, written(one.cpu_us), written(other.cpu_us), share]
        yield f"| {' | '.join(cells)} |"


def written(value: float) -> str:
    """Three digits at least, none behind the point that says nothing."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def say(text: str) -> None:
    """Progress on stderr; the table goes to stdout."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
