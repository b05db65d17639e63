"""What Locust's own tables get to see."""

import json
from collections.abc import Callable

SCRIPT = """
import json
from types import SimpleNamespace
from locust.env import Environment
from loadtests.recorder import Recorder
from loadtests.schedule import Arrival, Stage
from loadtests.user import InferenceUser, whole_microseconds
import locust.stats

locust.stats.bucket_response_time = whole_microseconds
environment = Environment(user_classes=[])
environment.create_local_runner()
recorder = Recorder([Stage("warm-up", 1, 1, 1, measured=False), Stage("steady", 9, 1, 1)])
outcomes = iter(["OK", "OK", "WRONG_ARM"])
pacer = SimpleNamespace(start_s=__import__("time").perf_counter() - 5.0)
asker = SimpleNamespace(ask=lambda number: next(outcomes))
environment.cutover_drive = SimpleNamespace(
    pacer=pacer, recorder=recorder, in_flight=0, label="digits stable [µs]", next_asker=lambda: asker
)
user = InferenceUser(environment)
user.on_start()
for arrival in (Arrival(0, 0.5, 0), Arrival(1, 4.5, 1), Arrival(2, 4.9, 1)):
    user.send(arrival)
entry = environment.stats.get("digits stable [µs]", "gRPC")
print(json.dumps({
    "requests": entry.num_requests, "failures": entry.num_failures, "median_us": entry.median_response_time,
    "outcomes": [dict(tally.outcomes) for tally in recorder.tallies], "in_flight": environment.cutover_drive.in_flight,
    "latency_us": recorder.tallies[1].latency.max_us, "rounding": [whole_microseconds(v) for v in (0.4, 255, 1234567)],
}))
"""


def test_latency_from_the_intended_time_in_microseconds(in_locust: Callable[[str], str]) -> None:
    found = json.loads(in_locust(SCRIPT))
    assert found["requests"] == 2  # the warm-up is not shown
    assert found["failures"] == 1
    assert found["outcomes"] == [{"OK": 1}, {"OK": 1, "WRONG_ARM": 1}]
    assert 500_000 <= found["latency_us"] < 30_000_000  # sent half a second after it was due
    assert found["median_us"] >= 100_000
    assert found["in_flight"] == 0
    assert found["rounding"][:2] == [0, 255]
    assert 1234567 <= found["rounding"][2] <= 1234567 * 1.01
