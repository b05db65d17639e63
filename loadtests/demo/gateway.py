"""A real `cutover serve` for the demo, and `cutover` commands against it: processes, nothing is imported."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

START_S = 60.0
STOP_S = 20.0
COMMAND_S = 120.0

CUTOVER = Path(sys.executable).with_name("cutover")


class CommandFailed(Exception):
    """A command did not do what was asked; one line."""


class Gateway:
    """A running gateway."""

    def __init__(self, process: subprocess.Popen[bytes], ports: dict[str, int], log: Path) -> None:
        self.process = process
        self.target = f"127.0.0.1:{ports['grpc']}"
        self.admin = f"127.0.0.1:{ports['admin']}"
        self.http = f"127.0.0.1:{ports['http']}"
        self.log = log

    def run(self, *arguments: str, accept: tuple[int, ...] = (0,)) -> str:
        """Runs `cutover …` and returns what it said. Raises CommandFailed for another exit code."""
        environment = os.environ | {"CUTOVER_ADMIN": self.admin, "COLUMNS": "100", "NO_COLOR": "1"}
        command = [str(CUTOVER), *arguments]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
            try:
                out, err = process.communicate(timeout=COMMAND_S)
            except subprocess.TimeoutExpired:
                raise CommandFailed(f"`cutover {' '.join(arguments)}` took longer than {COMMAND_S:.0f} s") from None
            finally:
                _end(process)
        if process.returncode not in accept:
            said = (err.strip() or out.strip() or "nothing").splitlines()[-1]
            raise CommandFailed(f"`cutover {' '.join(arguments)}` ended with {process.returncode}: {said}")
        return out

    def read(self, *arguments: str) -> Any:
        """The JSON that a command with `-o json` prints."""
        return json.loads(self.run(*arguments, "-o", "json"))


@contextmanager
def serving(models: Path, state: Path, *options: str) -> Iterator[Gateway]:
    """Starts `cutover serve` on free ports and stops it with everything it started. Raises CommandFailed."""
    if not CUTOVER.exists():
        raise CommandFailed(f"{CUTOVER} is not installed: run `make install`")
    log = state.with_suffix(".log")
    command = [str(CUTOVER), "serve", "--models", str(models), "--state", str(state), *options]
    free = ["--grpc-port", "0", "--http-port", "0", "--admin-port", "0"]
    with log.open("wb") as said:
        process = subprocess.Popen(
            command + free,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {"TMPDIR": str(state.parent)},  # its sockets go when the demo's folder goes
        )
    try:
        yield Gateway(process, _ports(process, state / "ready.json", log), log)
    finally:
        _stop(process)


def _ports(process: subprocess.Popen[bytes], ready: Path, log: Path) -> dict[str, int]:
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            raise CommandFailed(f"cutover serve ended with {process.returncode}: {_last_line(log)}")
        with suppress(FileNotFoundError, json.JSONDecodeError):
            ports: dict[str, int] = json.loads(ready.read_text(encoding="utf-8"))
            return ports
        time.sleep(0.05)
    raise CommandFailed(f"cutover serve is not ready after {START_S:.0f} s: {_last_line(log)}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ends the gateway, then whatever is left of its session."""
    _end(process)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _end(process: subprocess.Popen[Any]) -> None:
    """SIGTERM, so that it ends what it has started, then SIGKILL. A second Ctrl-C meanwhile only hastens it."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            process.wait(STOP_S)
        process.kill()
    process.wait()


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return lines[-1].strip() if lines else "it said nothing"
