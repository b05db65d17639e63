"""Sends calls when they are due, whatever becomes of those before: the loop of the open-loop load generator."""

import asyncio
import gc
import os
import time
from array import array
from dataclasses import dataclass
from typing import Any, Final

from loadtests import schedule
from loadtests.openloop.alarm import Alarm
from loadtests.openloop.connection import Connection
from loadtests.openloop.frames import Fields, fields
from loadtests.openloop.tally import Slices, Tally, report, warnings
from loadtests.schedule import Stage

LEAD_S: Final = 0.05
"""Between everything being ready and the first request."""
RECONNECT_S: Final = 0.1
CONNECT_S: Final = 10.0
MAX_BURST: Final = 64
"""So many are sent in one turn of the loop; when more are due, answers are read in between."""


class Unreachable(Exception):
    """The target cannot be spoken to; one line."""


@dataclass(frozen=True)
class Run:
    """What is sent, where to and when. `message` comes with its gRPC prefix."""

    target: str
    """host:port, or unix:PATH"""
    path: str
    message: bytes
    stages: tuple[Stage, ...]
    arrivals: str = "poisson"
    seed: int = 0
    connections: int = 4
    max_in_flight: int = 4096
    """Together; a request that is due when there are as many is not sent."""
    deadline_s: float = 0.0
    """Sent as grpc-timeout; 0: none."""
    grace_s: float = 5.0
    """How long to wait for the last answers."""
    metadata: Fields = ()
    slice_s: float = 0.25


