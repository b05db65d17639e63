"""Metadata as grpcio has it, and as services have it. Pure."""

import base64
import re
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import unquote

from gateway.transport.call import UNKNOWN_PEER, Peer, Trailers
from gateway.transport.peers import NOBODY, UNIX, Trusted, peer, tcp_address, vouch

Pairs = tuple[tuple[str, str | bytes], ...]

MAX_STATUS_MESSAGE: Final = 2048
"""Bytes of a status message, as in `gateway.transport.h2.grpc`."""
_legal_key = re.compile(r"[0-9a-z_.-]+").fullmatch
"""grpc doc/PROTOCOL-HTTP2.md, "Header-Name"; grpcio would end the call with an exception of its own."""


def values(pairs: Iterable[tuple[str, str | bytes]], known: Peer = UNKNOWN_PEER) -> dict[str, str]:
    """`Metadata.values` of what grpcio received: repeated keys joined, "-bin" values as base64 again."""
    found: dict[str, str] = {}
    for key, value in pairs:
        text = value if isinstance(value, str) else _text(key, value)
        if key in found:
            glue = "; " if key == "cookie" else ","
            found[key] = f"{found[key]}{glue}{text}"
        else:
            found[key] = text
    vouch(found, known)
    return found


def _text(key: str, value: bytes) -> str:
    if key.endswith("-bin"):
        return base64.b64encode(value).rstrip(b"=").decode("ascii")
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def pairs(trailers: Trailers) -> Pairs:
    """Metadata of a reply for grpcio, which makes base64 of every "-bin" value itself.

    Raises ValueError for what cannot be metadata: here and not within grpcio, where only the log would hear of it.
    """
    found: list[tuple[str, str | bytes]] = []
    for key, value in trailers.pairs:
        if not _legal_key(key):
            raise ValueError(f"{key!r} cannot be a metadata key")
        if not key.endswith("-bin"):
            text = value if isinstance(value, str) else value.decode("ascii")
            if not text.isascii():
                raise ValueError(f"the value of {key!r} is not ASCII; binary values need a key that ends in -bin")
            found.append((key, text))
        elif isinstance(value, str):
            found += [(key, base64.b64decode(part + "=" * (-len(part) % 4))) for part in value.split(",")]
        else:
            found.append((key, value))
    return tuple(found)


def status_text(message: str) -> str:
    """A status message as it may be sent: valid UTF-8, cut at MAX_STATUS_MESSAGE bytes."""
    return message[:MAX_STATUS_MESSAGE].encode("utf-8", "replace")[:MAX_STATUS_MESSAGE].decode("utf-8", "ignore")


def peer_of(name: str, auth: Mapping[str, Iterable[bytes]], trusted: Trusted = NOBODY) -> Peer:
    """Who calls, from grpcio's name of the peer ("ipv4:192.0.2.1:4711") and its authentication context.

    Raises BadPeer for a certificate whose name cannot be trusted.
    """
    kind, _, address = unquote(name).partition(":")
    if kind in ("ipv4", "ipv6"):
        host, _, port = address.rpartition(":")
        address = tcp_address(ip_address(host.strip("[]").partition("%")[0]), int(port))
    else:
        address = UNIX if kind == "unix" else ""
    encrypted = b"ssl" in auth.get("transport_security_type", ())
    return peer(address, _certificate(auth) if encrypted else None, trusted, encrypted=encrypted)


def _certificate(auth: Mapping[str, Iterable[bytes]]) -> dict[str, Any]:
    """The names in the client certificate that grpcio has verified, as the standard library would give them."""
    names = {
        kind: [value.decode("utf-8", "replace") for value in auth.get(key, ())]
        for kind, key in (("URI", "peer_uri"), ("DNS", "peer_dns"), ("commonName", "x509_common_name"))
    }
    common = [("commonName", name) for name in names.pop("commonName")]
    return {"subjectAltName": [(kind, name) for kind in names for name in names[kind]], "subject": [common]}
