"""Differences between the transports in what is announced, counted, listened on, resumed and refused."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from gateway.transport.arrival import PLAIN, Door
from gateway.transport.call import Server
from gateway.transport.grpcio import server as grpcio
from gateway.transport.h2 import server as h2
from gateway.transport.h2.frames import PREFACE
from gateway.transport.h2.limits import Limits
from gateway.transport.tls import Credentials, TlsFiles
from tests.certificates import Authority
from tests.conformance.calls import PATIENCE_S
from tests.conformance.conftest import Process
from tests.conformance.raw import Answered, Asked, ask_raw
from tests.conformance.test_life import ENHANCE_YOUR_CALM, PING, Service, connected, serving
from tests.transports import differs
from tests.unit.gateway.transport.h2.peer import Peer, settings


@asynccontextmanager
async def listening(transport: str, host: str, tls: Credentials | None = None) -> AsyncIterator[Server]:
    """On a port of the kernel's choice, at this address, in this process."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((host, 0))
    server: Server
    if transport == "h2":
        server = await h2.listen(sock, Service(), Limits(), Door(lambda: tls.context) if tls else PLAIN)
    else:
        server = await grpcio.listen(sock, Service(), Limits(), tls)
    try:
        yield server
    finally:
        await server.drain(0.0)


def test_replies_as_they_are_announce_an_encoding_or_none(server: Process, transport: str) -> None:
    answered, messages, fields = ask_raw(server.port, Asked(fields=(("grpc-accept-encoding", "gzip"),)))
    assert (answered, messages[0][0]) == (Answered(), 0)
    assert fields.get("grpc-encoding") == differs("announced", transport, h2=None, grpcio="gzip")


async def test_connections_and_refusals_are_counted(transport: str) -> None:
    async with serving(transport, Limits()) as server, connected(server) as client:
        client.writer.write(Peer(greet=False).request(1, b"x"))
        await client.answered(1)
        assert server.connections == differs("counted", transport, h2=1, grpcio=0)
        client.writer.write(PING * 5)
        assert (ENHANCE_YOUR_CALM, b"too_many_pings") in await client.farewell()
        assert server.take_refusals() == differs("counted", transport, h2={"pings": 1}, grpcio={})


async def test_every_address_of_the_machine(transport: str) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    async with listening(transport, "0.0.0.0") as server:
        with socket.socket(socket.AF_INET6) as client:
            reached = await asyncio.to_thread(client.connect_ex, ("::1", server.port)) == 0
    assert reached == differs("wildcard", transport, h2=False, grpcio=True)


async def test_sessions_are_resumed_or_not(transport: str, tmp_path: Path) -> None:
    authority = Authority()
    known = Credentials(TlsFiles(*authority.server().write(tmp_path)))
    context = authority.client_context()

    def dial(port: int, session: ssl.SSLSession | None = None) -> tuple[ssl.SSLSession | None, bool | None]:
        """The session, once the server has said something, and whether it is an old one."""
        raw = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        with context.wrap_socket(raw, server_hostname="localhost", session=session) as client:
            client.sendall(PREFACE + settings())
            assert client.recv(1)
            return client.session, client.session_reused

    async with listening(transport, "127.0.0.1", known) as server:
        session, _ = await asyncio.to_thread(dial, server.port)
        _, resumed = await asyncio.to_thread(dial, server.port, session)
    assert resumed == differs("tls", transport, h2=False, grpcio=True)


async def test_who_has_a_name_that_is_none(transport: str, tmp_path: Path) -> None:
    authority = Authority()
    files = TlsFiles(*authority.server().write(tmp_path), authority.write(tmp_path / "ca.crt"))
    client = authority.issue("some\nbody")
    shown = grpc.ssl_channel_credentials(authority.pem, client.key, client.certificate)
    async with (
        listening(transport, "127.0.0.1", Credentials(files)) as server,
        grpc.aio.secure_channel(f"localhost:{server.port}", shown) as channel,
    ):
        made: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/answer")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await made(b"x", timeout=PATIENCE_S)
    unavailable, unauthenticated = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED
    assert caught.value.code() is differs("names", transport, h2=unavailable, grpcio=unauthenticated)
