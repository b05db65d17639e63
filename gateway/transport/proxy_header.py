"""The PROXY protocol: a proxy in front says whose connection it hands on, before the first byte of that connection.

Versions 1 (text) and 2 (binary) of haproxy's doc/proxy-protocol.txt. Sans-I/O: `read` asks for bytes, and never for one
that may belong to the connection itself.
"""

import ipaddress
import re
import struct
from collections.abc import Generator
from typing import Final

from gateway.transport.peers import tcp_address

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
"""The first bytes of version 2; version 1 is longer than these, too."""
MAX_BYTES: Final = 4096
"""Of addresses and extensions of version 2. Real ones stay below 1 KiB; the format would allow 64."""
MAX_LINE_BYTES: Final = 107
"""Of version 1, with its CR LF."""
_V1: Final = b"PROXY "
_LENGTH: Final = struct.Struct(">BBH")
_LOCAL, _PROXY = 0x20, 0x21
_UNSPECIFIED, _TCP4, _TCP6, _UNIX_STREAM = 0x00, 0x11, 0x21, 0x31
_ADDRESSES: Final = {
    _TCP4: struct.Struct(">4s4sHH"),
    _TCP6: struct.Struct(">16s16sHH"),
    _UNIX_STREAM: struct.Struct("108s108s"),
}
_port = re.compile(r"0|[1-9][0-9]{0,4}").fullmatch


class BadProxyHeader(Exception):
    """A connection that does not begin with a PROXY header, or with a broken one; one line."""


def read() -> Generator[int, bytes, str | None]:
    """Reads one header: yields how many bytes to send in next, exactly.

    Returns the address of the client (see `Peer`), or None where the proxy speaks for itself (its health checks) or
    does not know: the connection's own address holds then. Raises BadProxyHeader.
    """
    start = yield len(SIGNATURE)
    if start == SIGNATURE:
        command, family, size = _LENGTH.unpack((yield _LENGTH.size))
        if command not in (_LOCAL, _PROXY):
            raise BadProxyHeader(f"unknown version or command 0x{command:02x}")
        if size > MAX_BYTES:
            raise BadProxyHeader(f"{size} bytes are too long")
        rest = (yield size) if size else b""
        return None if command == _LOCAL else _address(family, rest)
    if not start.startswith(_V1):
        raise BadProxyHeader("there is none")
    line = start
    while not line.endswith(b"\n"):
        if len(line) == MAX_LINE_BYTES:
            raise BadProxyHeader("the line does not end")
        line += yield 1
    return _address_in_line(line)


def _address(family: int, rest: bytes) -> str | None:
    """The source address of version 2 (its section 2.2); what follows the addresses is left aside."""
    if family == _UNSPECIFIED:
        return None
    form = _ADDRESSES.get(family)
    if form is None:
        raise BadProxyHeader(f"unknown address family or protocol 0x{family:02x}")
    if len(rest) < form.size:
        raise BadProxyHeader("its addresses are cut off")
    if family == _UNIX_STREAM:
        return "unix:"
    source, _, port, _ = form.unpack_from(rest)
    return tcp_address(ipaddress.ip_address(source), port)


def _address_in_line(line: bytes) -> str | None:
    """The source address of version 1 (its section 2.1): `PROXY TCP4 192.0.2.1 192.0.2.9 4711 8001`."""
    words = line.decode("latin-1").split(" ")
    if not line.endswith(b"\r\n"):
        raise BadProxyHeader("the line does not end with CR LF")
    if words[1].rstrip("\r\n") == "UNKNOWN":
        return None
    if words[1] not in ("TCP4", "TCP6") or len(words) != 6:
        raise BadProxyHeader("the line is malformed")
    if b"%" in line:  # the zone of an IPv6 address may be any text, and says nothing to who is not on the proxy's host
        raise BadProxyHeader("an address is malformed")
    parse = ipaddress.IPv4Address if words[1] == "TCP4" else ipaddress.IPv6Address
    try:
        source, _ = parse(words[2]), parse(words[3])
    except ValueError:
        raise BadProxyHeader("an address is malformed") from None
    if not all(_port(port) and int(port) < 65536 for port in (words[4], words[5].removesuffix("\r\n"))):
        raise BadProxyHeader("a port is malformed")
    return tcp_address(source, int(words[4]))
