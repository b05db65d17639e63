"""The benches of what is promised run from beginning to end. Their numbers mean nothing here."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.bench.errors import BenchError
from loadtests.bench.truth import Truth, check
from loadtests.bench.workload import fixed_cost
from tests.bench.driven import proxy, worker
from tests.bench.growth import snapshot

needs_h2load = pytest.mark.skipif(shutil.which("h2load") is None, reason="h2load is not installed")
needs_nginx = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")


def run(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_proxy_driven_by_the_bench_answers(tmp_path: Path) -> None:
    model = fixed_cost(tmp_path, rounds=1, size=4)
    with worker(model.name, 1, model.onnx, tmp_path / "w1") as pool:
        made = snapshot([pool], models=20)
        with proxy(made, tmp_path / "control") as running:
            assert check(running.port, model, Truth(model).outputs()) > 0


@pytest.mark.slow
@pytest.mark.timeout(300)
@needs_h2load
def test_growth() -> None:
    out = run("tests.bench.growth", "--quick")
    assert "| 1,000 models | " in out
    assert "| CPU per request with 1,000 models, by that with one model | ≤ × 1.1 | × " in out


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_control() -> None:
    out = run("tests.bench.control", "--quick")
    assert "| | 1 × 5 | 50 × 5 |" in out
    assert "| snapshot in a proxy, connected | ≤ 20 MB | " in out


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_flip() -> None:
    out = run("tests.bench.flip", "--quick")
    assert "| Flip, from the RPC to its OK | " in out
    assert "| a flip with 4 proxies, p99 | ≤ 50 ms | " in out


@pytest.mark.slow
@pytest.mark.timeout(300)
@needs_h2load
def test_overload(tmp_path: Path) -> None:
    figure = tmp_path / "overload.svg"
    out = run("loadtests.overload", "--quick", "--figure", str(figure))
    assert "| 10 × | " in out
    assert "| goodput at 10 ×, by the capacity | ≥ × 0.9 | × " in out
    assert figure.read_text().startswith("<svg")


@pytest.mark.slow
@pytest.mark.timeout(300)
@needs_h2load
@needs_nginx
def test_the_comparison_as_far_as_nothing_is_installed() -> None:
    out = run("loadtests.compare", "cutover", "nginx", "--quick")
    assert "| cutover | " in out
    assert "nginx's worker, in front of Cutover" in out
    assert "| throughput, by Triton's | ≥ × 8 |  | not measured |" in out


def test_a_model_that_cannot_be_served_is_told(tmp_path: Path) -> None:
    broken = tmp_path / "model.onnx"
    broken.write_bytes(b"nonsense")
    with pytest.raises(BenchError, match="the worker cannot serve: "), worker("m", 1, broken, tmp_path / "w"):
        pass
