import asyncio
import contextlib
import resource
import socket
import ssl
from pathlib import Path
from typing import cast

import pytest

from gateway.transport.arrival import Door
from gateway.transport.call import NO_TRAILERS
from gateway.transport.h2 import server as servers
from gateway.transport.h2.frames import PREFACE, FrameType, frame
from gateway.transport.h2.server import H2Server, Limits, listen
from gateway.transport.tls import TlsFiles, load
from tests.certificates import Authority
from tests.unit.gateway.transport.h2.peer import Frame, Peer, Recorder, data, message, settings, split, window_update


class Client:
    """A client on a real socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.peer = Peer(greet=False)

    async def frame(self) -> Frame:
        head = await self.reader.readexactly(9)
        (found,) = split(head + await self.reader.readexactly(int.from_bytes(head[:3], "big")))
        return found

    async def until(self, kind: FrameType) -> Frame:
        """Skips to the next frame of this kind."""
        while (found := await self.frame()).kind != kind:
            pass
        return found


async def connect(server: H2Server) -> Client:
    client = Client(*await asyncio.open_connection("127.0.0.1", server.port))
    client.writer.write(PREFACE + settings())
    await client.until(FrameType.WINDOW_UPDATE)
    return client


async def serve(service: Recorder, limits: Limits | None = None) -> H2Server:
    return await listen(socket.create_server(("127.0.0.1", 0)), service, limits or Limits())


async def gone(server: H2Server) -> None:
    async with asyncio.timeout(10):
        await server._empty.wait()


async def test_calls_are_answered_and_connections_counted() -> None:
    server = await serve(Recorder())
    assert server.connections == 0
    client = await connect(server)
    assert server.connections == 1
    client.writer.write(client.peer.request(1, b"hello"))
    assert (await client.until(FrameType.DATA)).payload == message(b"hello")
    client.writer.close()
    await gone(server)
    assert server.connections == 0
    server.close()


async def test_drain_waits_for_calls_in_flight() -> None:
    service = Recorder()
    server = await serve(service)
    client = await connect(server)
    client.writer.write(client.peer.request(1, b"", (":path", "/test.Echo/Keep")))
    client.writer.write(frame(FrameType.PING, 0, 0, b"arrived?"))
    await client.until(FrameType.PING)
    draining = asyncio.get_running_loop().create_task(server.drain(30.0))
    ping = await client.until(FrameType.PING)
    client.writer.write(frame(FrameType.PING, 1, 0, ping.payload))
    assert (await client.until(FrameType.GOAWAY)).code == 0
    assert not draining.done()
    service.kept[0].reply(b"done", NO_TRAILERS)
    assert (await client.until(FrameType.DATA)).payload == message(b"done")
    await client.until(FrameType.HEADERS)
    assert await client.reader.read() == b""
    client.writer.close()
    await draining
    assert server.connections == 0


async def test_drain_does_not_wait_beyond_its_grace() -> None:
    service = Recorder()
    server = await serve(service, Limits(linger_s=0.0))
    client = await connect(server)
    client.writer.write(client.peer.request(1, b"", (":path", "/test.Echo/Keep")))
    client.writer.write(frame(FrameType.PING, 0, 0, b"arrived?"))
    await client.until(FrameType.PING)
    await server.drain(0.0)
    assert service.kept[0].closed
    assert server.connections == 0
    client.writer.close()


async def test_a_drained_server_accepts_nobody() -> None:
    server = await serve(Recorder())
    await server.drain(1.0)
    try:
        await asyncio.open_connection("127.0.0.1", server.port)
    except OSError:
        return
    raise AssertionError("still listening")


async def test_a_unix_socket_has_no_port() -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind("")  # an abstract address, chosen by the kernel
    server = await listen(sock, Recorder(), Limits())
    assert server.port == 0
    server.close()


async def test_those_who_hold_most_are_sent_away_first() -> None:
    service = Recorder()
    server = await serve(service, Limits(max_buffered_bytes=100_000))
    clients = [await connect(server) for _ in range(3)]
    for client, size in zip(clients, (20_000, 50_000, 25_000), strict=True):
        client.writer.write(client.peer.headers(1) + data(1, message(bytes(size))[:size], end=False))
        await client.writer.drain()
        client.writer.write(frame(FrameType.PING, 0, 0, b"arrived?"))
        if size != 25_000:
            await client.until(FrameType.PING)
    assert (await clients[1].until(FrameType.GOAWAY)).payload[8:] == b"short of memory"
    assert (await clients[2].until(FrameType.PING)).payload == b"arrived?"
    assert 45_000 < server.held_bytes < 50_000
    assert server.take_refusals() == {"memory": 1}
    for client in clients:
        client.writer.close()
    await gone(server)
    assert server.held_bytes == 0
    server.close()


async def test_connections_above_the_limit_are_cut_and_counted() -> None:
    server = await serve(Recorder(), Limits(max_connections=1))
    assert server.max_connections == 1
    client = await connect(server)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()
    assert (server.connections, server.take_refusals()) == (1, {"connections": 1})
    assert server.take_refusals() == {}
    client.writer.close()
    await gone(server)
    server.close()


async def test_the_sweep_finds_who_says_nothing() -> None:
    server = await serve(Recorder(), Limits(handshake_timeout_s=0.01))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()
    await gone(server)
    assert server.take_refusals() == {"handshake": 1}
    server.close()


async def test_a_limit_holds_across_several_sockets(tmp_path: Path) -> None:
    server = await serve(Recorder(), Limits(max_connections=2))
    path = tmp_path / "clients"
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    server.listen(sock)
    clients = [await connect(server), Client(*await asyncio.open_unix_connection(path))]
    clients[1].writer.write(PREFACE + settings() + clients[1].peer.request(1, b"hello"))
    assert (await clients[1].until(FrameType.DATA)).payload == message(b"hello")
    assert server.connections == 2
    for opening in (asyncio.open_unix_connection(path), asyncio.open_connection("127.0.0.1", server.port)):
        reader, writer = await opening
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
    assert server.take_refusals() == {"connections": 2}
    draining = asyncio.get_running_loop().create_task(server.drain(30.0))
    for client in clients:
        ping = await client.until(FrameType.PING)
        client.writer.write(frame(FrameType.PING, 1, 0, ping.payload))
        assert (await client.until(FrameType.GOAWAY)).code == 0
        assert await client.reader.read() == b""
        client.writer.close()
    await draining


async def test_who_is_in_its_handshake_when_the_drain_begins_may_finish_it(tmp_path: Path) -> None:
    authority = Authority()
    context = load(TlsFiles(*authority.server().write(tmp_path))).context
    server = await listen(socket.create_server(("127.0.0.1", 0)), Recorder(), Limits(), Door(tls=lambda: context))
    raw = socket.create_connection(("127.0.0.1", server.port))
    async with asyncio.timeout(30):
        while not server.connections:  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)
    draining = asyncio.get_running_loop().create_task(server.drain(30.0))
    await asyncio.sleep(0)
    late = Client(*await asyncio.open_connection(sock=raw, ssl=authority.client_context(), server_hostname="localhost"))
    late.writer.write(PREFACE + settings())
    ping = await late.until(FrameType.PING)
    late.writer.write(frame(FrameType.PING, 1, 0, ping.payload))
    assert (await late.until(FrameType.GOAWAY)).code == 0
    assert await late.reader.read() == b""
    late.writer.close()
    await draining
    assert server.take_refusals() == {}


async def test_calls_carry_who_calls_and_others_are_cut(tmp_path: Path) -> None:
    authority = Authority()
    files = TlsFiles(*authority.server().write(tmp_path), client_ca=authority.write(tmp_path / "ca"))
    context = load(files).context
    service = Recorder()
    server = await listen(socket.create_server(("127.0.0.1", 0)), service, Limits(), Door(tls=lambda: context))
    known = authority.client_context(authority.issue("worker").write(tmp_path / "client"))
    client = Client(*await asyncio.open_connection("localhost", server.port, ssl=known))
    keep = (":path", "/test.Echo/Keep")
    client.writer.write(PREFACE + settings() + client.peer.request(1, b"", keep, ("cutover-peer-identity", "root")))
    client.writer.write(frame(FrameType.PING, 0, 0, b"arrived?"))
    await client.until(FrameType.PING)
    (call,) = service.kept
    assert (call.peer.identity, call.peer.encrypted) == ("worker", True)
    assert call.metadata.values["cutover-peer-identity"] == "worker"
    assert call.metadata.values["cutover-peer-address"] == call.peer.address
    call.reply(b"", NO_TRAILERS)
    known.set_alpn_protocols(["http/1.1"])
    reader, writer = await asyncio.open_connection("localhost", server.port, ssl=known)
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        assert await reader.read() == b""
    assert server.take_refusals() == {"tls": 1}
    for each in (client.writer, writer):
        each.transport.abort()
    await gone(server)
    server.close()


async def test_a_client_that_does_not_read_costs_a_bounded_buffer_over_tls_too(tmp_path: Path) -> None:
    authority, service = Authority(), Recorder()
    context = load(TlsFiles(*authority.server().write(tmp_path))).context
    server = await listen(socket.create_server(("127.0.0.1", 0)), service, Limits(), Door(tls=lambda: context))
    reader, writer = await asyncio.open_connection("localhost", server.port, ssl=authority.client_context())
    client = Client(reader, writer)
    greeting = settings(initial_window_size=2**31 - 1) + window_update(0, 2**31 - 65536)
    writer.write(PREFACE + greeting + client.peer.request(1, b"", (":path", "/test.Echo/Keep")))
    writer.write(frame(FrameType.PING, 0, 0, b"arrived?"))
    await client.until(FrameType.PING)
    cast("asyncio.ReadTransport", writer.transport).pause_reading()
    body = bytes(range(256)) * (1 << 16)
    service.kept[0].reply(body, NO_TRAILERS)
    (member,) = server._members
    async with asyncio.timeout(30):
        while not member._sender.paused:  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)
    assert member._transport.get_write_buffer_size() < 2 << 20
    cast("asyncio.ReadTransport", writer.transport).resume_reading()
    got = bytearray()
    while len(got) < len(body) + 5:
        got += (await client.until(FrameType.DATA)).payload
    assert got == message(body)
    writer.transport.abort()
    await gone(server)
    server.close()


@pytest.mark.parametrize(
    ("files", "allowed"),
    [(resource.RLIM_INFINITY, 4096), (20_000, 4096), (1024, 768), (256, 128), (2, 1), (0, 1)],
)
def test_workers_and_their_memory_find_files_when_clients_take_all_they_may(
    files: int, allowed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert servers._connections_allowed(4096) == allowed
