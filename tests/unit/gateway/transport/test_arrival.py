import asyncio
import ssl
from typing import Any

import pytest

from gateway.transport.arrival import PLAIN, Arrival, Door, Guest, introduce
from gateway.transport.call import Peer
from gateway.transport.peers import BadPeer, Forwarder, Trusted

TLS = Door(tls=lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))


class Channel:
    """What an SSLObject says."""

    def __init__(
        self, protocol: str | None = "h2", certificate: dict[str, Any] | None = None, broken: str = ""
    ) -> None:
        self._protocol, self._certificate, self._broken = protocol, certificate, broken

    def selected_alpn_protocol(self) -> str | None:
        return self._protocol

    def getpeercert(self) -> dict[str, Any] | None:
        if self._broken:
            raise ValueError(self._broken)
        return self._certificate


class Wire(asyncio.Transport):
    """A transport with an SSLObject, or without."""

    def __init__(self, channel: Channel | None = None) -> None:
        super().__init__({"ssl_object": channel})


class Visitor(Guest):
    """Notes that it was cut."""

    was_cut = False

    @property
    def greeted(self) -> bool:
        return True

    def cut(self) -> None:
        self.was_cut = True


def test_a_connection_in_clear_is_known_by_its_address() -> None:
    assert introduce(Arrival(PLAIN, "192.0.2.1:1", 0.0), Wire()) == Peer("192.0.2.1:1")
    trusting = Door(trusted=Trusted.parse(["192.0.2.0/24"]))
    assert isinstance(introduce(Arrival(trusting, "192.0.2.1:1", 0.0), Wire()), Forwarder)


def test_one_over_tls_by_its_certificate_too() -> None:
    arrival = Arrival(TLS, "192.0.2.1:1", 0.0)
    assert introduce(arrival, Wire(Channel())) == Peer("192.0.2.1:1", "", True)
    named = Channel(
        certificate={"subjectAltName": (("DNS", "worker.example"),), "notAfter": "Nov 20 00:00:00 2999 GMT"}
    )
    assert introduce(arrival, Wire(named)) == Peer("192.0.2.1:1", "worker.example", True)


@pytest.mark.parametrize(
    ("channel", "why"),
    [
        (Channel(None), "did not negotiate h2"),
        (Channel("http/1.1"), "did not negotiate h2"),
        (Channel(broken="not UTF-8"), "cannot be read: not UTF-8"),
        (Channel(certificate={"subjectAltName": (("DNS", "a\0b"),)}), "control characters"),
        (Channel(certificate={"notAfter": "Nov 20 00:00:00 2020 GMT"}), "has expired"),
    ],
)
def test_whom_a_connection_is_not_for(channel: Channel, why: str) -> None:
    with pytest.raises(BadPeer, match=why):
        introduce(Arrival(TLS, "192.0.2.1:1", 0.0), Wire(channel))


async def test_it_is_cut_wherever_it_is() -> None:
    arrival, visitor = Arrival(PLAIN, "192.0.2.1:1", 0.0), Visitor()
    arrival.cut()  # nothing has begun
    arrival.task = task = asyncio.get_running_loop().create_task(asyncio.Event().wait())  # type: ignore[assignment] # result unused
    arrival.guest = visitor
    arrival.cut()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not visitor.was_cut
    arrival.met = True
    arrival.cut()
    assert visitor.was_cut
