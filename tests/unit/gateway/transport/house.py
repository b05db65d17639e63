"""An acceptor with guests that echo, for its tests."""

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from typing import cast

from gateway.transport.accept import Acceptor
from gateway.transport.arrival import PLAIN, Arrival, Door, Guest, introduce
from gateway.transport.call import Peer
from gateway.transport.peers import BadPeer
from tests.certificates import Authority

AUTHORITY = Authority()


class Echo(Guest):
    """Sends back what it gets; who has said something has introduced itself."""

    def __init__(self, house: "House", arrival: Arrival) -> None:
        self.house = house
        self.arrival = arrival
        self.said = False

    @property
    def greeted(self) -> bool:
        return self.said

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.arrival.met = True
        try:
            self.house.peers.append(introduce(self.arrival, transport))
        except BadPeer as bad:
            self.house.bad.append(str(bad))
            self.cut()

    def data_received(self, data: bytes) -> None:
        self.said = True
        self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.house.acceptor.left(self.arrival)

    def cut(self) -> None:
        self.transport.abort()


class House:
    """An acceptor, and what became of those who came."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.peers: list[Peer] = []
        self.bad: list[str] = []
        self.broken = False
        self.clients: list[asyncio.StreamWriter] = []

    def open(self, door: Door = PLAIN, *, most: int = 100, timeout_s: float = 60.0) -> None:
        def count(reason: str) -> None:
            self.counts[reason] += 1

        self.acceptor = Acceptor(self, most, timeout_s, count)
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.acceptor.listen(self.sock, door)

    def receive(self, arrival: Arrival) -> Echo:
        if self.broken:
            raise RuntimeError("as ordered")
        return Echo(self, arrival)

    async def connect(self, tls: ssl.SSLContext | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        name = "localhost" if tls else None
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=tls, server_hostname=name)
        self.clients.append(writer)
        return reader, writer

    async def says(self, data: bytes, expected: bytes, tls: ssl.SSLContext | None = None) -> None:
        """A client that sends something, and what it gets back."""
        reader, writer = await self.connect(tls)
        writer.write(data)
        assert await reader.readexactly(len(expected)) == expected

    async def holds(self, number: int) -> None:
        """Waits for a number of open connections."""
        await until(lambda: self.acceptor.open == number)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.001)


async def ended(reader: asyncio.StreamReader) -> None:
    """Waits for the end of a connection, however it comes."""
    async with asyncio.timeout(30):
        try:
            while await reader.read(1 << 16):
                pass
        except OSError:
            return
