"""Who is at the other end, and which of a client's claims about that are believed. Pure."""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from gateway.transport.call import PEER_ADDRESS, PEER_IDENTITY, Peer

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

UNIX: Final = "unix:"
"""The address of everyone at the other end of a Unix socket."""
FORWARDED_FOR: Final = "x-forwarded-for"
CLAIMS: Final = frozenset(
    (
        FORWARDED_FOR,
        "forwarded",
        "x-envoy-external-address",
        "x-forwarded-by",
        "x-forwarded-client-cert",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-proto",
        "x-forwarded-server",
        "x-real-ip",
    )
)
"""Metadata in which proxies say for whom they speak. From anyone else it is dropped."""
_OURS: Final = frozenset((PEER_ADDRESS, PEER_IDENTITY))
_CONTROLLED: Final = CLAIMS | _OURS
MAX_HOPS: Final = 32
"""Addresses of x-forwarded-for that are looked at, from the right."""


class BadPeer(Exception):
    """A peer that finished its TLS handshake and is not to be served; one line."""


@dataclass(frozen=True, slots=True)
class Trusted:
    """The proxies in front that are believed: `[server] trusted_proxies`."""

    networks: tuple[Network, ...] = ()
    unix: bool = False

    @classmethod
    def parse(cls, entries: Iterable[str]) -> Self:
        """Of addresses, networks such as "10.0.0.0/8", and "unix:". Raises ValueError that names the bad entry."""
        written = list(entries)
        return cls(tuple(_network(entry) for entry in written if entry != UNIX), UNIX in written)

    def __contains__(self, address: str) -> bool:
        """Whether a peer with this address (see `Peer`) is one of them."""
        if address == UNIX:
            return self.unix
        if not self.networks:
            return False
        found = parse_hop(address)
        return found is not None and self.has(found)

    def has(self, address: Address) -> bool:
        """Whether one of the networks has the address."""
        return any(address in network for network in self.networks)


NOBODY: Final = Trusted()


@dataclass(frozen=True, slots=True)
class Forwarder(Peer):
    """A trusted proxy: what it says of its clients is believed, as far as further trusted proxies reach."""

    trusted: Trusted = NOBODY


def peer(address: str, certificate: Mapping[str, Any] | None, trusted: Trusted = NOBODY, *, encrypted: bool) -> Peer:
    """The peer of a connection. `certificate`: the verified one, as `ssl.SSLSocket.getpeercert` gives it, if any.

    Raises BadPeer.
    """
    name = identity(certificate) if certificate else ""
    if address in trusted:
        return Forwarder(address, name, encrypted, trusted)
    return Peer(address, name, encrypted)


def vouch(values: dict[str, str], known: Peer) -> None:
    """Puts what the transport knows of the caller into the metadata of a call, in place of what the caller claims."""
    forwarder = known if isinstance(known, Forwarder) else None
    if not _CONTROLLED.isdisjoint(values):
        for name in _OURS if forwarder else _CONTROLLED:
            values.pop(name, None)
    values.update(known.values)
    if forwarder and (chain := values.get(FORWARDED_FOR)) and (client := forwarded_for(chain, forwarder.trusted)):
        values[PEER_ADDRESS] = client


def forwarded_for(chain: str, trusted: Trusted) -> str:
    """The client, by an x-forwarded-for that a trusted proxy has sent: its right-most address that is none of theirs.

    Each proxy appends whom it was called by, so all to the left of an address that is not trusted may be made up. Where
    there is none, the left-most address; "" where not even the right-most one can be read.
    """
    client = ""
    for hop in reversed(chain.rsplit(",", MAX_HOPS)[-MAX_HOPS:]):
        address = parse_hop(hop.strip())
        if address is None:
            break
        client = str(address)
        if not trusted.has(address):
            break
    return client


def parse_hop(text: str) -> Address | None:
    """The IP address in `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1` or `[2001:db8::1]:4711`; None: there is none."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return plain(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return None


def plain(address: Address) -> Address:
    """IPv4 as IPv4, also where a socket for both families writes it as IPv6 (::ffff:192.0.2.1)."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def tcp_address(address: Address, port: int) -> str:
    """`192.0.2.1:4711` or `[2001:db8::1]:4711`."""
    address = plain(address)
    return f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}"


def socket_address(name: object) -> str:
    """The address in what `accept` or `getpeername` says; "unix:" for a Unix socket."""
    if not isinstance(name, tuple):
        return UNIX
    host: str = name[0]
    if ":" not in host:  # IPv4 as the kernel writes it
        return f"{host}:{name[1]}"
    return tcp_address(ipaddress.ip_address(host.partition("%")[0]), name[1])


def identity(certificate: Mapping[str, Any]) -> str:
    """The first URI among the subject's alternative names (SPIFFE), else the first DNS name, else the common name.

    "" when it has none of them. Raises BadPeer for control characters: "admin\\0.example.com" may be "admin" to
    whoever reads it next (CVE-2009-2408 and its kin).
    """
    names: Sequence[tuple[str, str]] = certificate.get("subjectAltName", ())
    subject = [pair for part in certificate.get("subject", ()) for pair in part]
    wanted = [value for kind, value in names if kind == "URI"]
    wanted += [value for kind, value in names if kind == "DNS"]
    wanted += [value for kind, value in subject if kind == "commonName"]
    found = next((value for value in wanted if value), "")
    if not found.isprintable():
        raise BadPeer("the name in the client's certificate has control characters")
    return found


def _network(entry: str) -> Network:
    try:
        return ipaddress.ip_network(entry)
    except ValueError:
        pass
    try:
        why = f"{entry!r} has bits beyond its mask, write {ipaddress.ip_network(entry, strict=False)}"
    except ValueError:
        why = f"{entry!r} is none of them"
    raise ValueError(f"must be addresses, networks such as 10.0.0.0/8, or unix:; {why}")
