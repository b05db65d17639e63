"""Progress goes to whoever named a file descriptor, and to nobody else."""

import json
from collections.abc import Callable

SCRIPT = """
import os, gevent
from types import SimpleNamespace
from loadtests.progress import FD_VARIABLE, Progress

total = SimpleNamespace(num_requests=7, num_failures=1, get_response_time_percentile=lambda part: int(part * 1000))
environment = SimpleNamespace(stats=SimpleNamespace(total=total))
Progress(environment, 1.0, 3.0).begin()  # nobody listens: nothing happens
reading, writing = os.pipe()
os.environ[FD_VARIABLE] = str(writing)
Progress(environment, 1.0, 3.0).begin()
gevent.sleep(0)
print(os.read(reading, 10_000).decode())
"""


def test_lines_of_json(in_locust: Callable[[str], str]) -> None:
    line = json.loads(in_locust(SCRIPT))
    assert line == {
        "passed_s": 0.0,
        "run_s": 3.0,
        "warming_up": True,
        "requests": 7,
        "failures": 1,
        "p50_us": 500,
        "p99_us": 990,
    }
