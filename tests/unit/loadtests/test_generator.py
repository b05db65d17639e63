"""Locust's command line, its progress, and what is said when it breaks."""

import io
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from loadtests import generator
from loadtests.generator import GeneratorBroke
from tests.unit.loadtests.samples import settings

STUBBORN = """
import signal, subprocess, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(subprocess.Popen(["sleep", "600"]).pid, flush=True)
time.sleep(600)
"""


def test_the_command_line_says_everything(tmp_path: Path) -> None:
    command = generator.command(settings("ramp"), 3, tmp_path / "out.json")
    assert command[:3] == [sys.executable, "-m", "locust"]
    for expected in (
        "--host=127.0.0.1:8001", "--users=20", "--duration=10s", "--warmup=1s", "--model=<digits>", "--rate=100",
        "--model-version=2", "--arm=auto", "--rows=rows.npz", "--seed=7", "--processes=3", "--arrivals=constant",
    ):  # fmt: skip
        assert expected in command
    locustfile = next(part for part in command if part.startswith("--locustfile=")).partition("=")[2]
    assert Path(locustfile).name == "ramp.py"
    assert Path(locustfile).exists()
    alone = generator.command(replace(settings(), rows=None), 1, tmp_path)
    assert not any(part.startswith(("--rows", "--processes")) for part in alone)


def test_a_generator_that_breaks_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import sys; print('first'); print('no more memory', file=sys.stderr); sys.exit(9)"
    monkeypatch.setattr(generator, "command", lambda *_: [sys.executable, "-c", script])
    with pytest.raises(GeneratorBroke, match="ended with exit code 9: no more memory"):
        generator.run(settings(), 1, tmp_path, Console(file=io.StringIO()))


def test_progress_without_a_terminal_is_a_line_now_and_then() -> None:
    said = io.StringIO()
    update = {"run_s": 12.0, "warming_up": False, "requests": 1234, "failures": 5, "p50_us": 900, "p99_us": 2100}
    updates = ({**update, "passed_s": half / 2, "requests": 0 if half == 0 else 1234} for half in range(30))
    generator._show(updates, Console(file=said, width=100))
    assert said.getvalue().splitlines() == [
        "measuring 0/12 s ",
        "measuring 5/12 s 1,234 requests, 5 failed, p50 900 µs, p99 2.10 ms",
        "measuring 10/12 s 1,234 requests, 5 failed, p50 900 µs, p99 2.10 ms",
    ]


def test_nothing_is_left_running() -> None:
    process = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, start_new_session=True)
    with process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(generator, "STOP_S", 0.2)
            generator._stop(process)
    until_s = time.monotonic() + 20
    while _runs(child):  # SIGKILL is sent, not awaited, to what is not our child
        assert time.monotonic() < until_s
        time.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False
