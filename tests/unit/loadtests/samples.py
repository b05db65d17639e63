"""A measurement for tests of what is made from measurements."""

from datetime import UTC, datetime
from pathlib import Path

from loadtests.measurement import Measurement, conditions
from loadtests.recorder import OK, Recorder
from loadtests.settings import Settings


def settings(suite: str = "spike") -> Settings:
    return Settings(
        suite=suite, target="127.0.0.1:8001", model="<digits>", version="2", arm="auto", rows=Path("rows.npz"),
        rate=100, users=20, duration_s=10, warmup_s=1, arrivals="constant", peak=3, connections=4, units=100,
        timeout_s=5, seed=7,
    )  # fmt: skip


def measurement(*, failing: bool = True, synthetic: bool = False, waits: bool = False) -> Measurement:
    """Latencies of 1 to 20 ms; every 50th request fails if `failing`, three are never sent."""
    recorder = Recorder(settings().stages())
    at_s = 0.0
    for index, stage in enumerate(recorder.stages):
        for number in range(round(stage.expected)):
            at = at_s + number / stage.start_rate
            recorder.intend(index, at, waits=waits)
            outcome = "UNAVAILABLE" if failing and number % 50 == 49 else OK
            recorder.record(index, at, at + 0.0001, at + 0.001 * (1 + number % 20), outcome)
        at_s += stage.duration_s
    for _ in range(3 if failing else 0):
        recorder.intend(1, 2.0, waits=True)
    rows = {"source": "rows.npz", "count": 899, "synthetic": synthetic}
    started = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    return Measurement(conditions(settings(), "canary-2", rows, started), recorder)
