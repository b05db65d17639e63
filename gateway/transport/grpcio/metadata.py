"""Metadata as grpcio has it, and as services have it. Pure."""

import base64
import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import unquote

from gateway.transport.call import PEER_ADDRESS, PEER_IDENTITY, UNKNOWN_PEER, Peer, Trailers

Pairs = tuple[tuple[str, str | bytes], ...]

MAX_STATUS_MESSAGE: Final = 2048
"""Characters of a status message, as in `gateway.transport.h2.grpc`."""
_legal_key = re.compile(r"[0-9a-z_.-]+").fullmatch
"""grpc doc/PROTOCOL-HTTP2.md, "Header-Name"; grpcio would end the call with an exception of its own."""


def values(pairs: Iterable[tuple[str, str | bytes]], peer: Peer = UNKNOWN_PEER) -> dict[str, str]:
    """`Metadata.values` of what grpcio received: repeated keys joined, "-bin" values as base64 again."""
    found: dict[str, str] = {}
    for key, value in pairs:
        text = value if isinstance(value, str) else _text(key, value)
        if key in found:
            glue = "; " if key == "cookie" else ","
            found[key] = f"{found[key]}{glue}{text}"
        else:
            found[key] = text
    for key in (PEER_ADDRESS, PEER_IDENTITY):
        found.pop(key, None)
    found.update(peer.values)
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
    """A status message as it may be sent: valid UTF-8, cut at MAX_STATUS_MESSAGE characters."""
    return message[:MAX_STATUS_MESSAGE].encode("utf-8", "replace").decode()


def peer_of(name: str, auth: Mapping[str, Iterable[bytes]]) -> Peer:
    """Who calls, from grpcio's peer name ("ipv4:192.0.2.1:4711") and authentication context."""
    kind, _, address = unquote(name).partition(":")
    if kind in ("unix", "unix-abstract"):
        address = "unix:"
    elif kind not in ("ipv4", "ipv6"):
        address = ""
    encrypted = b"ssl" in auth.get("transport_security_type", ())
    return Peer(address, identity(auth) if encrypted else "", encrypted)


def identity(auth: Mapping[str, Iterable[bytes]]) -> str:
    """The identity in a client certificate that grpcio has verified: first URI, else DNS name, else common name."""
    for key in ("x509_uri", "x509_dns", "x509_common_name"):
        for value in auth.get(key, ()):
            if value:
                return value.decode("utf-8", "replace")
    return ""
