import asyncio
import contextlib
import errno
import logging
import os
import random
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import cast

import pytest

from gateway.transport import accept
from gateway.transport.accept import Acceptor
from gateway.transport.arrival import PLAIN, Arrival, Door, Guest, introduce
from gateway.transport.call import Peer
from gateway.transport.peers import BadPeer, Forwarder, Trusted
from gateway.transport.tls import TlsFiles, load
from tests.certificates import Authority
from tests.proxied import v1, v2

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

    def __init__(self, folder: Path) -> None:
        self.folder = folder
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


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(tmp_path)
    yield made
    for client in made.clients:
        client.transport.abort()
    await made.holds(0)
    made.acceptor.stop()
    assert made.acceptor.empty.is_set()
    assert not made.acceptor._tasks
    assert not made.acceptor._strangers


@pytest.fixture
def tls(tmp_path: Path) -> Door:
    context = load(TlsFiles(*AUTHORITY.server().write(tmp_path / "server"))).context
    return Door(tls=lambda: context)


async def test_connections_are_counted_from_accept_to_their_end(house: House) -> None:
    house.open()
    reader, writer = await house.connect()
    await house.holds(1)
    assert not house.acceptor.empty.is_set()
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    address = "{}:{}".format(*writer.get_extra_info("sockname"))
    assert house.peers == [Peer(address)]
    writer.close()
    await house.holds(0)
    assert not house.counts


async def test_unix_sockets_have_no_address(house: House) -> None:
    house.open()
    sock = socket.socket(socket.AF_UNIX)
    sock.bind("")  # an abstract address, chosen by the kernel
    house.acceptor.listen(sock, PLAIN)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(sock.getsockname())
        await until(lambda: house.peers == [Peer("unix:")])


async def test_tls_and_who_comes_without_h2(house: House, tls: Door) -> None:
    house.open(tls)
    await house.says(b"hello", b"hello", AUTHORITY.client_context())
    assert [peer.encrypted for peer in house.peers] == [True]
    other = AUTHORITY.client_context()
    other.set_alpn_protocols(["http/1.1"])
    for context in (other, ssl.create_default_context(cadata=AUTHORITY.pem.decode())):
        reader, _ = await house.connect(context)
        await ended(reader)
    assert house.bad == ["the client did not negotiate h2"] * 2


async def test_clients_are_known_by_their_certificate(house: House) -> None:
    folder = house.folder
    files = TlsFiles(*AUTHORITY.server().write(folder / "server"), client_ca=AUTHORITY.write(folder / "ca"))
    context = load(files).context
    house.open(Door(tls=lambda: context, trusted=Trusted.parse(["127.0.0.1"])))
    known = AUTHORITY.issue("worker", uris=("spiffe://test/worker",), dns=("worker.test",)).write(folder / "client")
    await house.says(b"hello", b"hello", AUTHORITY.client_context(known))
    assert isinstance(house.peers[0], Forwarder)
    assert (house.peers[0].identity, house.peers[0].encrypted) == ("spiffe://test/worker", True)
    reader, writer = await house.connect(AUTHORITY.client_context())  # with TLS 1.3 a client hears of it afterwards
    writer.write(b"hello")
    await ended(reader)
    await house.holds(1)
    assert house.counts == {"tls": 1}


async def test_handshakes_that_fail_are_counted_and_said_once(
    house: House, tls: Door, caplog: pytest.LogCaptureFixture
) -> None:
    house.open(tls)
    for _ in range(5):
        reader, writer = await house.connect()
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        await ended(reader)
    _, left = await house.connect()
    left.close()
    await until(lambda: house.counts == {"tls": 6})
    await house.holds(0)
    (line,) = caplog.messages
    assert line.startswith("TLS handshake with 127.0.0.1:")


async def test_handshakes_that_do_not_end(house: House, tls: Door) -> None:
    house.open(tls, timeout_s=0.05)
    reader, _ = await house.connect()
    await ended(reader)
    await house.holds(0)
    assert house.counts == {"handshake": 1}


@pytest.mark.parametrize(
    ("header", "address"),
    [
        (v2("192.0.2.1", 4711, b"\x04\x00\x01x"), "192.0.2.1:4711"),
        (v1("2001:db8::1", 4711), "[2001:db8::1]:4711"),
    ],
)
async def test_proxy_headers_name_the_client(house: House, header: bytes, address: str) -> None:
    """Whether it comes with what follows or byte by byte; nothing of that is swallowed."""
    house.open(Door(proxy_protocol=True))
    await house.says(header + b"hello", b"hello")
    reader, writer = await house.connect()
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in header:
        writer.write(bytes([byte]))
        await asyncio.sleep(0)
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    assert house.peers == [Peer(address)] * 2


