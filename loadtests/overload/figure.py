"""The course of an overload as one SVG: goodput, latency and refusals over the offered load. Needs nothing else."""

from collections.abc import Callable, Sequence
from html import escape

from loadtests import plot, units
from loadtests.overload.steps import Course, Step

PANEL = plot.HEIGHT + 36
_STYLE = """
svg { --ink: #1c2733; --soft: #5b6b7b; --rule: #dfe5eb; --paper: #fff; --main: #2563eb; --fill: #2563eb33;
  --second: #d97706; --bad: #dc2626; background: var(--paper); font-family: system-ui, sans-serif }
@media (prefers-color-scheme: dark) { svg { --ink: #e6edf3; --soft: #93a1b0; --rule: #2d3743; --paper: #0f1720;
  --main: #60a5fa; --fill: #60a5fa33; --second: #fbbf24; --bad: #f87171 } }
text { fill: var(--soft); font-size: 11px } .head { fill: var(--ink); font-size: 13px; font-weight: 600 }
.grid { stroke: var(--rule) } .axis { stroke: var(--soft) }
.main { fill: none; stroke: var(--main); stroke-width: 2 }
.second { fill: none; stroke: var(--second); stroke-width: 2 }
.bad { fill: none; stroke: var(--bad); stroke-width: 2 }
.wanted { fill: none; stroke: var(--soft); stroke-dasharray: 5 4 }
.fill { fill: var(--fill) } .dot { fill: var(--main) }
"""


def draw(course: Course) -> str:
    """The SVG document."""
    panels = [_goodput(course), _latency(course), _refused(course)]
    parts = []
    for index, (title, chart) in enumerate(panels):
        top = index * PANEL
        parts.append(f'<text class="head" x="{plot.LEFT}" y="{top + 24}">{escape(title)}</text>{chart.group(top + 30)}')
    height = len(panels) * PANEL
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {plot.WIDTH} {height}" role="img" '
        f'aria-label="goodput, latency and refusals under overload"><style>{_STYLE}</style>{"".join(parts)}</svg>\n'
    )


def _goodput(course: Course) -> tuple[str, plot.Chart]:
    high = 1.2 * max(course.capacity, *(step.goodput for step in course.steps))
    chart = plot.Chart(_factors(course), plot.linear(high, lambda rate: f"{rate:,.4g}/s"), _UNDER)
    ends = (course.steps[0].factor, course.steps[-1].factor)
    chart.line([(factor, course.capacity) for factor in ends], "wanted")
    points = _points(course.steps, lambda step: step.goodput)
    chart.area(points, "fill")
    chart.line(points, "main")
    for step in course.steps:
        chart.mark(step.factor, step.goodput, "dot", f"{step.factor:g} ×: {step.goodput:,.0f}/s")
    return f"OK answers in time, per second (dashed: capacity, {course.capacity:,.0f}/s)", chart


def _latency(course: Course) -> tuple[str, plot.Chart]:
    known = [step for step in course.steps if step.p99_us is not None]
    values = [value for step in known for value in (step.found.quantile_us(0.5), step.p99_us) if value is not None]
    values.append(course.slo_s * 1e6)
    y_axis = plot.logarithmic(max(1.0, min(values)), max(values), units.format_us)
    chart = plot.Chart(_factors(course), y_axis, _UNDER)
    ends = (course.steps[0].factor, course.steps[-1].factor)
    chart.line([(factor, course.slo_s * 1e6) for factor in ends], "wanted")
    chart.line(_points(known, lambda step: step.p99_us or 1.0), "second")
    chart.line(_points(known, lambda step: step.found.quantile_us(0.5) or 1.0), "main")
    return "Latency of accepted requests: p99 (amber) and p50 (dashed: the objective for p99)", chart


def _refused(course: Course) -> tuple[str, plot.Chart]:
    chart = plot.Chart(_factors(course), plot.linear(1.0, units.format_percent), _UNDER)
    refused = _points(course.steps, lambda step: step.share(step.refused))
    chart.area(refused, "fill")
    chart.line(refused, "main")
    chart.line(_points(course.steps, lambda step: step.share(step.late + step.others)), "bad")
    return "Refused at once (blue); late, failed or never answered (red), of all requests", chart


_UNDER = "offered load, in multiples of the capacity"


def _factors(course: Course) -> plot.Axis:
    low, high = course.steps[0].factor, course.steps[-1].factor
    return plot.logarithmic(low, high, lambda factor: f"{factor:g} ×")


def _points(steps: Sequence[Step], value: Callable[[Step], float]) -> list[plot.Point]:
    return [(step.factor, value(step)) for step in steps]
