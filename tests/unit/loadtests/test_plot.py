"""Axes and marks."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests import plot


@given(st.floats(1e-3, 1e9))
def test_a_linear_axis_has_a_few_round_ticks(high: float) -> None:
    axis = plot.linear(high, str)
    assert 2 <= len(axis.ticks) <= 6
    assert axis.part(0) == 0
    assert axis.part(high) == 1


@given(st.floats(1, 1e8), st.floats(1, 1e8))
def test_a_logarithmic_axis_holds_both_ends(one: float, two: float) -> None:
    low, high = sorted((one, two))
    axis = plot.logarithmic(low, high, str)
    assert 0 <= axis.part(low) <= axis.part(high) <= 1
    assert axis.ticks
    assert all(0 <= axis.part(value) <= 1 for value, _ in axis.ticks)


def test_zero_is_no_reason_to_break() -> None:
    assert plot.linear(0, str).part(0) == 0
    assert plot.logarithmic(1, 1, str).part(1) == pytest.approx(0)


def test_marks_stay_inside_and_are_escaped() -> None:
    chart = plot.Chart(plot.linear(10, str), plot.linear(10, str), "x & y")
    chart.line([(0, 0), (20, 20)], "main")
    chart.area([], "fill")
    chart.area([(0, 5), (10, 5)], "fill")
    chart.bar((1, 2), 5, "bar", "<five>")
    chart.mark(3, 4, "dot", "here")
    chart.band(0, 1, "warm")
    text = chart.svg('"quoted"')
    assert text.startswith('<svg viewBox="0 0 640 240" role="img" aria-label="&quot;quoted&quot;">')
    assert "x &amp; y" in text
    assert "&lt;five&gt;" in text
    assert f"{plot.WIDTH - plot.RIGHT:.1f},{plot.TOP:.1f}" in text
    assert chart.group(30) == f'<g transform="translate(0 30)">{text.partition(">")[2].removesuffix("</svg>")}</g>'
    assert not re.search(r"nan|inf", text)
