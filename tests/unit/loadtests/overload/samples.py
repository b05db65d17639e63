"""Courses of an overload that nobody ran."""

from loadtests.bench.openloop import Found
from loadtests.overload.steps import FACTORS, Course, Step
from loadtests.recorder import Histogram

CAPACITY = 500.0
SECONDS = 2.0


def step(factor: float, latency_ms: float = 40.0, memory_bytes: int = 120_000_000) -> Step:
    """As much as fits is answered, a hundredth of it late; the rest is refused."""
    intended = int(factor * CAPACITY * SECONDS)
    ok = min(intended, int(CAPACITY * SECONDS))
    latencies = Histogram()
    for number in range(ok):
        latencies.add(int(latency_ms * 1000 * (10 if number % 100 == 99 else 1)))
    answers = {"OK": ok} | ({"RESOURCE_EXHAUSTED": intended - ok} if intended > ok else {})
    return Step(factor, Found(intended / SECONDS, SECONDS, answers, 0, 0, latencies, 100.0), memory_bytes, 0.1)


def course(latency_ms: float = 40.0, recovery_s: float | None = 0.5) -> Course:
    """All offered loads."""
    return Course(CAPACITY, "50ms", 0.1, [step(factor, latency_ms) for factor in FACTORS], recovery_s)
