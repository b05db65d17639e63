import ipaddress
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.transport.peers import tcp_address
from gateway.transport.proxy_header import MAX_BYTES, SIGNATURE, BadProxyHeader, read
from tests.proxied import v1, v2


def parse(data: bytes) -> tuple[str | None, int]:
    """The address, and how many bytes were asked for. Raises EOFError when more are wanted than there are."""
    reading = read()
    wanted, taken = next(reading), 0
    while True:
        if taken + wanted > len(data):
            raise EOFError
        piece, taken = data[taken : taken + wanted], taken + wanted
        try:
            wanted = reading.send(piece)
        except StopIteration as done:
            return done.value, taken


TLV = b"\x04\x00\x03abc"


@pytest.mark.parametrize(
    ("header", "address"),
    [
        (v2("192.0.2.1", 4711), "192.0.2.1:4711"),
        (v2("192.0.2.1", 4711, extensions=TLV), "192.0.2.1:4711"),
        (v2("2001:db8::1", 1), "[2001:db8::1]:1"),
        (v2("::ffff:192.0.2.1", 1), "192.0.2.1:1"),
        (SIGNATURE + b"\x21\x31\x00\xd8" + bytes(216), "unix:"),
        (SIGNATURE + b"\x20\x00\x00\x00", None),
        (SIGNATURE + b"\x20\x11\x00\x06" + TLV, None),
        (SIGNATURE + b"\x21\x00\x00\x06" + TLV, None),
        (v1("192.0.2.1", 4711), "192.0.2.1:4711"),
        (v1("2001:db8::1", 65535), "[2001:db8::1]:65535"),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
    ],
)
def test_addresses(header: bytes, address: str | None) -> None:
    """And nothing beyond the header is asked for."""
    assert parse(header + b"PRI * HTTP/2.0") == (address, len(header))


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "none"),
        (SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12), "version or command"),
        (SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12), "version or command"),
        (SIGNATURE + b"\x21\x12\x00\x0c" + bytes(12), "family or protocol"),
        (SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11), "cut off"),
        (SIGNATURE + b"\x21\x21\x00\x0c" + bytes(12), "cut off"),
        (SIGNATURE + b"\x21\x11" + struct.pack(">H", MAX_BYTES + 1), "too long"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n", "CR LF"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", "malformed"),
        (b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n", "malformed"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n", "malformed"),
        (b"PROXY TCP4 2001:db8::1 192.0.2.2 1 2\r\n", "address"),
        (b"PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n", "address"),
        (b"PROXY TCP6 fe80::1%\x1b[31m ::1 1 2\r\n", "address"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n", "port"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 +2\r\n", "port"),
        (b"PROXY TCP6 " + b"f" * 200, "does not end"),
    ],
)
def test_broken_headers(header: bytes, why: str) -> None:
    with pytest.raises(BadProxyHeader, match=why):
        parse(header)


def test_a_header_that_is_cut_short_is_waited_for() -> None:
    for whole in (v1("192.0.2.1", 4711), v2("2001:db8::1", 4711, extensions=TLV)):
        for size in range(len(whole)):
            with pytest.raises(EOFError):
                parse(whole[:size])


@given(st.ip_addresses(), st.integers(0, 65535), st.binary(max_size=300), st.binary(max_size=20))
@settings(max_examples=100)
def test_any_address_comes_through(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int, extensions: bytes, rest: bytes
) -> None:
    expected = tcp_address(address, port)
    for header in (v1(str(address), port), v2(str(address), port, extensions=extensions)):
        assert parse(header + rest) == (expected, len(header))


@given(
    st.one_of(
        st.binary(max_size=200), st.binary(max_size=200).map(SIGNATURE.__add__), st.binary().map(b"PROXY ".__add__)
    )
)
@settings(max_examples=100)
def test_any_bytes_are_a_header_or_refused(data: bytes) -> None:
    try:
        address, taken = parse(data)
    except (BadProxyHeader, EOFError):
        return
    assert taken <= len(data)
    assert address is None or address == "unix:" or address.rpartition(":")[2].isdigit()
