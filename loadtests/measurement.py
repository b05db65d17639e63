"""What a load test measured, under which conditions: values that travel between processes and into reports."""

import dataclasses
import os
import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from loadtests.recorder import Recorder
from loadtests.settings import Settings

USAGE, UNREACHABLE, CRASHED = 2, 3, 1
"""Exit codes of a load test that could not be run."""
SAYS = "cutover loadtest"
"""Who speaks in a line on stderr, however the load test was started."""


@dataclass
class Measurement:
    """The outcome of one process's part of a load, or of all parts together."""

    conditions: dict[str, Any] = field(default_factory=dict)
    """Plain values, see `conditions`."""
    recorder: Recorder = field(default_factory=lambda: Recorder([]))
    error: str = ""
    """Why nothing was measured; one line."""
    exit_code: int = 0

    def merge(self, other: "Measurement") -> None:
        """Adds another process's part; an error of any part is the error of all."""
        if self.error:
            return
        if other.error or not self.recorder.stages:
            self.conditions, self.recorder, self.error, self.exit_code = (
                other.conditions, other.recorder, other.error, other.exit_code
            )  # fmt: skip
        else:
            self.recorder.merge(other.recorder)
            self.conditions["processes"] += other.conditions["processes"]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "conditions": self.conditions,
            "recorder": self.recorder.to_json(),
            "error": self.error,
            "exit_code": self.exit_code,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Measurement":
        """The inverse of `to_json`."""
        recorder = Recorder.from_json(data["recorder"])
        return cls(data["conditions"], recorder, data["error"], int(data["exit_code"]))


def conditions(settings: Settings, arm: str | None, rows: dict[str, Any], started: datetime) -> dict[str, Any]:
    """Everything needed to run the same load again, and on what it ran."""
    facts = dataclasses.asdict(settings) | {
        "arm": arm,
        "rows": rows,
        "started": started.astimezone(UTC).isoformat(timespec="seconds"),
        "processes": 1,
        "generator": {"machine": platform.machine(), "cpus": os.cpu_count(), "python": platform.python_version()},
    }
    del facts["units"]
    return facts | {"users_pool": settings.units}
