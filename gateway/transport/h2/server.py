"""Listens for gRPC over HTTP/2 and serves each connection."""

import asyncio
import contextlib
import resource
import socket
from typing import Final, cast

from gateway.transport.call import Service
from gateway.transport.h2.limits import Counters, Limits
from gateway.transport.h2.protocol import H2Protocol

__all__ = ["H2Server", "Limits", "listen"]

BACKLOG: Final = 1024
SWEEP_EVERY_S: Final = 1.0
"""At most; a quarter of the shortest timeout if that is less."""
SWEEP_AT_ONCE: Final = 64
SPARE_FILES: Final = 64
"""Files the process keeps open besides client connections, or wants to open."""


class H2Server:
    """A listening transport; see `gateway.transport.call.Server`. Made by `listen`."""

    def __init__(self, service: Service, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        self.port = 0
        self._service = service
        self._limits = limits
        self._loop = loop
        self._counters = Counters()
        self._max_connections = limits.max_connections
        self._sweeping: asyncio.Handle | None = None
        self._swept_s = 0.0
        self._server: asyncio.Server | None = None
        self._members: set[H2Protocol] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    async def start(self, sock: socket.socket) -> None:
        """Accepts connections from now on. Raises OSError when the socket cannot listen."""
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if files != resource.RLIM_INFINITY:
            self._max_connections = max(1, min(self._max_connections, files - SPARE_FILES))
        self._server = await self._loop.create_server(self._protocol, sock=sock, backlog=BACKLOG)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            self.port = sock.getsockname()[1]
        self._swept_s = self._loop.time()
        self._sweep()

    @property
    def connections(self) -> int:
        """Open client connections."""
        return len(self._members)

    @property
    def max_connections(self) -> int:
        """`Limits.max_connections`, or what the process's limit of open files leaves."""
        return self._max_connections

    def take_refusals(self) -> dict[str, int]:
        """How often each limit struck since the last call, by reason (a field of `Counters`)."""
        return self._counters.take()

    async def drain(self, grace_s: float) -> None:
        """Stops accepting, says goodbye, waits for calls in flight up to the grace, then closes everything."""
        self._stop_accepting()
        for member in list(self._members):
            member.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._empty.wait()
        self.close()
        await self._empty.wait()

    def close(self) -> None:
        """Stops accepting and closes every connection; calls in flight are cancelled."""
        self._stop_accepting()
        if self._sweeping is not None:
            self._sweeping.cancel()
        for member in list(self._members):
            member.close()

    def _stop_accepting(self) -> None:
        if self._server is not None:
            self._server.close()

    def _protocol(self) -> asyncio.Protocol:
        if len(self._members) >= self._max_connections:
            self._counters.connections += 1
            return _TurnedAway()
        return H2Protocol(self._service, self._limits, self._loop, self._changed, self._counters)

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

    def _changed(self, member: H2Protocol, opened: bool) -> None:
        if opened:
            self._members.add(member)
            self._empty.clear()
            return
        self._members.discard(member)
        if not self._members:
            self._empty.set()


class _TurnedAway(asyncio.Protocol):
    """A connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).abort()


async def listen(sock: socket.socket, service: Service, limits: Limits) -> H2Server:
    """Serves `service` on a socket that is already bound. Raises OSError when it cannot listen."""
    server = H2Server(service, limits, asyncio.get_running_loop())
    await server.start(sock)
    return server
