"""Arrivals are handed out when due, never before, and wait when everybody is busy."""

import json
from collections.abc import Callable

SCRIPT = """
import json, time
from gevent import monkey; monkey.patch_all()
import gevent
from loadtests.pacer import Pacer
from loadtests.schedule import Arrival

due, taken, answers = [], [], []
arrivals = iter([Arrival(number, 0.002 * number, 0) for number in range(100)])
pacer = Pacer(arrivals, time.perf_counter() + 0.05, lambda arrival, waits: due.append((arrival.number, waits)))

def user():
    while (arrival := pacer.take()) is not None:
        taken.append((arrival.number, time.perf_counter() - pacer.start_s - arrival.at_s))
        gevent.sleep(1.0 if arrival.number == 10 else 0)

one = gevent.spawn(user)
pacer.begin()
while not pacer.finished or pacer.backlog > 5:
    gevent.sleep(0.005)
late = gevent.spawn(user)
while pacer.backlog:
    gevent.sleep(0.005)
pacer.stop()
gevent.joinall([one, late], timeout=5)
print(json.dumps({
    "due": due, "taken": taken, "ended": [one.dead, late.dead], "after": pacer.take() is None, "backlog": pacer.backlog,
}))
"""

STOPPED = """
import json, time
from gevent import monkey; monkey.patch_all()
import gevent
from loadtests.pacer import Pacer
from loadtests.schedule import Arrival

due = []
start_s = time.perf_counter()
arrivals = iter([Arrival(0, 0.0, 0), Arrival(1, 3600.0, 0)])
pacer = Pacer(arrivals, start_s, lambda arrival, waits: due.append(arrival.number))
pacer.begin()
first = gevent.spawn(pacer.take)
second = gevent.spawn(pacer.take)
first.join(5)
pacer.stop()
second.join(5)
print(json.dumps([first.value is not None, second.value is None, due, pacer.finished]))
"""


def test_on_time_in_order_and_late_when_busy(in_locust: Callable[[str], str]) -> None:
    found = json.loads(in_locust(SCRIPT))
    assert [number for number, _ in found["due"]] == list(range(100))
    assert [number for number, _ in found["taken"]] == list(range(100))
    assert all(delay_s >= 0 for _, delay_s in found["taken"])
    assert all(waits for number, waits in found["due"] if number > 10)  # the only user sleeps for a second
    assert found["ended"] == [True, True]
    assert found["after"]
    assert found["backlog"] == 0


def test_stopping_wakes_waiting_users(in_locust: Callable[[str], str]) -> None:
    assert json.loads(in_locust(STOPPED)) == [True, True, [0], False]