async def test_a_proxy_that_speaks_for_itself(house: House) -> None:
    house.open(Door(proxy_protocol=True))
    await house.says(b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00hello", b"hello")
    assert house.peers[0].address.startswith("127.0.0.1:")


async def test_proxy_header_before_tls(house: House, tls: Door) -> None:
    house.open(Door(tls=tls.tls, proxy_protocol=True))
    client = socket.create_connection(("127.0.0.1", house.port))
    client.sendall(v2("192.0.2.1", 4711))
    reader, writer = await asyncio.open_connection(
        sock=client, ssl=AUTHORITY.client_context(), server_hostname="localhost"
    )
    house.clients.append(writer)
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    assert house.peers == [Peer("192.0.2.1:4711", "", True)]


async def test_broken_missing_and_slow_proxy_headers(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.open(Door(proxy_protocol=True), timeout_s=0.2)
    for data in (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\r\n\r\n\x00\r\nQUIT\n\x99\x00\x00\x00"):
        reader, writer = await house.connect()
        writer.write(data)
        await ended(reader)
    reader, writer = await house.connect()
    writer.write(b"PROXY ")
    writer.close()
    await ended(reader)
    await until(lambda: house.counts == {"proxy_header": 3})
    assert len(caplog.messages) == 1
    reader, writer = await house.connect()
    writer.write(b"PROXY TCP4 192")
    await ended(reader)
    await house.holds(0)
    assert house.counts == {"proxy_header": 3, "handshake": 1}
    assert house.peers == []


async def test_strangers_count_and_newcomers_are_cut_while_they_are_young(
    house: House, tls: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accept, "STRANGER_S", 3600.0)
    house.open(tls, most=2)
    await house.connect()
    await house.connect()
    await house.holds(2)
    reader, _ = await house.connect()
    await ended(reader)
    assert house.counts == {"connections": 1}
    assert house.acceptor.open == 2


@pytest.mark.parametrize("plain", [False, True])
async def test_an_old_stranger_makes_room_and_who_is_known_does_not(
    house: House, tls: Door, monkeypatch: pytest.MonkeyPatch, *, plain: bool
) -> None:
    monkeypatch.setattr(accept, "STRANGER_S", 0.0)
    house.open(PLAIN if plain else tls, most=2)
    context = None if plain else AUTHORITY.client_context()
    await house.says(b"hello", b"hello", context)
    silent, _ = await house.connect()
    await house.holds(2)
    await house.says(b"hello", b"hello", context)
    await ended(silent)
    assert house.counts == {"handshake": 1}
    reader, _ = await house.connect()
    await ended(reader)
    assert house.counts == {"handshake": 1, "connections": 1}


async def test_too_many_open_files_pause_accepting(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(accept, "PAUSE_S", 0.001)
    house.open()
    listening = house.acceptor._listening
    real = listening.popitem()[0]
    house.acceptor._loop.remove_reader(real)
    failures = [errno.ECONNABORTED, errno.EMFILE, errno.ENFILE, errno.ENOMEM]

    class Exhausted(socket.socket):
        def accept(self) -> tuple[socket.socket, object]:
            if failures:
                raise OSError(failures[0], os.strerror(failures.pop(0)))
            return super().accept()

    house.acceptor.listen(Exhausted(fileno=real.detach()), PLAIN)
    await house.says(b"hello", b"hello")
    assert house.counts == {"files": 3}
    assert caplog.messages == ["cannot accept connections: Too many open files; raise the limit (ulimit -n)"]


async def test_a_guest_that_cannot_be_made(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.broken = True
    house.open()
    reader, _ = await house.connect()
    await ended(reader)
    await house.holds(0)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_strangers_can_be_sent_away_at_any_moment(house: House, tls: Door) -> None:
    """Also between accept and the first step of their task."""
    house.open(Door(tls=tls.tls, proxy_protocol=True))
    waiting, writer = await house.connect()
    writer.write(v2("192.0.2.1", 4711))
    await house.holds(1)
    client = socket.create_connection(("127.0.0.1", house.port))
    house.acceptor.stop()
    assert house.acceptor.open == 2
    house.acceptor.send_strangers_away()
    await house.holds(0)
    await ended(waiting)
    client.close()


async def test_who_was_accepted_by_the_kernel_is_let_in_before_the_door_closes(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accept, "AT_ONCE", 2)
    house.open()
    clients = [socket.create_connection(("127.0.0.1", house.port)) for _ in range(7)]
    house.acceptor.stop()
    house.acceptor.stop()
    for client in clients:
        client.sendall(b"hello")
        client.setblocking(False)
        assert await asyncio.get_running_loop().sock_recv(client, 5) == b"hello"
        client.close()


async def test_nobody_who_leaves_at_any_moment_leaves_his_place_taken(
    house: House, tls: Door, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Many at once, gone within the header, the handshake or after it, or sent away for want of room."""
    monkeypatch.setattr(accept, "STRANGER_S", 0.0)
    house.open(Door(tls=tls.tls, proxy_protocol=True), most=10)
    luck = random.Random(1)  # noqa: S311 - repeatable, and guards nothing
    context = AUTHORITY.client_context()
    header = v2("192.0.2.1", 4711)

    async def visit() -> None:
        raw = socket.create_connection(("127.0.0.1", house.port))
        raw.setblocking(False)
        stop = luck.randrange(5)
        raw.send(header[: luck.randrange(len(header))] if stop == 0 else header)
        await asyncio.sleep(0)
        if stop < 2:
            raw.close()
        elif stop == 2:
            raw.send(luck.randbytes(40))
            raw.close()
        else:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(sock=raw, ssl=context, server_hostname="localhost")
                writer.write(b"hello" * (stop - 3))
                writer.transport.abort()

    for _ in range(10):
        await asyncio.gather(*(visit() for _ in range(20)))
    await house.holds(0)
    assert house.acceptor.open == 0
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