class Generator:
    """One run."""

    def __init__(self, run: Run) -> None:
        self._run = run
        plan = list(schedule.arrivals(run.stages, run.arrivals, run.seed))
        self._at_s = array("d", [arrival.at_s for arrival in plan])
        self._stage = array("H", [arrival.stage for arrival in plan])
        self._headers = fields(_authority(run.target), run.path, run.deadline_s, run.metadata)
        self._deadline_us = round(run.deadline_s * 1e6)
        self._per_connection = -(-run.max_in_flight // run.connections)
        self._tallies = [Tally() for _ in run.stages]
        self._slices = Slices(run.slice_s)
        self._connections: list[Connection] = []
        """Those that calls may be sent on."""
        self._made: list[Connection] = []
        self._turn = 0
        self._next = 0
        self._open = 0
        self._start_s = 0.0
        self._closing = False
        self._lost: list[str] = []
        self._joining: set[asyncio.Task[None]] = set()

    async def run(self) -> dict[str, Any]:
        """Connects, sends, waits for the last answers, and tells. Raises Unreachable."""
        self._loop = asyncio.get_running_loop()
        self._done = self._loop.create_future()
        await asyncio.gather(*(self._connect() for _ in range(self._run.connections)))
        self._alarm = Alarm()
        gc.collect()
        gc.freeze()
        gc.disable()  # what a request leaves behind makes no cycles
        cpu_s, begun_s = time.process_time(), time.monotonic()
        try:
            self._start_s = time.monotonic() + LEAD_S
            self._loop.add_reader(self._alarm.fd, self._ring)
            self._alarm.set(self._start_s + (self._at_s[0] if self._at_s else 0.0))
            await asyncio.wait([self._done], timeout=schedule.length_s(self._run.stages) + LEAD_S + self._run.grace_s)
            self._count_unhandled(time.monotonic())
        finally:
            gc.enable()
            self._stop()
        return self._told((time.process_time() - cpu_s) / (time.monotonic() - begun_s))

    def _ring(self) -> None:
        """Sends what is due, and sets the alarm for what is next."""
        self._alarm.heard()
        at_s, start_s, total = self._at_s, self._start_s, len(self._at_s)
        number = self._next
        most = min(total, number + MAX_BURST)
        now_s = time.monotonic()
        while number < most and start_s + at_s[number] <= now_s:
            self._send(number, now_s)
            number += 1
            now_s = time.monotonic()
        self._next = number
        if number < total:
            self._alarm.set(start_s + at_s[number])
        elif not self._open:
            self._end()

    def _send(self, number: int, now_s: float) -> None:
        at_s = self._at_s[number]
        tally, part = self._tallies[self._stage[number]], self._slices.at(at_s)
        tally.intended += 1
        part.intended += 1
        connection = self._with_room()
        if connection is None:
            tally.unsent += 1
            part.unsent += 1
            return
        tally.delays.add(int((now_s - self._start_s - at_s) * 1e6))
        self._open += 1
        connection.send(number)

    def _count_unhandled(self, now_s: float) -> None:
        """What was due, but not reached before the run ended: it was not sent, and so late it would have been."""
        for number in range(self._next, len(self._at_s)):
            at_s = self._at_s[number]
            for tally in (self._tallies[self._stage[number]], self._slices.at(at_s)):
                tally.intended += 1
                tally.unsent += 1
                tally.delays.add(int((now_s - self._start_s - at_s) * 1e6))

    def _with_room(self) -> Connection | None:
        connections = self._connections
        if self._open < self._run.max_in_flight:
            for _ in connections:
                self._turn = (self._turn + 1) % len(connections)
                if connections[self._turn].has_room(self._per_connection):
                    return connections[self._turn]
        return None

    def _answered(self, number: int, status: str, now_s: float) -> None:
        self._open -= 1
        at_s = self._at_s[number]
        latency_us = int((now_s - self._start_s - at_s) * 1e6)
        self._tallies[self._stage[number]].answered(status, latency_us, self._deadline_us)
        self._slices.at(at_s).answered(status, latency_us, self._deadline_us)
        if not self._open and self._next == len(self._at_s):
            self._end()

    def _end(self) -> None:
        if not self._done.done():
            self._done.set_result(None)

    async def _connect(self) -> None:
        target = self._run.target
        made: Connection | None = None

        def make() -> Connection:
            nonlocal made
            made = Connection(self._headers, self._run.message, self._answered, self._connection_lost)
            self._made.append(made)
            return made

        try:
            async with asyncio.timeout(CONNECT_S):
                if target.startswith("unix:"):
                    await self._loop.create_unix_connection(make, target.removeprefix("unix:"))
                else:
                    host, _, port = target.rpartition(":")
                    await self._loop.create_connection(make, host.strip("[]"), int(port))
                assert made is not None  # noqa: S101 - connected
                await made.ready
        except (OSError, TimeoutError) as error:
            if made is not None:
                made.close()
            reason = str(error) or f"no answer within {CONNECT_S:g} s"
            raise Unreachable(f"nothing at {target} speaks gRPC in clear: {reason}") from error
        self._connections.append(made)

    def _connection_lost(self, connection: Connection, why: str) -> None:
        """Another one takes its place."""
        if connection in self._connections:
            self._connections.remove(connection)
            self._turn = 0
        self._lost.append(why)
        if not self._closing:
            self._loop.call_later(RECONNECT_S, self._join)

    def _join(self) -> None:
        if not self._closing:
            task = self._loop.create_task(self._try_again())
            self._joining.add(task)
            task.add_done_callback(self._joining.discard)

    async def _try_again(self) -> None:
        try:
            await self._connect()
        except Unreachable:
            self._loop.call_later(RECONNECT_S, self._join)

    def _stop(self) -> None:
        self._closing = True
        self._loop.remove_reader(self._alarm.fd)
        self._alarm.close()
        for task in self._joining:
            task.cancel()
        for connection in self._made:
            connection.close()

    def _told(self, cpu_share: float) -> dict[str, Any]:
        run = self._run
        told = report(run.stages, self._tallies, self._slices)
        conditions = {
            "target": run.target, "path": run.path, "request_bytes": len(run.message), "arrivals": run.arrivals,
            "seed": run.seed, "connections": run.connections, "max_in_flight": run.max_in_flight,
            "deadline_s": run.deadline_s or None,
        }  # fmt: skip
        generator = {
            "cpu_share": cpu_share,
            "cpus": os.cpu_count(),
            "data_bytes": sum(each.data_bytes for each in self._made),
        }
        return {
            "schema": "cutover-openloop/1",
            "conditions": conditions,
            "generator": generator | {"lost_connections": self._lost},
            "warnings": warnings(told["measured"]),
            **told,
        }


def _authority(target: str) -> str:
    return "localhost" if target.startswith("unix:") else target
