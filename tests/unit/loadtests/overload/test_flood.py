"""What the bench sends, in which order, and what it makes of it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from loadtests.bench import h2load, openloop
from loadtests.bench.h2load import Load, Shape
from loadtests.overload import flood
from loadtests.overload.flood import Plan
from loadtests.overload.steps import FACTORS
from tests.unit.loadtests.overload.samples import step
from tests.unit.loadtests.overload.test_steps import report


class Served:
    """A gateway that is this process."""

    target = "127.0.0.1:8001"

    class process:  # noqa: N801 - an attribute
        pid = os.getpid()


def test_the_course_of_the_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    runs: list[Any] = []

    @contextmanager
    def serving(models: Path, state: Path, *options: str) -> Iterator[Served]:
        settings = (models / "fixed" / "1" / "model.toml").read_text()
        assert settings == 'batching = "off"\nmax_queue_wait = "50ms"\n'
        yield Served()

    def closed(port: int, payload: Path, reply_bytes: int, shape: Shape) -> Load:
        return Load(shape.requests, shape.requests / 500, 0, [])

    def steady(port: int, payload: Path, reply_bytes: int, rate: float, seconds: float, *options: str) -> Any:
        assert reply_bytes == 20
        rates.append(rate)
        return step(rate / 500).found

    def staged(port: int, payload: Path, reply_bytes: int, stages: Any, *options: str) -> Any:
        runs.append(stages)
        return report((2.0, 0, 9), (2.25, 0, 9))

    monkeypatch.setattr(flood, "serving", serving)
    monkeypatch.setattr(flood, "check", lambda *_: 20)
    monkeypatch.setattr(flood, "RUN_S", 1e-4)
    monkeypatch.setattr(h2load, "run", closed)
    monkeypatch.setattr(openloop, "steady", steady)
    monkeypatch.setattr(openloop, "run", staged)
    found = flood.run(tmp_path, Plan(2.0, "50ms", 0.1))
    assert rates == [factor * 500 for factor in FACTORS]
    assert runs == [[(250.0, 2.0), (5000.0, 2.0), (250.0, 3.0)]]
    assert (found.capacity, found.recovery_s) == (500, 0.0)
    assert all(each.memory_bytes > 1 << 20 for each in found.steps)
