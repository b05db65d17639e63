"""Measures a gateway's capacity, then floods it: the part of the bench that starts processes and takes time."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loadtests.bench import h2load, openloop, processes, workload
from loadtests.bench.truth import Truth, check
from loadtests.bench.workload import Workload
from loadtests.demo.gateway import serving
from loadtests.overload.steps import FACTORS, Course, Step, recovered_after_s

RUN_S: Final = 2e-3
"""What the model takes for a request: slow enough that ten times the capacity can be sent from the same two cores."""
TRIAL_ROUNDS: Final = 8
WATCH_EVERY_S: Final = 0.2
OPTIONS: Final = ("--connections", "64", "--max-in-flight", "8192", "--deadline", "1s", "--grace", "2s")
"""64 connections: a server's limit of calls on one must not be what holds a flood back."""


@dataclass(frozen=True)
class Plan:
    """How long and against which promise. slo_s: bound for p99 of accepted requests."""

    step_s: float
    max_queue_wait: str
    slo_s: float

    @property
    def model_settings(self) -> str:
        """Text of the model's model.toml: one request at a time, so that the capacity is known."""
        return f'batching = "off"\nmax_queue_wait = "{self.max_queue_wait}"\n'


def run(folder: Path, plan: Plan) -> Course:
    """The whole bench. Raises BenchError or CommandFailed."""
    model = make_model(folder, plan.model_settings)
    with serving(model.models, folder / "state", "--proxies", "1") as gateway:
        port, pid = int(gateway.target.rpartition(":")[2]), gateway.process.pid
        reply_bytes = check(port, model, Truth(model).outputs())
        capacity = _capacity(port, model, reply_bytes, plan)
        say(f"capacity: {capacity:,.0f} requests/s")
        steps = []
        for factor in FACTORS:
            with _watching(pid) as peak:
                found = openloop.steady(port, model.payload, reply_bytes, factor * capacity, plan.step_s, *OPTIONS)
            step = Step(factor, found, max(peak), plan.slo_s)
            say(f"{factor:g} ×: {step.goodput:,.0f} OK/s in time, {step.share(step.refused):.0%} refused")
            steps.append(step)
        stages = [(FACTORS[0], plan.step_s), (FACTORS[-1], plan.step_s), (FACTORS[0], max(3.0, plan.step_s))]
        rates = [(part * capacity, length) for part, length in stages]
        report = openloop.run(port, model.payload, reply_bytes, rates, *OPTIONS)
    return Course(capacity, plan.max_queue_wait, plan.slo_s, steps, recovered_after_s(report))


def make_model(folder: Path, settings: str) -> Workload:
    """A model that takes about RUN_S for a request on this machine."""
    trial = workload.fixed_cost(folder / "trial", TRIAL_ROUNDS)
    rounds = max(1, round(TRIAL_ROUNDS * RUN_S * Truth(trial).rows_per_s(0.3)))
    return workload.fixed_cost(folder / "model", rounds, settings=settings)


def _capacity(port: int, model: Workload, reply_bytes: int, plan: Plan) -> float:
    """Closed loop, few in flight: nobody is refused."""
    requests = max(100, int(plan.step_s / RUN_S / 2))
    shape = h2load.Shape(requests, connections=4, streams=2, latencies=False)
    h2load.run(port, model.payload, reply_bytes, h2load.Shape(requests // 2, connections=4, streams=2))
    runs = [h2load.run(port, model.payload, reply_bytes, shape).rate for _ in range(3)]
    return sorted(runs)[1]


@contextmanager
def _watching(pid: int) -> Iterator[list[int]]:
    """Notes what the processes hold, again and again until the end of the block."""
    held = [processes.resident_bytes(processes.tree(pid))]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(WATCH_EVERY_S):
            held.append(processes.resident_bytes(processes.tree(pid)))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield held
    finally:
        over.set()
        thread.join()


def say(text: str) -> None:
    """Progress on stderr; the table goes to stdout."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
