import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import grpc.aio
import pytest

from gateway.errors import Code
from gateway.transport.call import NO_TRAILERS, PEER_ADDRESS, PEER_IDENTITY, Call, Handler, Stream, Streaming
from gateway.transport.grpcio.server import GrpcioServer, Limits, listen
from gateway.transport.tls import Credentials, TlsFiles
from tests.certificates import Authority

PATIENCE_S = 60


class Service:
    """Answers, waits, or cannot be asked."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.left = 0

    def resolve(self, path: str) -> Handler | Streaming | None:
        if path == "/test/Broken":
            raise RuntimeError("as ordered")
        methods: dict[str, Handler | Streaming] = {
            "/test/Peer": lambda call: call.reply(call.metadata.values[PEER_ADDRESS].encode(), NO_TRAILERS),
            "/test/Identity": lambda call: call.reply(call.metadata.values[PEER_IDENTITY].encode(), NO_TRAILERS),
            "/test/Wait": self.wait,
            "/test/Stream": Streaming(self.stream),
        }
        return methods.get(path)

    def wait(self, call: Call) -> None:
        self.calls.append(call)
        call.on_cancel = self._leave

    def stream(self, stream: Stream) -> None:
        def echo(message: bytes) -> None:
            stream.send(message)

        stream.on_message = echo
        stream.on_end = stream.finish

    def _leave(self) -> None:
        self.left += 1


def bound(host: str = "127.0.0.1", family: int = socket.AF_INET) -> socket.socket:
    sock = socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((host, 0))
    return sock


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
async def server(service: Service) -> AsyncIterator[GrpcioServer]:
    made = await listen(bound(), service, Limits())
    yield made
    await made.drain(0.0)


@pytest.fixture
async def channel(server: GrpcioServer) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as made:
        yield made


async def ask(channel: grpc.aio.Channel, method: str, body: bytes = b"") -> bytes:
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/test/{method}")
    return await call(body, timeout=PATIENCE_S)


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 - what is waited for happens in grpcio's threads
            await asyncio.sleep(0.001)


async def test_calls_and_who_makes_them(server: GrpcioServer, channel: grpc.aio.Channel) -> None:
    address = (await ask(channel, "Peer")).decode()
    assert address.startswith("127.0.0.1:")
    assert address != f"127.0.0.1:{server.port}"


async def test_streams(channel: grpc.aio.Channel) -> None:
    both: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream("/test/Stream")
    call = both(iter([b"a", b"b"]), timeout=PATIENCE_S)
    assert [message async for message in call] == [b"a", b"b"]


async def test_a_path_nobody_knows_and_a_service_that_cannot_tell(
    channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    for method, code, details in (
        ("Nothing", Code.UNIMPLEMENTED, "unknown method /test/Nothing"),
        ("Broken", Code.INTERNAL, "internal error"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(channel, method)
        assert (caught.value.code().value[0], caught.value.details()) == (code, details)
    assert "cannot serve '/test/Broken'" in caplog.text


async def test_connections_are_those_with_calls(
    server: GrpcioServer, service: Service, channel: grpc.aio.Channel
) -> None:
    assert server.connections == 0
    waiting = [asyncio.get_running_loop().create_task(ask(channel, "Wait")) for _ in range(2)]
    await until(lambda: len(service.calls) == 2)
    assert server.connections == 1
    for call in service.calls:
        call.reply(b"", NO_TRAILERS)
    await asyncio.gather(*waiting)
    await until(lambda: server.connections == 0)
    assert server.take_refusals() == {}


async def test_draining_waits_for_answers(server: GrpcioServer, service: Service, channel: grpc.aio.Channel) -> None:
    waiting = asyncio.get_running_loop().create_task(ask(channel, "Wait"))
    await until(lambda: service.calls)
    draining = asyncio.get_running_loop().create_task(server.drain(PATIENCE_S))
    await asyncio.sleep(0)
    service.calls[0].reply(b"kept", NO_TRAILERS)
    assert await waiting == b"kept"
    await draining


async def test_closing_does_not_wait(server: GrpcioServer, service: Service, channel: grpc.aio.Channel) -> None:
    waiting = asyncio.get_running_loop().create_task(ask(channel, "Wait"))
    await until(lambda: service.calls)
    server.close()
    server.close()
    with pytest.raises(grpc.aio.AioRpcError):
        await waiting
    await until(lambda: service.left)


async def test_a_unix_socket(service: Service, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    server = await listen(sock, service, Limits())
    assert server.port == 0
    async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
        assert await ask(channel, "Peer") == b"unix:"
    await server.drain(0.0)


async def test_ipv6(service: Service) -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    server = await listen(bound("::1", socket.AF_INET6), service, Limits())
    async with grpc.aio.insecure_channel(f"[::1]:{server.port}") as channel:
        assert (await ask(channel, "Peer")).startswith(b"[::1]:")
    await server.drain(0.0)


async def test_tls_with_client_certificates_that_change(service: Service, tmp_path: Path) -> None:
    authority = Authority()
    files = TlsFiles(*authority.server().write(tmp_path), authority.write(tmp_path / "ca.crt"))
    known = Credentials(files)
    server = await listen(bound(), service, Limits(), known)
    client = authority.issue("cn", uris=("spiffe://example/client",), dns=("client.example",))
    shown = grpc.ssl_channel_credentials(authority.pem, client.key, client.certificate)
    options = [("grpc.use_local_subchannel_pool", 1)]

    async def identity(credentials: grpc.ChannelCredentials) -> bytes:
        async with grpc.aio.secure_channel(f"localhost:{server.port}", credentials, options) as channel:
            return await ask(channel, "Identity")

    assert await identity(shown) == b"spiffe://example/client"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await identity(grpc.ssl_channel_credentials(authority.pem))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    other = Authority("Another CA")
    other.server().write(tmp_path)
    known.settle(*known.look())
    trusting = grpc.ssl_channel_credentials(other.pem, client.key, client.certificate)
    assert await identity(trusting) == b"spiffe://example/client"
    await server.drain(0.0)


async def test_two_share_a_port(service: Service, server: GrpcioServer) -> None:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", server.port))
    other = await listen(sock, service, Limits())
    assert other.port == server.port
    await other.drain(0.0)


async def test_an_address_that_grpcio_cannot_have(service: Service) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # not to be shared
        with pytest.raises(OSError, match="grpcio cannot listen on 127"):
            await listen(sock, service, Limits())
