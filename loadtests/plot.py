"""Small line and bar charts as SVG text: no script, no external resource; colours come from the page's CSS."""

import math
from collections.abc import Callable, Sequence
from html import escape

WIDTH, HEIGHT = 640, 240
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 12, 34

Point = tuple[float, float]
Tick = tuple[float, str]


class Chart:
    """One chart; x and y are already scaled by the caller's axes (`linear` or `logarithmic`)."""

    def __init__(self, x_axis: "Axis", y_axis: "Axis", x_title: str) -> None:
        self._x, self._y = x_axis, y_axis
        self._parts: list[str] = []
        self._draw_axes(x_title)

    def line(self, points: Sequence[Point], style: str) -> None:
        """Joins the points with straight lines."""
        path = " ".join(f"{self.at_x(x):.1f},{self.at_y(y):.1f}" for x, y in points)
        self._parts.append(f'<polyline class="{style}" points="{path}"/>')

    def area(self, points: Sequence[Point], style: str) -> None:
        """Fills between the line through the points and the x axis."""
        if points:
            floor = HEIGHT - BOTTOM
            path = " ".join(f"{self.at_x(x):.1f},{self.at_y(y):.1f}" for x, y in points)
            first, last = self.at_x(points[0][0]), self.at_x(points[-1][0])
            self._parts.append(f'<polygon class="{style}" points="{first:.1f},{floor} {path} {last:.1f},{floor}"/>')

    def bar(self, x_range: tuple[float, float], y: float, style: str, title: str) -> None:
        """A bar on the x axis, with a tooltip."""
        left, top = self.at_x(x_range[0]), self.at_y(y)
        width, height = max(1.0, self.at_x(x_range[1]) - left - 1), HEIGHT - BOTTOM - top
        self._parts.append(
            f'<rect class="{style}" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}">'
            f"<title>{escape(title)}</title></rect>"
        )

    def mark(self, x: float, y: float, style: str, title: str) -> None:
        """A dot, with a tooltip."""
        self._parts.append(
            f'<circle class="{style}" cx="{self.at_x(x):.1f}" cy="{self.at_y(y):.1f}" r="3.5">'
            f"<title>{escape(title)}</title></circle>"
        )

    def band(self, x_from: float, x_to: float, style: str) -> None:
        """A stripe over the whole height."""
        left, right = self.at_x(x_from), self.at_x(x_to)
        height = HEIGHT - BOTTOM - TOP
        self._parts.append(
            f'<rect class="{style}" x="{left:.1f}" y="{TOP}" width="{right - left:.1f}" height="{height}"/>'
        )

    def svg(self, label: str) -> str:
        """The chart's SVG element."""
        return (
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label, quote=True)}">'
            f"{''.join(self._parts)}</svg>"
        )

    def group(self, top: float) -> str:
        """The chart as a part of a larger drawing, `top` below its edge."""
        return f'<g transform="translate(0 {top:g})">{"".join(self._parts)}</g>'

    def at_x(self, value: float) -> float:
        """The horizontal position."""
        return LEFT + self._x.part(value) * (WIDTH - LEFT - RIGHT)

    def at_y(self, value: float) -> float:
        """The vertical position."""
        return HEIGHT - BOTTOM - self._y.part(value) * (HEIGHT - BOTTOM - TOP)

    def _draw_axes(self, x_title: str) -> None:
        floor, end = HEIGHT - BOTTOM, WIDTH - RIGHT
        for value, text in self._y.ticks:
            y = self.at_y(value)
            self._parts.append(f'<line class="grid" x1="{LEFT}" x2="{end}" y1="{y:.1f}" y2="{y:.1f}"/>')
            self._parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(text)}</text>')
        for value, text in self._x.ticks:
            x = self.at_x(value)
            self._parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{floor}" y2="{floor + 4}"/>')
            self._parts.append(f'<text x="{x:.1f}" y="{floor + 16}" text-anchor="middle">{escape(text)}</text>')
        self._parts.append(f'<line class="axis" x1="{LEFT}" x2="{end}" y1="{floor}" y2="{floor}"/>')
        self._parts.append(f'<text class="title" x="{end}" y="{HEIGHT - 4}" text-anchor="end">{escape(x_title)}</text>')


class Axis:
    """From values to parts of the length, 0 to 1, with ticks."""

    def __init__(self, low: float, high: float, ticks: Sequence[Tick], scale: Callable[[float], float]) -> None:
        self.ticks = ticks
        self._scale = scale
        self._low = scale(low)
        self._span = scale(high) - self._low or 1.0

    def part(self, value: float) -> float:
        """Where the value lies; values beyond an end are put at the end."""
        return min(1.0, max(0.0, (self._scale(value) - self._low) / self._span))


def linear(high: float, text: Callable[[float], str]) -> Axis:
    """From 0 to `high` with about five round ticks."""
    high = high if high > 0 else 1.0
    rough = high / 5
    unit = 10 ** math.floor(math.log10(rough))
    step = next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= rough)
    ticks = [(index * step, text(index * step)) for index in range(int(high / step + 1e-9) + 1)]
    return Axis(0, high, ticks, lambda value: value)


def logarithmic(low: float, high: float, text: Callable[[float], str]) -> Axis:
    """From `low` to `high`, both above 0, widened to ticks at 1, 2 and 5 times powers of ten."""
    low, high = max(low, 1e-9), max(high, low * 1.01, 1e-9)
    steps = [factor * 10.0**power for power in range(math.floor(math.log10(low)), 13) for factor in (1, 2, 5)]
    first = max(index for index, step in enumerate(steps) if step <= low * (1 + 1e-9))
    last = next(index for index, step in enumerate(steps) if step >= high * (1 - 1e-9) and index > first)
    shown = steps[first : last + 1]
    if len(shown) > 9:
        shown = [step for step in shown if f"{step:e}".startswith("1.0")]
    return Axis(steps[first], steps[last], [(step, text(step)) for step in shown], math.log10)
