"""h2load as the load generator: runs it, reads what it prints, and proves that every answer was an answer.

h2load counts HTTP 200 as success and never looks at grpc-status. A gRPC error comes without a DATA frame, so the exact
number of DATA bytes proves that every answer carried a whole message; the caller also compares the server's own counts.
"""

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from loadtests.bench.errors import BenchError
from loadtests.openloop.payload import INFER


@dataclass(frozen=True)
class Load:
    """What one h2load run found. Latencies in microseconds, sorted."""

    requests: int
    duration_s: float
    data_bytes: int
    latencies_us: list[int]

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.requests / self.duration_s

    @classmethod
    def together(cls, runs: "list[Load]") -> "Load":
        """Several runs as one."""
        latencies = sorted(value for run in runs for value in run.latencies_us)
        data_bytes = sum(run.data_bytes for run in runs)
        return cls(sum(run.requests for run in runs), sum(run.duration_s for run in runs), data_bytes, latencies)

    def quantile_ms(self, fraction: float) -> float:
        """A latency quantile, nearest rank."""
        values = self.latencies_us
        return values[min(len(values) - 1, int(fraction * len(values)))] / 1000


def require_h2load() -> str:
    """The path of h2load. Raises BenchError with the remedy."""
    path = shutil.which("h2load")
    if path is None:
        raise BenchError("h2load is missing; install it (Debian: apt-get install nghttp2-client) and run again")
    return path


@dataclass(frozen=True)
class Shape:
    """How much is sent, and how."""

    requests: int
    connections: int
    streams: int
    """In flight on each connection."""
    rate: int = 0
    """Above 0: requests/s over all connections."""
    tls: bool = False
    latencies: bool = True
    """Keep one for each request, which costs h2load some time of its own."""


def run(port: int, payload: Path, reply_bytes: int, shape: Shape) -> Load:
    """Sends unary calls. Raises BenchError unless every answer carried exactly `reply_bytes` bytes of message."""
    requests, connections = shape.requests, shape.connections
    with tempfile.TemporaryDirectory(prefix="cutover-bench-") as folder:
        log = Path(folder) / "latencies"
        command = [require_h2load(), "-n", str(requests), "-c", str(connections), "-m", str(shape.streams), "-t", "1"]
        command += ["-H", "content-type: application/grpc", "-H", "te: trailers", "-H", "x-user-id: user-123"]
        command += ["-d", str(payload), f"{'https' if shape.tls else 'http'}://127.0.0.1:{port}{INFER}"]
        if shape.latencies:
            command.insert(1, f"--log-file={log}")
        if shape.rate:
            command.insert(1, f"--rps={shape.rate / connections}")
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        lines = log.read_text().splitlines() if log.exists() else []
    return _read(done.stdout + done.stderr, lines, requests, reply_bytes)


def _read(output: str, log: list[str], requests: int, reply_bytes: int) -> Load:
    finished = re.search(r"finished in ([\d.]+)(us|ms|s),", output)
    counted = re.search(r"requests: (\d+) total, \d+ started, \d+ done, (\d+) succeeded", output)
    traffic = re.search(r"\((\d+)\) data", output)
    if not finished or not counted or not traffic:
        raise BenchError(f"h2load printed something unexpected: {output.strip()[-300:]}")
    if int(counted[2]) != requests:
        raise BenchError(f"only {counted[2]} of {requests} requests succeeded: {output.strip()[-300:]}")
    data_bytes = int(traffic[1])
    if data_bytes != requests * (reply_bytes + 5):
        raise BenchError(f"{data_bytes} data bytes for {requests} answers of {reply_bytes} + 5: some were errors")
    scale = {"us": 1e-6, "ms": 1e-3, "s": 1.0}[finished[2]]
    latencies = sorted(int(line.split("\t")[2]) for line in log)
    return Load(requests, float(finished[1]) * scale, data_bytes, latencies)
