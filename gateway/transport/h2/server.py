"""Listens for gRPC over HTTP/2 and serves each connection."""

import asyncio
import contextlib
import socket

from gateway.transport.call import Service
from gateway.transport.h2.limits import Limits
from gateway.transport.h2.protocol import H2Protocol

__all__ = ["H2Server", "Limits", "listen"]

BACKLOG = 1024


class H2Server:
    """A listening transport; see `gateway.transport.call.Server`. Made by `listen`."""

    def __init__(self, service: Service, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        self.port = 0
        self._service = service
        self._limits = limits
        self._loop = loop
        self._server: asyncio.Server | None = None
        self._members: set[H2Protocol] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    async def start(self, sock: socket.socket) -> None:
        """Accepts connections from now on. Raises OSError when the socket cannot listen."""
        self._server = await self._loop.create_server(self._protocol, sock=sock, backlog=BACKLOG)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            self.port = sock.getsockname()[1]

    @property
    def connections(self) -> int:
        """Open client connections."""
        return len(self._members)

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
        for member in list(self._members):
            member.close()

    def _stop_accepting(self) -> None:
        if self._server is not None:
            self._server.close()

    def _protocol(self) -> H2Protocol:
        return H2Protocol(self._service, self._limits, self._loop, self._changed)

    def _changed(self, member: H2Protocol, opened: bool) -> None:
        if opened:
            self._members.add(member)
            self._empty.clear()
            return
        self._members.discard(member)
        if not self._members:
            self._empty.set()


async def listen(sock: socket.socket, service: Service, limits: Limits) -> H2Server:
    """Serves `service` on a socket that is already bound. Raises OSError when it cannot listen."""
    server = H2Server(service, limits, asyncio.get_running_loop())
    await server.start(sock)
    return server
