"""How a load is doing, twice a second, as JSON lines for whoever started Locust and named a file descriptor."""

import json
import os
import time
from typing import Any

import gevent

FD_VARIABLE = "CUTOVER_PROGRESS_FD"
INTERVAL_S = 0.5


class Progress:
    """Reads Locust's own statistics, which cover all processes of a load."""

    def __init__(self, environment: Any, warmup_s: float, run_s: float) -> None:
        self._environment = environment
        self._warmup_s = warmup_s
        self._run_s = run_s

    def begin(self) -> None:
        """Starts telling, if anyone listens."""
        if descriptor := os.environ.get(FD_VARIABLE):
            gevent.spawn(self._tell, int(descriptor), time.monotonic())

    def _tell(self, descriptor: int, start_s: float) -> None:
        while True:
            passed_s = time.monotonic() - start_s
            total = self._environment.stats.total
            line = {
                "passed_s": round(passed_s, 1),
                "run_s": self._run_s,
                "warming_up": passed_s < self._warmup_s,
                "requests": total.num_requests,
                "failures": total.num_failures,
                "p50_us": total.get_response_time_percentile(0.5) or 0,
                "p99_us": total.get_response_time_percentile(0.99) or 0,
            }
            try:
                os.write(descriptor, json.dumps(line).encode() + b"\n")
            except OSError:  # nobody listens any more
                return
            gevent.sleep(INTERVAL_S)
