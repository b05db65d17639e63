"""Prints one table: Cutover in several shapes, a grpc.aio echo, ONNX Runtime in a loop, and the ratios between them.

usage: python -m tests.bench [--quick]
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import grpc

from protos.inference_pb2_grpc import GRPCInferenceServiceStub
from tests.bench import load
from tests.bench.load import BenchError, Load
from tests.bench.machine import machine
from tests.bench.workload import CANDIDATE, MODEL, make_models, write_payload
from tests.serving import Gateway, ServingError, cpu_s, serving

RUNS = 3
PACED_RATE = 2_000


@dataclass(frozen=True)
class Effort:
    """How much is sent. Paced runs last `paced_s` each."""

    requests: int = 100_000
    one_at_a_time: int = 4_000
    paced_s: int = 5
    paced_rounds: int = 6


QUICK = Effort(20_000, 1_000, 2, 2)


@dataclass(frozen=True)
class Row:
    """One line of the table. CPU in microseconds per request."""

    name: str
    rate: float
    one_at_a_time: float
    proxy_us: float
    worker_us: float
    p99_ms: float


class Bench:
    """Collects rows while it runs."""

    def __init__(self, folder: Path, effort: Effort) -> None:
        self.folder = folder
        self.effort = effort
        self.model = make_models(folder)
        self.payload = folder / "payload"
        self.request = write_payload(self.payload)
        self.rows: list[Row] = []
        self.ort: dict[int, float] = {}

    def run_ort(self) -> None:
        """ONNX Runtime alone, batch 1 and 32."""
        for batch in (1, 32):
            say(f"ONNX Runtime in a loop, batch {batch}")
            command = [sys.executable, "-m", "tests.bench.ort_loop", str(self.model), str(batch)]
            self.ort[batch] = float(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)

    def run_echo(self) -> None:
        """The grpc.aio echo; its reply is the request."""
        say("grpc.aio echo")
        command = [sys.executable, "-m", "tests.bench.echo_aio"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                port = int(process.stdout.readline())
                size = len(self.request.SerializeToString())
                self._row(
                    "grpc.aio echo, no inference",
                    port,
                    size,
                    lambda: (cpu_s(process.pid), 0.0),
                    self.effort.requests // 5,
                )
            finally:
                process.terminate()

    def run_gateway(
        self, name: str, proxies: int, prepare: Callable[[Gateway], None] | None = None, *, scraped: bool = False
    ) -> None:
        """One shape of the gateway, with every answer's status counted by the gateway, too."""
        say(f"Cutover, {name}")
        with self._serving(proxies) as gateway:
            if prepare is not None:
                prepare(gateway)
            size = self._check(gateway)
            with scraping(gateway) if scraped else nullcontext():
                sent = 1 + self._row(
                    f"Cutover, {name}", gateway.grpc, size, lambda: _cpu(gateway), self.effort.requests
                )
            good = gateway.wait_metric("cutover_requests_total", sent, code="OK")
            if good != sent or gateway.metric("cutover_requests_total") != sent:
                raise BenchError(f"{sent} requests sent, but the gateway counted {good:.0f} good answers")

    def run_shadow_latency(self) -> tuple[Load, Load]:
        """Production's latency at a moderate paced load, without and with everything shadowed, in turns."""
        say("production's latency with and without 100 % shadow")
        without: list[Load] = []
        shadowed: list[Load] = []
        with self._serving(1) as gateway:
            size = self._check(gateway)
            self._paced(gateway, size)
            for _ in range(self.effort.paced_rounds):
                without.append(self._paced(gateway, size))
                shadow(gateway)
                shadowed.append(self._paced(gateway, size))
                gateway.cutover("shadow", "remove", MODEL, CANDIDATE, "--reason", "bench")
            sent = self.effort.paced_rounds * self.effort.paced_s * PACED_RATE
            copies = gateway.wait_metric("cutover_shadow_copies_total", sent, result="compared")
            say(f"  {copies:.0f} of {sent} requests compared")
        return Load.together(without), Load.together(shadowed)

    def _paced(self, gateway: Gateway, size: int) -> Load:
        count = PACED_RATE * self.effort.paced_s
        return load.run(gateway.grpc, self.payload, size, requests=count, connections=4, streams=16, rate=PACED_RATE)

    def _serving(self, proxies: int) -> AbstractContextManager[Gateway]:
        state = self.folder / f"state-{len(self.rows)}"
        return serving(self.folder / "models", state, "--proxies", str(proxies))

    def _check(self, gateway: Gateway) -> int:
        """One real answer; its size is the same for every request of the bench."""
        with grpc.insecure_channel(f"127.0.0.1:{gateway.grpc}") as channel:
            reply = GRPCInferenceServiceStub(channel).ModelInfer(self.request, timeout=30)
        if len(reply.raw_output_contents) != 2:
            raise BenchError(f"unexpected answer: {reply}")
        return len(reply.SerializeToString())

    def _row(self, name: str, port: int, size: int, cpu: Callable[[], tuple[float, float]], requests: int) -> int:
        """Adds a row, the median run by rate; returns how many requests were sent."""
        warm_up = requests // 10
        load.run(port, self.payload, size, requests=warm_up, connections=4, streams=16)
        before = cpu()
        runs = [load.run(port, self.payload, size, requests=requests, connections=4, streams=16) for _ in range(RUNS)]
        after = cpu()
        single = load.run(port, self.payload, size, requests=self.effort.one_at_a_time, connections=1, streams=1)
        many = sorted(runs, key=lambda run: run.rate)[RUNS // 2]
        proxy_us, worker_us = ((end - start) / requests / RUNS * 1e6 for start, end in zip(before, after, strict=True))
        self.rows.append(Row(name, many.rate, single.rate, proxy_us, worker_us, many.quantile_ms(0.99)))
        return warm_up + RUNS * requests + self.effort.one_at_a_time


def canary(gateway: Gateway) -> None:
    """A tenth of the users to the candidate."""
    gateway.cutover("canary", "set", MODEL, CANDIDATE, "--percent", "10", "--reason", "bench")


def shadow(gateway: Gateway) -> None:
    """A copy of everything to the candidate."""
    gateway.cutover("shadow", "set", MODEL, CANDIDATE, "--rate", "1.0", "--reason", "bench")


@contextmanager
def scraping(gateway: Gateway) -> Iterator[None]:
    """Reads /metrics once a second, as Prometheus would at its busiest."""
    stop = threading.Event()

    def scrape() -> None:
        while not stop.wait(1):
            gateway.metrics()

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def canary_and_shadow(gateway: Gateway) -> None:
    """Both."""
    canary(gateway)
    shadow(gateway)


def say(text: str) -> None:
    """Progress on stderr; the table goes to stdout."""
    sys.stderr.write(f"{text}\n")


def table(bench: Bench, without: Load, shadowed: Load) -> Iterator[str]:
    """The Markdown lines of the result."""
    echo = next(row for row in bench.rows if row.name.startswith("grpc.aio"))
    yield machine()
    yield ""
    yield "| what | 4×16 req/s | 1×1 req/s | proxy µs CPU | worker µs CPU | 4×16 p99 ms | × ORT | × grpc.aio |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in bench.rows:
        yield (
            f"| {row.name} | {row.rate:,.0f} | {row.one_at_a_time:,.0f} | {row.proxy_us:.1f} | {row.worker_us:.1f} "
            f"| {row.p99_ms:.2f} | {row.rate / bench.ort[1]:.2f} | {row.rate / echo.rate:.1f} |"
        )
    for batch, rate in bench.ort.items():
        yield f"| ONNX Runtime in a loop, batch {batch} | {rate:,.0f} rows | | | | | {rate / bench.ort[1]:.2f} | |"
    yield ""
    yield f"| paced at {PACED_RATE:,} requests/s, 1 proxy, in turns | n | p50 ms | p90 ms | p99 ms |"
    yield "|---|---|---|---|---|"
    for name, run in (("without shadow", without), ("100 % shadow", shadowed)):
        quantiles = " | ".join(f"{run.quantile_ms(fraction):.3f}" for fraction in (0.5, 0.9, 0.99))
        yield f"| {name} | {run.requests:,} | {quantiles} |"


def _cpu(gateway: Gateway) -> tuple[float, float]:
    """CPU time of all proxies and of all workers."""
    return sum(map(cpu_s, gateway.proxies())), sum(map(cpu_s, gateway.workers()))


def main() -> int:
    """Runs everything; exit code 1 with one line when something is not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of everything: does it work?")
    effort = QUICK if parser.parse_args().quick else Effort()
    started = time.monotonic()
    try:
        load.require_h2load()
        with tempfile.TemporaryDirectory(prefix="cutover-bench-") as folder:
            bench = Bench(Path(folder), effort)
            bench.run_ort()
            bench.run_echo()
            bench.run_gateway("1 proxy", 1)
            bench.run_gateway("2 proxies", 2)
            bench.run_gateway("1 proxy, /metrics read every second", 1, scraped=True)
            bench.run_gateway("1 proxy, 10 % canary", 1, canary)
            bench.run_gateway("1 proxy, 100 % shadow", 1, shadow)
            bench.run_gateway("1 proxy, 10 % canary, 100 % shadow", 1, canary_and_shadow)
            without, shadowed = bench.run_shadow_latency()
            sys.stdout.write("\n".join(table(bench, without, shadowed)) + "\n")
    except (BenchError, ServingError) as error:
        say(f"bench: {error}")
        return 1
    say(f"took {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
