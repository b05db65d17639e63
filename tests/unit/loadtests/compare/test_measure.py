"""How often and with what the generators are asked."""

from pathlib import Path
from typing import Any

import pytest

from loadtests.bench import h2load, openloop, processes
from loadtests.bench.h2load import Load, Shape
from loadtests.compare import measure
from loadtests.compare.measure import Door, Effort
from tests.unit.loadtests.compare.samples import found

DOOR = Door(8001, Path("payload"), 20)
EFFORT = Effort(closed_s=2.0, open_s=5.0)


@pytest.fixture
def shapes(monkeypatch: pytest.MonkeyPatch) -> list[Shape]:
    """What h2load was asked; its runs get faster and faster."""
    asked: list[Shape] = []

    def run(port: int, payload: Path, reply_bytes: int, shape: Shape) -> Load:
        assert (port, payload, reply_bytes) == (8001, Path("payload"), 20)
        asked.append(shape)
        return Load(shape.requests, shape.requests / (1000.0 * len(asked)), 0, [100 * len(asked)])

    monkeypatch.setattr(h2load, "run", run)
    return asked


def test_the_median_run_counts_and_its_cpu(shapes: list[Shape], monkeypatch: pytest.MonkeyPatch) -> None:
    spent = iter([1.0, 1.6])
    monkeypatch.setattr(processes, "cpu_s", lambda pids: next(spent))
    most = measure.closed(DOOR, EFFORT, lambda: [1])
    assert [shape.requests for shape in shapes] == [200, 500, 2000, 2000, 2000]
    assert {(shape.connections, shape.streams) for shape in shapes} == {(4, 16)}
    assert (most.rate, most.p99_ms) == (4000, 0.4)
    assert most.cpu_us == pytest.approx(100)


def test_one_at_a_time(shapes: list[Shape]) -> None:
    assert measure.one_at_a_time_us(DOOR, EFFORT) == 300
    assert {(shape.connections, shape.streams) for shape in shapes} == {(1, 1)}


def test_open_loop_up_to_what_can_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def steady(*arguments: Any) -> Any:
        asked.append(arguments)
        return found()

    monkeypatch.setattr(openloop, "steady", steady)
    assert measure.opened(DOOR, 1000, EFFORT) is not None
    assert measure.opened(DOOR, openloop.LIMIT_PER_S + 1, EFFORT) is None
    assert asked == [(8001, Path("payload"), 20, 1000, 5.0, "--metadata", "x-user-id=user-123")]


def test_quick_is_quicker() -> None:
    assert Effort.chosen(quick=True).closed_s < Effort.chosen(quick=False).closed_s
