import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from gateway.transport.arrival import PLAIN, Door
from gateway.transport.call import Peer
from gateway.transport.peers import Forwarder, Trusted
from gateway.transport.tls import TlsFiles, load
from tests.proxied import v1, v2
from tests.unit.gateway.transport.house import AUTHORITY, House, ended, until


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


async def test_clients_are_known_by_their_certificate(house: House, tmp_path: Path) -> None:
    files = TlsFiles(*AUTHORITY.server().write(tmp_path / "server"), client_ca=AUTHORITY.write(tmp_path / "ca"))
    context = load(files).context
    house.open(Door(tls=lambda: context, trusted=Trusted.parse(["127.0.0.1"])))
    known = AUTHORITY.issue("worker", uris=("spiffe://test/worker",), dns=("worker.test",)).write(tmp_path / "client")
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
    for in_clear in (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\n" * 20,
        b"PRI * HTTP/2.0\r\n",
        b"GET / HT",
    ):
        reader, writer = await house.connect()
        writer.write(in_clear)
        await ended(reader)
    _, left = await house.connect()
    left.close()
    await until(lambda: house.counts == {"tls": 6})
    await house.holds(0)
    (line,) = caplog.messages
    assert line.startswith("TLS handshake with 127.0.0.1:")
    assert line.endswith(" failed: the client does not speak TLS")


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
