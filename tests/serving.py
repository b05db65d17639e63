"""A real `cutover serve` for tests and benches: started on free ports, stopped or killed with everything it started."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

START_LIMIT_S = 60.0
CUTOVER = Path(sys.executable).with_name("cutover")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class ServingError(Exception):
    """The gateway did not do what was asked; one line."""


class Gateway:
    """A running gateway; `ports` are known once it is ready."""

    def __init__(self, models: Path, state: Path, *options: str, env: Mapping[str, str] | None = None) -> None:
        """`env`: besides what this process has."""
        self.models = models
        self.state = state
        self.log = state.with_name(state.name + ".log")
        command = [str(CUTOVER), "serve", "--models", str(models), "--state", str(state)]
        command += ["--grpc-port", "0", "--http-port", "0", "--admin-port", "0", *options]
        ready = state / "ready.json"
        ready.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, env={**os.environ, **(env or {})}
            )
        self.pid = self.process.pid
        ports = self._wait_ready(ready)
        self.grpc: int = ports["grpc"]
        self.http: int = ports["http"]
        self.admin: int = ports["admin"]
        self.target = f"127.0.0.1:{self.grpc}"

    def _wait_ready(self, ready: Path) -> dict[str, int]:
        until = time.monotonic() + START_LIMIT_S
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise ServingError(f"cutover serve ended with {self.process.returncode}: {self.log_tail()}")
            with suppress(OSError, ValueError):
                ports: dict[str, int] = json.loads(ready.read_text())
                if ports["pid"] == self.pid:
                    return ports
            time.sleep(0.02)
        self.kill()
        raise ServingError(f"cutover serve is not ready after {START_LIMIT_S:.0f} s: {self.log_tail()}")

    def log_tail(self) -> str:
        """The last lines the gateway wrote."""
        return self.log.read_text(errors="replace")[-8000:] if self.log.exists() else ""

    def cutover(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs one `cutover` command against this gateway. Raises ServingError when it fails and `check` is set."""
        command = [str(CUTOVER), *arguments, "--admin", f"127.0.0.1:{self.admin}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
        if check and done.returncode:
            raise ServingError(f"cutover {' '.join(arguments)}: exit {done.returncode}: {done.stderr.strip()}")
        return done

    def metrics(self) -> str:
        """The text of /metrics."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/metrics", timeout=10) as reply:
            text: str = reply.read().decode()
        return text

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.metrics())
            for sample in family.samples
            if sample.name == name and all(sample.labels.get(key) == value for key, value in labels.items())
        )

    def wait_metric(self, name: str, at_least: float, **labels: str) -> float:
        """The metric once it has reached a value (proxies report once a second); its last value after 20 s."""
        until = time.monotonic() + 20
        while (found := self.metric(name, **labels)) < at_least and time.monotonic() < until:
            time.sleep(0.05)
        return found

    def children(self, marker: str) -> list[int]:
        """Process ids of children whose command line contains the argument: `gateway.dataplane` or `workers`."""
        return [pid for pid, parent, arguments in processes() if parent == self.pid and marker in arguments]

    def proxies(self) -> list[int]:
        """Process ids of the proxies."""
        return self.children("gateway.dataplane")

    def workers(self, model: str = "") -> list[int]:
        """Process ids of the workers, of one model if given."""
        workers = [each for each in processes() if each[1] == self.pid and "workers" in each[2]]
        return [pid for pid, _, words in workers if not model or any(f"/{model}/" in word for word in words)]

    def stop(self) -> int:
        """SIGTERM and the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServingError(f"cutover serve did not stop: {self.log_tail()}") from None

    def kill(self) -> None:
        """SIGKILL to everything the gateway started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(timeout=30)


@contextmanager
def serving(models: Path, state: Path, *options: str) -> Iterator[Gateway]:
    """Serves until the end of the block, and leaves no process behind. Shows the gateway's log when the block fails."""
    gateway = Gateway(models, state, *options)
    try:
        yield gateway
        gateway.stop()
    except BaseException:
        sys.stderr.write(gateway.log_tail())
        raise
    finally:
        gateway.kill()


def cpu_s(pid: int) -> float:
    """User and system time of the process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def processes() -> Iterator[tuple[int, int, list[str]]]:
    """(pid, parent, arguments) of every process."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError):
                parent = int((entry / "stat").read_text().rpartition(") ")[2].split()[1])
                yield int(entry.name), parent, (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
