"""One connection on its way in: through which door it came, whose it is, and who serves it."""

import asyncio
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.transport.call import Peer
from gateway.transport.peers import NOBODY, BadPeer, Trusted, peer

ALPN: Final = "h2"
"""The one protocol spoken over TLS (RFC 9113 section 3.2)."""


@dataclass(frozen=True, slots=True)
class Door:
    """How connections come in through one listening socket."""

    tls: Callable[[], ssl.SSLContext] | None = None
    """What to end TLS with, asked for each connection; None: cleartext."""
    proxy_protocol: bool = False
    """Each connection begins with a PROXY header."""
    trusted: Trusted = NOBODY


PLAIN: Final = Door()


class Guest(asyncio.Protocol, ABC):
    """Serves one connection."""

    @property
    @abstractmethod
    def greeted(self) -> bool:
        """The peer has introduced itself."""

    @abstractmethod
    def cut(self) -> None:
        """Ends the connection at once."""


class Arrival:
    """One connection, from accept until it is gone."""

    __slots__ = ("accepted_s", "address", "door", "gone", "guest", "met", "task")

    def __init__(self, door: Door, address: str, accepted_s: float) -> None:
        self.door = door
        self.address = address
        """The peer's, or the one a PROXY header gave; see `gateway.transport.call.Peer`."""
        self.accepted_s = accepted_s
        self.guest: Guest | None = None
        self.met = False
        """The guest has its connection, and will say when it is gone."""
        self.gone = False
        self.task: asyncio.Task[None] | None = None

    def cut(self) -> None:
        """Ends the connection, however far it has come."""
        if self.met and self.guest is not None:
            self.guest.cut()
        elif self.task is not None:
            self.task.cancel()


def introduce(arrival: Arrival, transport: asyncio.BaseTransport) -> Peer:
    """Who a connection is from, once it is handed over. Raises BadPeer for whom it is not for."""
    trusted = arrival.door.trusted
    tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object") if arrival.door.tls else None
    if tls is None:
        return peer(arrival.address, None, trusted, encrypted=False)
    if tls.selected_alpn_protocol() != ALPN:
        raise BadPeer("the client did not negotiate h2")
    try:
        certificate = tls.getpeercert()
    except ValueError as error:
        raise BadPeer(f"the client's certificate cannot be read: {error}") from None
    # Where a session is resumed (see `tls.load`), nobody has looked at the dates again.
    ends = certificate.get("notAfter") if certificate else None
    if ends is not None and ssl.cert_time_to_seconds(str(ends)) < time.time():
        raise BadPeer("the client's certificate has expired")
    return peer(arrival.address, certificate, trusted, encrypted=True)
