"""Listens for gRPC over HTTP/2 and serves each connection."""

import asyncio
import contextlib
import resource
import socket
from functools import partial
from typing import Final

from gateway.transport.accept import Acceptor
from gateway.transport.arrival import PLAIN, Arrival, Door
from gateway.transport.call import Service
from gateway.transport.h2.limits import Counters, Limits
from gateway.transport.h2.memory import Memory
from gateway.transport.h2.protocol import H2Protocol
from gateway.transport.h2.tcp import notice_vanishing

__all__ = ["H2Server", "Limits", "listen"]

SWEEP_EVERY_S: Final = 1.0
"""At most; a quarter of the shortest timeout if that is less."""
SWEEP_AT_ONCE: Final = 64
GREETING_LOOK_S: Final = 0.05
GREETING_LOOKS: Final = 20
"""A connection that begins while the server drains has this many looks to introduce itself."""
SPARE_FILES: Final = 256
"""Files the process keeps open besides client connections, or wants to open: three for each worker (its socket, the
memory shared with it and the mapping of that), so this is enough for sixty workers and 64 others.
"""


class H2Server:
    """A listening transport; see `gateway.transport.call.Server`. Made by `listen`."""

    def __init__(self, service: Service, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        self.port = 0
        self._service = service
        self._limits = limits
        self._loop = loop
        self._counters = Counters()
        self._memory = Memory(limits.max_buffered_bytes, lambda: loop.call_soon(self._shed))
        self._draining = False
        self._sweeping: asyncio.Handle | None = None
        self._swept_s = 0.0
        self._members: set[H2Protocol] = set()
        most = _connections_allowed(limits.max_connections)
        self._acceptor = Acceptor(self, most, limits.handshake_timeout_s, self._counters.count)
        self._empty = self._acceptor.empty

    def listen(self, sock: socket.socket, door: Door = PLAIN) -> None:
        """Accepts connections on this socket, too, from now on, and owns it. Raises OSError when it cannot listen."""
        notice_vanishing(sock, self._limits)
        self._acceptor.listen(sock, door)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            self.port = sock.getsockname()[1]
        if self._sweeping is None:
            self._swept_s = self._loop.time()
            self._sweep()

    @property
    def connections(self) -> int:
        """Open client connections, those included that are still in their handshake."""
        return self._acceptor.open

    @property
    def max_connections(self) -> int:
        """`Limits.max_connections`, or what the process's limit of open files leaves."""
        return self._acceptor.max_connections

    @property
    def held_bytes(self) -> int:
        """What requests and replies of all connections take in memory; see `Limits.max_buffered_bytes`."""
        return self._memory.held_bytes

    def take_refusals(self) -> dict[str, int]:
        """How often each limit struck since the last call, by reason (a field of `Counters`)."""
        return self._counters.take()

    async def drain(self, grace_s: float) -> None:
        """Stops accepting, says goodbye, waits for calls in flight up to the grace, then closes everything."""
        self._draining = True
        self._acceptor.stop()
        for member in list(self._members):
            self._see_off(member)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._empty.wait()
        self.close()
        await self._empty.wait()

    def close(self) -> None:
        """Stops accepting and closes every connection; calls in flight are cancelled."""
        self._acceptor.stop()
        self._acceptor.send_strangers_away()
        if self._sweeping is not None:
            self._sweeping.cancel()
        for member in list(self._members):
            member.close()

    def receive(self, arrival: Arrival) -> H2Protocol:
        """Makes the protocol of a connection; for the acceptor."""
        changed = partial(self._changed, arrival)
        made = H2Protocol(self._service, self._limits, self._loop, changed, self._counters, self._memory)
        made.arrival = arrival
        return made

    def _sweep(self) -> None:
        """Lets every connection look for what takes too long. Time in which the process stood still counts little."""
        every_s, now_s = self._limits.sweep_every_s(SWEEP_EVERY_S), self._loop.time()
        elapsed_s = min(now_s - self._swept_s, 2 * every_s)
        self._swept_s = now_s
        self._sweep_some(list(self._members), elapsed_s, every_s)

    def _sweep_some(self, members: list[H2Protocol], elapsed_s: float, every_s: float) -> None:
        """A few in each turn of the loop, so that nobody's request waits for thousands of idle connections."""
        for member in members[-SWEEP_AT_ONCE:]:
            member.sweep(elapsed_s)
        del members[-SWEEP_AT_ONCE:]
        if members:
            self._sweeping = self._loop.call_soon(self._sweep_some, members, elapsed_s, every_s)
        else:
            self._sweeping = self._loop.call_later(every_s, self._sweep)

    def _shed(self) -> None:
        """Much is held: those who hold most are sent away, until little enough is."""
        excess_bytes = self._memory.held_bytes - self._memory.low_bytes
        for member in sorted(self._members, key=lambda member: member.held_bytes, reverse=True):
            if excess_bytes <= 0 or not member.held_bytes:
                break
            excess_bytes -= member.held_bytes
            member.shed()
        self._memory.relieved()

    def _see_off(self, member: H2Protocol, looks: int = GREETING_LOOKS) -> None:
        """Says goodbye. Who is about to introduce itself may do so first: a GOAWAY sends clients elsewhere, an end
        before it has them report a failure.
        """
        if member.greeted or not looks:
            member.drain()
        else:
            self._loop.call_later(GREETING_LOOK_S, self._see_off, member, looks - 1)

    def _changed(self, arrival: Arrival, member: H2Protocol, opened: bool) -> None:
        if opened:
            arrival.met = True
            self._members.add(member)
            if self._draining:
                self._see_off(member)
            return
        self._members.discard(member)
        self._acceptor.left(arrival)


def _connections_allowed(wanted: int) -> int:
    """As many as wanted, or as the process's limit of open files leaves."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, files - min(SPARE_FILES, files // 2)))


async def listen(sock: socket.socket, service: Service, limits: Limits, door: Door = PLAIN) -> H2Server:
    """Serves `service` on a socket that is already bound. Raises OSError when it cannot listen."""
    server = H2Server(service, limits, asyncio.get_running_loop())
    server.listen(sock, door)
    return server
