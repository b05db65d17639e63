"""One process's part of a running load: who sends when, and what came of it. Lives inside Locust."""

import gc
import itertools
import time
from datetime import UTC, datetime

import gevent

from loadtests import client, schedule
from loadtests.measurement import Measurement, conditions
from loadtests.pacer import Pacer
from loadtests.recorder import Recorder
from loadtests.schedule import Arrival
from loadtests.settings import Settings

LEAD_S = 0.25
"""From the start to the first arrival: users are spawned meanwhile."""
DRAIN_S = 1.0
"""How long after the end of the schedule a late request may still be sent."""


class Drive:
    """The share `index` of `count` of one load: every `count`-th arrival.

    Raises client.TargetUnreachable, client.AimError or RowsError when made.
    """

    def __init__(self, settings: Settings, index: int = 0, count: int = 1) -> None:
        self.settings = settings
        self.started = datetime.now(UTC)
        self.channels = client.connect(settings.target, settings.connections)
        self.aim = client.take_aim(self.channels[0], settings)
        self.recorder = Recorder(settings.stages())
        arrivals = schedule.arrivals(self.recorder.stages, settings.arrivals, settings.seed)
        own = itertools.islice(arrivals, index, None, count)
        self.pacer = Pacer(own, time.perf_counter() + LEAD_S, self._due)
        self.in_flight = 0
        self.label = f"{settings.model} {self.aim.arm or 'any arm'} [µs]"
        self._askers = itertools.cycle(
            [client.Asker(channel, self.aim, settings.units, settings.timeout_s) for channel in self.channels]
        )

    def begin(self) -> None:
        """Starts the clock."""
        gc.collect()
        gc.freeze()  # collections of long-lived objects would show as latency of the server
        self.pacer.begin()

    def next_asker(self) -> client.Asker:
        """The connection for one more user."""
        return next(self._askers)

    def finish(self) -> None:
        """Waits until every request is over: sent at most DRAIN_S after the end, answered at most a timeout later."""
        end_s = self.pacer.start_s + schedule.length_s(self.recorder.stages)
        gevent.sleep(max(0.0, end_s - time.perf_counter()))
        while time.perf_counter() < end_s + DRAIN_S and (self.pacer.backlog or not self.pacer.finished):
            gevent.sleep(0.02)
        self.pacer.stop()
        deadline_s = time.perf_counter() + self.settings.timeout_s + DRAIN_S
        while self.in_flight and time.perf_counter() < deadline_s:
            gevent.sleep(0.02)

    def measurement(self) -> Measurement:
        """What came of this share."""
        rows = {"source": self.aim.rows.source, "count": self.aim.rows.count, "synthetic": self.aim.rows.synthetic}
        return Measurement(conditions(self.settings, self.aim.arm, rows, self.started), self.recorder)

    def close(self) -> None:
        """Stops sending and hangs up."""
        self.pacer.stop()
        client.close(self.channels)

    def _due(self, arrival: Arrival, waits: bool) -> None:
        late_s = time.perf_counter() - self.pacer.start_s - arrival.at_s
        self.recorder.intend(arrival.stage, arrival.at_s, waits, late_s)
