"""PROXY headers as proxies write them."""

import ipaddress
import struct

from gateway.transport.proxy_header import SIGNATURE


def v1(address: str, port: int) -> bytes:
    """A line of version 1 for a client of this address."""
    family = "TCP4" if ipaddress.ip_address(address).version == 4 else "TCP6"
    other = "192.0.2.254" if family == "TCP4" else "2001:db8::fe"
    return f"PROXY {family} {address.partition('%')[0]} {other} {port} 8001\r\n".encode()


def v2(address: str, port: int, extensions: bytes = b"") -> bytes:
    """A header of version 2."""
    source = ipaddress.ip_address(address.partition("%")[0]).packed
    family = 0x11 if len(source) == 4 else 0x21
    body = source + bytes(len(source)) + struct.pack(">HH", port, 8001) + extensions
    return SIGNATURE + struct.pack(">BBH", 0x21, family, len(body)) + body
