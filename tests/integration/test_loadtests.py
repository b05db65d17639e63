"""Whole load tests: Locust in its own process, against a small server that can misbehave on demand."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import loadtests
from tests.unit.loadtests.target import Serve, servers

SHORT = ("--duration", "2s", "--warmup", "500ms", "--rate", "200", "--arrivals", "constant")
GENEROUS = """[latency]
p50 = "5s"
[errors]
max_rate = "0%"
[sample]
min_requests = 300
"""
HARSH = """[throughput]
min = "1000000/s"
[sample]
min_requests = 300
"""


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server with some misbehaviour and gives its host:port."""
    with servers() as start:
        yield start


def load(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "loadtests", "digits", "--version", "2", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)


def report_of(*arguments: str) -> dict[str, Any]:
    done = load(*arguments, "-o", "json")
    assert done.returncode in (0, 4), done.stderr
    built: dict[str, Any] = json.loads(done.stdout)
    return built


@pytest.mark.slow
def test_a_service_that_keeps_its_promise(serve: Serve, tmp_path: Path) -> None:
    slo, rows = tmp_path / "slo.toml", tmp_path / "rows.npy"
    slo.write_text(GENEROUS)
    np.save(rows, np.zeros((10, 4)))
    done = load(*SHORT, "--target", serve(), "--slo", str(slo), "--rows", str(rows), "--report", str(tmp_path / "out"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verdict: pass" in done.stdout
    assert "/2 s" in done.stderr
    built = json.loads((tmp_path / "out" / "report.json").read_text())
    assert built["measured"]["intended"] == 400
    assert built["measured"]["failed"] == 0
    assert built["conditions"]["arm"] == "canary-2"
    assert not built["conditions"]["rows"]["synthetic"]
    assert (tmp_path / "out" / "report.html").read_text().count("<svg") == 4


@pytest.mark.slow
def test_a_broken_promise_is_exit_code_4(serve: Serve, tmp_path: Path) -> None:
    slo = tmp_path / "slo.toml"
    slo.write_text(HARSH)
    done = load(*SHORT, "--target", serve(), "--slo", str(slo))
    assert done.returncode == 4
    assert "verdict: fail" in done.stdout
    assert "made up from the model's metadata" in done.stdout


@pytest.mark.slow
def test_a_stall_is_felt_by_everyone_who_should_have_been_served(serve: Serve) -> None:
    """The coordinated omission test: with one user, a closed loop would see one slow request out of hundreds."""
    target = serve("--stall-every", "150", "--stall-ms", "1000")
    built = report_of(*SHORT, "--target", target, "--users", "1", "--arm", "standby")
    measured = built["measured"]
    assert measured["intended"] == 400
    # Some 200 requests fall due during each stall; half of those wait longer than half a second.
    assert measured["waited_for_user"] > 150
    assert measured["latency_us"]["p90"] is None or measured["latency_us"]["p90"] > 500_000
    assert "users busy" in " ".join(built["warnings"])


@pytest.mark.slow
def test_failures_lies_and_unsent_requests_are_counted(serve: Serve) -> None:
    built = report_of(*SHORT, "--target", serve("--fail-every", "20", "--lie-every", "33"))
    errors = built["measured"]["errors"]
    assert 10 <= errors["RESOURCE_EXHAUSTED"] <= 30
    assert 5 <= errors["WRONG_VERSION"] <= 20
    slow = report_of(*SHORT, "--target", serve("--delay-ms", "100"), "--users", "2")
    assert slow["measured"]["errors"]["UNSENT"] > 200  # two users can send 20 per second
    assert slow["measured"]["latency_us"]["p99"] is None


@pytest.mark.slow
def test_several_processes_share_a_load(serve: Serve) -> None:
    built = report_of(*SHORT, "--target", serve(), "--processes", "2", "--suite", "ramp")
    assert built["conditions"]["processes"] == 2
    assert len(built["stages"]) == 6
    assert built["measured"]["intended"] == 200
    assert built["measured"]["answered"] == 200


def test_an_interrupted_load_has_no_verdict_and_leaves_nothing(serve: Serve) -> None:
    target = serve()
    command = [sys.executable, "-m", "loadtests", "digits", "--version", "1", "--target", target, "--duration", "60s"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "warming up" in process.stderr.readline()
        assert _running(target)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "cutover loadtest: interrupted: no verdict"
    assert not _running(target)


@pytest.mark.parametrize(
    "suite", ["steady", pytest.param("ramp", marks=pytest.mark.slow), pytest.param("spike", marks=pytest.mark.slow)]
)
def test_plain_locust(serve: Serve, suite: str) -> None:
    locustfile = Path(loadtests.__file__).with_name(f"{suite}.py")
    command = [sys.executable, "-m", "locust", "-f", str(locustfile), "--headless", "--host", serve(), "-t", "2"]
    options = {"MODEL": "digits", "MODEL_VERSION": "1", "WARMUP": "500ms", "RATE": "100"}
    environment = os.environ | {f"CUTOVER_LOAD_{name}": value for name, value in options.items()}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert f"{suite}: digits version 1, arm stable" in done.stdout
    assert "digits stable [µs]" in done.stderr


def _running(target: str) -> Sequence[str]:
    """Locust processes aimed at the target."""
    lines = [path.read_bytes().decode(errors="replace") for path in _command_lines()]
    return [line for line in lines if target in line and "locust" in line]


def _command_lines() -> Sequence[Path]:
    return [path for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
