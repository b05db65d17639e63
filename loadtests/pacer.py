"""Hands out arrivals on time: a thread sleeps to the microsecond, gevent only hears that something is due.

gevent's own timers round up to whole milliseconds, which would add half a millisecond to every measured latency;
turning in a loop until the time has come would take the processor away from the server under test.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator

import gevent
from gevent import monkey
from gevent.queue import SimpleQueue

from loadtests.schedule import Arrival

# The real ones: Locust has replaced these by cooperative twins.
_start_thread = monkey.get_original("_thread", "start_new_thread")
_sleep = monkey.get_original("time", "sleep")

_NAP_S = 0.2
"""The longest single sleep, so that stopping is prompt."""


class Pacer:
    """Arrivals wait here, from the moment they are due until a user takes them.

    `on_due(arrival, waits)` is called for each, `waits` telling whether every user is busy.
    """

    def __init__(self, arrivals: Iterator[Arrival], start_s: float, on_due: Callable[[Arrival, bool], None]) -> None:
        self.start_s = start_s
        """`time.perf_counter()` at which the schedule begins."""
        self.finished = False
        """Every arrival has become due."""
        self._arrivals = arrivals
        self._on_due = on_due
        self._due: deque[Arrival] = deque()
        self._waiting: SimpleQueue[Arrival | None] = SimpleQueue()
        self._idle = 0
        self._stopped = False
        self._bell = gevent.get_hub().loop.async_()

    def begin(self) -> None:
        """Starts the clock."""
        self._bell.start(self._hand_out)
        _start_thread(self._pace, ())

    def take(self) -> Arrival | None:
        """The next arrival as soon as it is due; None when there will be none."""
        if self._stopped:
            return None
        self._idle += 1
        try:
            arrival: Arrival | None = self._waiting.get()
            return arrival
        finally:
            self._idle -= 1

    def stop(self) -> None:
        """No more arrivals: those still waiting stay unsent, waiting users get None."""
        self._stopped = True
        self._bell.stop()
        while not self._waiting.empty():
            self._waiting.get_nowait()
        for _ in range(self._idle):
            self._waiting.put(None)

    @property
    def backlog(self) -> int:
        """Arrivals that are due and not taken."""
        return int(self._waiting.qsize()) + len(self._due)

    def _pace(self) -> None:
        for arrival in self._arrivals:
            while (left_s := self.start_s + arrival.at_s - time.perf_counter()) > 0 and not self._stopped:
                _sleep(min(left_s, _NAP_S))
            if self._stopped:
                return
            self._due.append(arrival)
            self._bell.send()
        self.finished = True

    def _hand_out(self) -> None:
        while self._due:
            arrival = self._due.popleft()
            self._on_due(arrival, self._waiting.qsize() >= self._idle)
            self._waiting.put(arrival)
