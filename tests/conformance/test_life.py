"""The life of a connection, on both transports: what ends it, and what it is told."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gateway.transport.call import NO_TRAILERS, Call, Handler, Server
from gateway.transport.grpcio import server as grpcio
from gateway.transport.h2 import server as h2
from gateway.transport.h2.frames import ACK, END_STREAM, PREFACE, FrameType, frame
from gateway.transport.h2.limits import Limits
from tests.conformance.calls import PATIENCE_S
from tests.transports import differs
from tests.unit.gateway.transport.h2.peer import SETTINGS_ACK, Frame, Peer, settings, split

PING = frame(FrameType.PING, 0, 0, b"12345678")
NO_ERROR, INTERNAL_ERROR, ENHANCE_YOUR_CALM = 0, 2, 11


class Service:
    """Answers with the request; keeps calls of `/keep`."""

    def __init__(self) -> None:
        self.kept: list[Call] = []

    def resolve(self, path: str) -> Handler:
        return self.kept.append if path == "/keep" else self.answer

    def answer(self, call: Call) -> None:
        call.reply(call.message, NO_TRAILERS)


@asynccontextmanager
async def serving(transport: str, limits: Limits, service: Service | None = None) -> AsyncIterator[Server]:
    """On a port of the kernel's choice, in this process."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", 0))
    listen: Callable[..., object] = h2.listen if transport == "h2" else grpcio.listen
    server: Server = await listen(sock, service or Service(), limits)  # type: ignore[misc] # both are coroutine functions
    try:
        yield server
    finally:
        await server.drain(0.0)


@dataclass
class Client:
    """A client on a bare socket that reads all it gets and acknowledges SETTINGS and PING."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def frame(self) -> Frame | None:
        """The next frame; None at the end."""
        try:
            head = await self.reader.readexactly(9)
            payload = await self.reader.readexactly(int.from_bytes(head[:3], "big"))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        found = Frame(head[3], head[4], int.from_bytes(head[5:], "big"), payload)
        if found.kind == FrameType.SETTINGS and not found.flags & ACK:
            self.writer.write(SETTINGS_ACK)
        if found.kind == FrameType.PING and not found.flags & ACK:
            self.writer.write(frame(FrameType.PING, ACK, 0, payload))
        return found

    async def farewell(self) -> list[tuple[int, bytes]]:
        """Reads to the end; the code and text of each GOAWAY."""
        said = []
        async with asyncio.timeout(PATIENCE_S):
            while (found := await self.frame()) is not None:
                if found.kind == FrameType.GOAWAY:
                    said.append((found.code, found.payload[8:]))
        return said

    async def until(self, stream_id: int, kind: FrameType) -> Frame:
        """Reads until there is such a frame: HEADERS only if they end the stream."""
        async with asyncio.timeout(PATIENCE_S):
            while (found := await self.frame()) is not None:
                wanted = found.stream_id == stream_id and found.kind == kind
                if wanted and (kind != FrameType.HEADERS or found.flags & END_STREAM):
                    return found
        raise AssertionError("the server hung up")

    async def answered(self, stream_id: int) -> None:
        """Reads until the stream has ended."""
        await self.until(stream_id, FrameType.HEADERS)


@asynccontextmanager
async def connected(server: Server) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(PREFACE + settings())
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


async def test_a_connection_without_calls_is_closed_in_the_end(transport: str) -> None:
    async with serving(transport, Limits(idle_timeout_s=0.2)) as server, connected(server) as client:
        client.writer.write(Peer(greet=False).request(1, b"x"))
        await client.answered(1)
        expected = differs("goodbye", transport, h2=NO_ERROR, grpcio=INTERNAL_ERROR)
        assert {code for code, _ in await client.farewell()} == {expected}


async def test_a_connection_that_is_too_old_is_closed_without_an_error(transport: str) -> None:
    async with serving(transport, Limits(max_age_s=0.2)) as server, connected(server) as client:
        assert {code for code, _ in await client.farewell()} == {NO_ERROR}


async def test_who_asks_too_often_is_told_so(transport: str) -> None:
    limits = Limits(min_ping_interval_s=3600.0, min_idle_ping_interval_s=3600.0, max_ping_strikes=2)
    async with serving(transport, limits) as server, connected(server) as client:
        client.writer.write(PING * 5)
        assert (ENHANCE_YOUR_CALM, b"too_many_pings") in await client.farewell()


async def test_who_does_not_answer_a_ping_is_gone(transport: str) -> None:
    limits = Limits(
        keepalive_time_s=0.2, keepalive_timeout_s=0.2, min_ping_interval_s=1.0, min_idle_ping_interval_s=1.0
    )
    async with serving(transport, limits) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(PREFACE + settings() + SETTINGS_ACK)
        async with asyncio.timeout(PATIENCE_S):
            kinds = [found.kind for found in split(await reader.read())]
        writer.close()
    assert FrameType.PING in kinds


async def test_who_says_nothing_at_all_is_cut(transport: str) -> None:
    async with serving(transport, Limits(handshake_timeout_s=0.2)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        async with asyncio.timeout(PATIENCE_S):
            await reader.read()
        writer.close()


async def test_a_drain_says_goodbye(transport: str) -> None:
    async with serving(transport, Limits()) as server, connected(server) as client:
        client.writer.write(Peer(greet=False).request(1, b"x"))
        await client.answered(1)
        draining = asyncio.get_running_loop().create_task(server.drain(PATIENCE_S))
        assert {code for code, _ in await client.farewell()} == {NO_ERROR}
        client.writer.close()
        await draining


async def test_calls_that_come_while_the_goodbye_is_on_its_way(transport: str) -> None:
    """The client has not answered the PING that follows the first GOAWAY: for all the server knows it heard neither."""
    service, peer = Service(), Peer(greet=False)
    async with serving(transport, Limits(), service) as server, connected(server) as client:
        client.writer.write(peer.request(1, b"x", (":path", "/keep")))
        async with asyncio.timeout(PATIENCE_S):
            while not service.kept:  # noqa: ASYNC110 - what is waited for happens in the server
                await asyncio.sleep(0.001)
        draining = asyncio.get_running_loop().create_task(server.drain(PATIENCE_S))
        await client.until(0, FrameType.GOAWAY)
        client.writer.write(peer.request(3, b"y"))
        status = peer.fields(await client.until(3, FrameType.HEADERS))["grpc-status"]
        assert status == differs("draining", transport, h2="0", grpcio="1")
        service.kept[0].reply(b"kept", NO_TRAILERS)
        await client.answered(1)
        client.writer.close()
        await draining
