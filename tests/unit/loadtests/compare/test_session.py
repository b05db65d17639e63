"""A comparison with peers that are not there."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from loadtests.bench import processes, workload
from loadtests.bench.errors import BenchError
from loadtests.bench.workload import Workload
from loadtests.compare import session
from loadtests.compare.measure import Closed, Door, Effort
from loadtests.compare.peers import Running, Site
from loadtests.compare.session import Session
from tests.unit.loadtests.compare.samples import found

RATES = {"triton": 5_000.0, "cutover": 60_000.0, "kserve": 1_000.0}
PORTS = {"triton": 1, "cutover": 2, "kserve": 3}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, float]]:
    """(port, rate) of every open-loop run; all peers but MLServer start."""
    rates: list[tuple[int, float]] = []

    def start(name: str) -> Callable[[Site, Workload], Any]:
        @contextmanager
        def begin(site: Site, model: Workload) -> Iterator[Running]:
            if name not in PORTS:
                raise BenchError("no luck")
            yield Running(name, "1", PORTS[name], 1)

        return begin

    def opened(door: Door, rate: float, effort: Effort) -> Any:
        rates.append((door.port, rate))
        return found() if rate < 25_000 else None

    def closed(door: Door, *_: Any) -> Closed:
        return Closed(next(RATES[name] for name, port in PORTS.items() if port == door.port), 1.0, 10.0)

    def small(folder: Path, name: str = "small") -> Workload:
        return workload.fixed_cost(folder / name, 1, 4)

    monkeypatch.setattr(session, "STARTS", {name: start(name) for name in (*PORTS, "mlserver")})
    monkeypatch.setattr(session, "check", lambda *_: 20)
    monkeypatch.setattr(session, "closed", closed)
    monkeypatch.setattr(session, "opened", opened)
    monkeypatch.setattr(session, "one_at_a_time_us", lambda *_: 100.0)
    monkeypatch.setattr(workload, "classifier", small)
    monkeypatch.setattr(workload, "convnet", small)
    monkeypatch.setattr(processes, "cpu_s", lambda pids: 0.0)
    return rates


def test_everybody_meets_what_triton_can_bear(asked: list[tuple[int, float]], tmp_path: Path) -> None:
    run = Session(Site(tmp_path, tmp_path), Effort(0.1, 0.1))
    run.run(["cutover", "triton", "mlserver"])
    assert run.results.common_rate == 3_500
    assert [rate for port, rate in asked if port == 1] == [2_500, 3_500, 4_500, 3_500]
    assert [rate for port, rate in asked if port == 2] == [30_000, 42_000, 54_000, 3_500]
    assert run.results.problems == {"mlserver": "no luck"}
    assert list(run.results.rows) == ["triton", "cutover"]
    assert run.results.rows["cutover"].own[0.5] is None
    assert run.results.rows["cutover"].common is not None


def test_without_triton_each_is_measured_by_itself(asked: list[tuple[int, float]], tmp_path: Path) -> None:
    run = Session(Site(tmp_path, tmp_path), Effort(0.1, 0.1))
    run.run(["kserve"])
    assert len(asked) == 3
    assert run.results.rows["kserve"].common is None


def test_large_rows_by_those_that_start(
    asked: list[tuple[int, float]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(PORTS, "triton")
    run = Session(Site(tmp_path, tmp_path), Effort(0.01, 0.1))
    run.run(["resnet"])
    assert {network: dict(large.rates) for network, large in run.results.large.items()} == {
        "convnet": {"cutover": 60_000},
        "convnet-light": {"cutover": 60_000},
    }
    assert run.results.problems == {
        "resnet convnet triton": "no luck",
        "resnet convnet-light triton": "no luck",
    }
    assert asked == []
