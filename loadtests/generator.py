"""Runs a suite in a Locust process of its own and shows how it goes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from loadtests import units
from loadtests.measurement import Measurement
from loadtests.progress import FD_VARIABLE
from loadtests.settings import Settings

STOP_S = 10
QUIET_EVERY_S = 5.0
"""Without a terminal, one line of progress in so many seconds."""


class GeneratorBroke(Exception):
    """Locust ended without a measurement; one line."""


class Interrupted(Exception):
    """Ctrl-C or SIGTERM."""


def run(settings: Settings, processes: int, folder: Path, console: Console) -> Measurement:
    """Runs the suite to its end. `folder` takes what Locust says. Raises GeneratorBroke or Interrupted."""
    result, log = folder / "measurement.json", folder / "locust.log"
    reading, writing = os.pipe()
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("LOCUST_", "CUTOVER_"))}
    with log.open("wb") as said, os.fdopen(reading, encoding="utf-8") as lines, _sigterm_interrupts():
        process = subprocess.Popen(
            command(settings, processes, result),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            pass_fds=[writing],
            env=environment | {FD_VARIABLE: str(writing)},
            start_new_session=True,  # Ctrl-C is ours to hand on, once
        )
        os.close(writing)
        try:
            _show(_updates(lines), console)
            process.wait()
        except KeyboardInterrupt:
            raise Interrupted from None
        finally:
            _stop(process)
    if not result.exists():
        raise GeneratorBroke(f"the load generator ended with exit code {process.returncode}: {_last_line(log)}")
    return Measurement.from_json(json.loads(result.read_text(encoding="utf-8")))


def command(settings: Settings, processes: int, result: Path) -> list[str]:
    """The Locust command line of a load."""
    arguments = {
        "--locustfile": Path(__file__).parent / f"{settings.suite}.py",
        "--host": settings.target,
        "--users": settings.users,
        "--spawn-rate": max(100, settings.users),
        "--duration": f"{settings.duration_s}s",
        "--model": settings.model,
        "--model-version": settings.version,
        "--arm": settings.arm,
        "--rate": settings.rate,
        "--arrivals": settings.arrivals,
        "--warmup": f"{settings.warmup_s}s",
        "--peak": settings.peak,
        "--connections": settings.connections,
        "--units": settings.units,
        "--timeout": f"{settings.timeout_s}s",
        "--seed": settings.seed,
        "--measurement": result,
        "--loglevel": "ERROR",
    }
    if settings.rows:
        arguments["--rows"] = settings.rows
    if processes > 1:
        arguments["--processes"] = processes
    flags = [f"{flag}={value}" for flag, value in arguments.items()]
    return [sys.executable, "-m", "locust", "--headless", "--only-summary", *flags]


def _updates(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        with suppress(ValueError):  # half a line, from a generator that was killed
            yield json.loads(line)


def _show(updates: Iterator[dict[str, Any]], console: Console) -> None:
    """Until the generator closes its end."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[state]}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=None, state="")
        said_s = -QUIET_EVERY_S
        for update in updates:
            phase, state = "warming up" if update["warming_up"] else "measuring", _state(update)
            completed = min(update["passed_s"], update["run_s"])
            bar.update(task, description=phase, total=update["run_s"], completed=completed, state=state)
            if not console.is_terminal and update["passed_s"] >= said_s + QUIET_EVERY_S:
                said_s = update["passed_s"]
                console.print(f"{phase} {completed:.0f}/{update['run_s']:.0f} s {state}", highlight=False)


def _state(update: dict[str, Any]) -> str:
    if not update["requests"]:
        return ""
    latency = f"p50 {units.format_us(update['p50_us'])}, p99 {units.format_us(update['p99_us'])}"
    return f"{update['requests']:,} requests, {update['failures']:,} failed, {latency}"


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ends the generator and all its processes."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # what Locust forked and did not end itself
    process.wait()


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """SIGTERM becomes KeyboardInterrupt, so that it too takes the generator along."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
