"""Charts show every second and every bound."""

import re

from loadtests import charts, report
from loadtests.recorder import OK, Recorder
from loadtests.schedule import Stage
from loadtests.slo import Slo
from tests.unit.loadtests.samples import measurement


def test_bounds_and_failures_are_drawn() -> None:
    text = charts.draw(report.build(measurement(), Slo((("p50", 20_000.0), ("p99", 5000.0)), min_requests=1)))
    assert text.count('class="mark-pass"') == 1
    assert text.count('class="mark-fail"') == 1
    assert text.count('class="warm"') == 2
    assert 'class="error"' in text
    assert 'class="error"' not in charts.draw(report.build(measurement(failing=False), None))


def test_bars_hold_every_answer() -> None:
    built = report.build(measurement(), None)
    counts = re.findall(r'class="bar".*?: ([\d,]+)</title>', charts.draw(built))
    assert sum(int(count.replace(",", "")) for count in counts) == built["measured"]["answered"]


def test_long_runs_are_joined_to_readable_pieces() -> None:
    made = measurement()
    recorder = Recorder([Stage("steady", 3600, 1, 1)])
    for second in range(3600):
        recorder.intend(0, second, waits=False)
        recorder.record(0, second, second, second + (0.5 if second == 1800 else 0.001), OK)
    made.recorder = recorder
    text = charts.draw(report.build(made, None))
    assert max(len(points.split()) for points in re.findall(r'points="([^"]*)"', text)) < 200
