"""What is measured of a server that listens: closed loop by h2load, open loop by our own generator, CPU and memory."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loadtests.bench import h2load, openloop, processes
from loadtests.bench.openloop import Found

CONNECTIONS: Final = 4
STREAMS: Final = 16
SHARES: Final = (0.5, 0.7, 0.9)
"""Of a server's own capacity, offered open loop."""
PROBE: Final = 200


@dataclass(frozen=True)
class Effort:
    """How long everything takes."""

    closed_s: float
    open_s: float
    rounds: int = 3

    @classmethod
    def chosen(cls, *, quick: bool) -> "Effort":
        """Quick: does everything work?"""
        return cls(0.4, 1.0) if quick else cls(4.0, 10.0)


@dataclass(frozen=True)
class Door:
    """Where a server is asked, and the answer it is known to give."""

    port: int
    payload: Path
    reply_bytes: int


@dataclass(frozen=True)
class Closed:
    """As fast as it goes: 4 × 16, the median run. CPU of the asked processes, in µs per request."""

    rate: float
    p99_ms: float
    cpu_us: float


Pids = Callable[[], Sequence[int]]


def closed(door: Door, effort: Effort, pids: Pids, streams: int = STREAMS) -> Closed:
    """The median of some runs of h2load, each about as long as the effort says."""
    probe = _load(door, PROBE, streams)
    requests = max(PROBE, int(probe.rate * effort.closed_s))
    _load(door, max(PROBE, requests // 4), streams)  # warm
    cpu_s = processes.cpu_s(pids())
    runs = [_load(door, requests, streams) for _ in range(effort.rounds)]
    cpu_us = (processes.cpu_s(pids()) - cpu_s) / requests / effort.rounds * 1e6
    middle = sorted(runs, key=lambda run: run.rate)[len(runs) // 2]
    return Closed(middle.rate, middle.quantile_ms(0.99), cpu_us)


def one_at_a_time_us(door: Door, effort: Effort) -> float:
    """The p50 of one connection with one request in flight, in µs: the median of some runs."""
    probe = _load(door, PROBE, 1, 1)
    requests = max(PROBE, int(probe.rate * effort.closed_s / 2))
    return statistics.median(_load(door, requests, 1, 1).quantile_ms(0.5) * 1000 for _ in range(effort.rounds))


def opened(door: Door, rate: float, effort: Effort) -> Found | None:
    """Open loop at a rate; None when that is more than the generator can send."""
    if rate > openloop.LIMIT_PER_S:
        return None
    return openloop.steady(
        door.port, door.payload, door.reply_bytes, rate, effort.open_s, "--metadata", "x-user-id=user-123"
    )


def _load(door: Door, requests: int, streams: int, connections: int = CONNECTIONS) -> h2load.Load:
    return h2load.run(door.port, door.payload, door.reply_bytes, h2load.Shape(requests, connections, streams))
