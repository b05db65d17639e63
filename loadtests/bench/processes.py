"""Processes of a bench: started, waited for, ended with all they started; and what they cost, from /proc."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from loadtests.bench.errors import BenchError

STOP_S: Final = 10.0
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


@contextmanager
def running(
    command: Sequence[str], log: Path, *, environment: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a command in a session of its own until the end of the block, then ends all that it started.

    Ctrl-C reaches the bench, which ends it. Raises BenchError when there is no such program.
    """
    with log.open("wb") as said:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=dict(os.environ) | dict(environment or {}),
                cwd=cwd,
            )
        except OSError as error:
            raise BenchError(f"{command[0]} could not be started: {error.strerror}") from error
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path, limit_s: float) -> None:
    """Until somebody listens. Raises BenchError when the process ends before, or does not within the limit."""
    until_s = time.monotonic() + limit_s
    while time.monotonic() < until_s:
        if process.poll() is not None:
            raise BenchError(f"it ended with {process.returncode}: {last_line(log)}")
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return
        time.sleep(0.05)
    raise BenchError(f"it does not listen after {limit_s:.0f} s: {last_line(log)}")


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on just now, all different."""
    with ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(each.getsockname()[1]) for each in held]


def tree(root: int) -> list[int]:
    """The process and all its descendants that are alive."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, queue = [], [root]
    while queue:
        pid = queue.pop()
        found.append(pid)
        queue += children.get(pid, [])
    return found


def with_argument(pids: Iterable[int], argument: str) -> list[int]:
    """Those of the processes whose command line has the argument."""
    found = []
    for pid in pids:
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
            if argument in words:
                found.append(pid)
    return found


def cpu_s(pids: Iterable[int]) -> float:
    """User and system time of the processes so far, together. One that has ended counts as none."""
    fields = filter(None, map(_stat, pids))
    return sum(int(found[11]) + int(found[12]) for found in fields) / TICKS_PER_S


def resident_bytes(pids: Iterable[int]) -> int:
    """Memory that the processes hold, shared pages divided among those that share them (PSS)."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += int(rollup.partition("\nPss:")[2].split()[0]) << 10
    return total


def last_line(log: Path) -> str:
    """What a process said last."""
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    said = [line.strip() for line in lines if line.strip()]
    return said[-1][-300:] if said else "it said nothing"


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat behind the name; None when it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None
