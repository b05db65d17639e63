"""The open-loop generator as a process of its own, and what is read from its report."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from loadtests.bench.errors import BenchError
from loadtests.openloop.connection import LOST
from loadtests.recorder import OK, Histogram

LIMIT_PER_S = 25_000
"""More than about this, one process cannot send on time."""
WARM_UP = 0.2
"""So much longer a run is than what is measured of it."""


@dataclass(frozen=True)
class Found:
    """What one measured stretch of an open-loop run met."""

    offered_per_s: float
    seconds: float
    answers: dict[str, int]
    unsent: int
    unanswered: int
    latencies: Histogram
    """Of OK answers, from the moment each request was due."""
    send_delay_p99_us: float

    @classmethod
    def of(cls, told: dict[str, Any]) -> Self:
        """From a stage, or from all that was measured."""
        return cls(
            told["intended_per_s"], told["seconds"], told["answers"], told["unsent"], told["unanswered"],
            Histogram.from_json(told["histogram"]), told["send_delay_us"]["p99"] or 0.0,
        )  # fmt: skip

    @property
    def intended(self) -> int:
        """All requests."""
        return sum(self.answers.values()) + self.unsent + self.unanswered

    @property
    def ok(self) -> int:
        """Those answered well."""
        return self.answers.get(OK, 0)

    def within(self, limit_us: float) -> int:
        """OK answers that took no longer; exact up to the histogram's 0.8 %."""
        return self.latencies.within(limit_us)

    def quantile_us(self, part: float, ranked_behind: int = 0) -> float | None:
        """Of OK answers and so many that never came, which rank behind them; None when it falls among those."""
        return self.latencies.quantile_us(part, ranked_behind)

    @property
    def spoiled(self) -> bool:
        """The generator itself was so late that the latencies are its own."""
        p99_us = self.quantile_us(0.99)
        return p99_us is not None and self.send_delay_p99_us > p99_us / 2


def run(
    port: int, payload: Path, reply_bytes: int, stages: Sequence[tuple[float, float]], *options: str
) -> dict[str, Any]:
    """The report of a run over stages (requests per second, seconds).

    Raises BenchError, too, unless every OK answer carried exactly `reply_bytes` bytes of message.
    """
    command = [sys.executable, "-m", "loadtests.openloop", f"127.0.0.1:{port}", "--payload", str(payload), "-o", "json"]
    for rate, seconds in stages:
        command += ["--stage", f"{rate:.1f}:{seconds}s"]
    limit_s = sum(seconds for _, seconds in stages) + 60
    try:
        done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        raise BenchError("the open-loop generator did not end") from None
    if done.returncode:
        raise BenchError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "the generator broke")
    found: dict[str, Any] = json.loads(done.stdout)
    _check_sizes(found, reply_bytes)
    return found


def _check_sizes(told: dict[str, Any], reply_bytes: int) -> None:
    """Raises BenchError. Of what ended before its status came, some may have arrived."""
    answered = sum(stage["answers"].get(OK, 0) for stage in told["stages"])
    cut = sum(stage["unanswered"] + stage["answers"].get(LOST, 0) for stage in told["stages"])
    size, data_bytes = reply_bytes + 5, told["generator"]["data_bytes"]
    if not answered * size <= data_bytes <= (answered + cut) * size:
        raise BenchError(
            f"{data_bytes} data bytes for {answered} OK answers of {reply_bytes} + 5: some were something else"
        )


def steady(port: int, payload: Path, reply_bytes: int, rate: float, seconds: float, *options: str) -> Found:
    """One rate, after a warm-up. Raises BenchError as `run`."""
    stages = [(rate, seconds * WARM_UP), (rate, seconds)]
    return Found.of(run(port, payload, reply_bytes, stages, *options)["stages"][1])
