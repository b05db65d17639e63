import ipaddress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.transport.call import PEER_ADDRESS, PEER_IDENTITY, UNKNOWN_PEER, Peer
from gateway.transport.peers import (
    CLAIMS,
    MAX_HOPS,
    NOBODY,
    BadPeer,
    Forwarder,
    Trusted,
    forwarded_for,
    identity,
    parse_hop,
    peer,
    socket_address,
    vouch,
)

TRUSTED = Trusted.parse(["10.0.0.0/8", "2001:db8::/32", "unix:"])


def certificate(common_name: str = "", **names: str) -> dict[str, Any]:
    """As `getpeercert` gives it."""
    subject = ((("countryName", "CH"),), (("commonName", common_name),)) if common_name else ()
    return {"subject": subject, "subjectAltName": tuple(names.items())}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (certificate("worker"), "worker"),
        (certificate("worker", DNS="worker.example"), "worker.example"),
        (certificate("worker", DNS="worker.example", URI="spiffe://example/worker"), "spiffe://example/worker"),
        ({"subjectAltName": (("DNS", "a.example"), ("DNS", "b.example"))}, "a.example"),
        (certificate("worker", URI=""), "worker"),
        (certificate(email="x@example"), ""),
        ({}, ""),
    ],
)
def test_identity_is_the_uri_else_the_dns_name_else_the_common_name(given: dict[str, Any], expected: str) -> None:
    assert identity(given) == expected


@pytest.mark.parametrize("name", ["admin\0.example", "a\nb", "a\r\nb", "\x7f"])
def test_names_with_control_characters_are_refused(name: str) -> None:
    for bad in (certificate(name), certificate(DNS=name), certificate("fine", URI=name)):
        with pytest.raises(BadPeer, match="control characters"):
            identity(bad)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        (("192.0.2.1", 4711), "192.0.2.1:4711"),
        (("2001:db8::1", 4711, 0, 0), "[2001:db8::1]:4711"),
        (("::ffff:192.0.2.1", 4711, 0, 0), "192.0.2.1:4711"),
        (("fe80::1%eth0", 4711, 0, 2), "[fe80::1]:4711"),
        ("", "unix:"),
        (b"\0abstract", "unix:"),
    ],
)
def test_addresses_of_sockets(name: object, address: str) -> None:
    assert socket_address(name) == address


def test_a_peer_of_a_trusted_address_is_a_forwarder() -> None:
    assert peer("192.0.2.1:1", certificate("worker"), TRUSTED, encrypted=True) == Peer("192.0.2.1:1", "worker", True)
    assert type(peer("192.0.2.1:1", None, TRUSTED, encrypted=True)) is Peer
    for address in ("10.1.2.3:1", "[2001:db8::1]:1", "unix:"):
        assert peer(address, None, TRUSTED, encrypted=False) == Forwarder(address, "", False, TRUSTED)
        assert type(peer(address, None, NOBODY, encrypted=False)) is Peer


@pytest.mark.parametrize(
    ("entry", "advice"),
    [
        ("10.0.0.1/8", "beyond its mask, write 10.0.0.0/8"),
        ("example.com", "'example.com' is none of them"),
        ("", "'' is none of them"),
        ("unix", "or unix:; 'unix' is none of them"),
    ],
)
def test_what_is_no_network_is_refused_with_advice(entry: str, advice: str) -> None:
    with pytest.raises(ValueError, match=advice):
        Trusted.parse([entry])


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:4711", "192.0.2.1"),
        ("198.51.100.7, 192.0.2.1", "192.0.2.1"),
        ("192.0.2.1, 10.0.0.1, 10.0.0.2", "192.0.2.1"),
        ("10.0.0.1,10.0.0.2", "10.0.0.1"),
        ("[2001:db9::1]:4711, [2001:db8::1]:1", "2001:db9::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("unknown", ""),
        ("192.0.2.1, unknown, 10.0.0.1", "10.0.0.1"),
        (",", ""),
    ],
)
def test_the_client_is_the_right_most_address_that_is_not_trusted(chain: str, client: str) -> None:
    assert forwarded_for(chain, TRUSTED) == client


def test_endless_chains_are_read_to_a_bound() -> None:
    assert forwarded_for("192.0.2.1," + "10.0.0.1," * 5000 + "10.0.0.2", TRUSTED) == "10.0.0.1"
    assert forwarded_for("192.0.2.1," + ",".join(["10.0.0.1"] * (MAX_HOPS - 1)), TRUSTED) == "192.0.2.1"


def test_what_clients_claim_is_dropped() -> None:
    claimed = dict.fromkeys([*CLAIMS, PEER_ADDRESS, PEER_IDENTITY], "10.0.0.1")
    values = {"x-user-id": "u", **claimed}
    vouch(values, Peer("192.0.2.1:4711", "worker"))
    assert values == {"x-user-id": "u", PEER_ADDRESS: "192.0.2.1:4711", PEER_IDENTITY: "worker"}
    values = {"x-user-id": "u", **claimed}
    vouch(values, UNKNOWN_PEER)
    assert values == {"x-user-id": "u"}


def test_what_trusted_proxies_say_is_believed() -> None:
    values = {"x-forwarded-for": "203.0.113.9, 192.0.2.1", "x-forwarded-proto": "https", PEER_IDENTITY: "me"}
    vouch(values, Forwarder("10.0.0.1:1", trusted=TRUSTED))
    assert values == {
        "x-forwarded-for": "203.0.113.9, 192.0.2.1",
        "x-forwarded-proto": "https",
        PEER_ADDRESS: "192.0.2.1",
    }
    for silent in ({}, {"x-forwarded-for": "unknown"}, {"x-forwarded-for": ""}):
        said: dict[str, str] = dict(silent)
        vouch(said, Forwarder("10.0.0.1:1", "proxy", trusted=TRUSTED))
        assert said == {**silent, PEER_ADDRESS: "10.0.0.1:1", PEER_IDENTITY: "proxy"}


HOPS = st.one_of(
    st.ip_addresses().map(str), st.sampled_from(["10.0.0.1", "10.9.9.9:80", "[2001:db8::5]:1", "unknown", "", "a b"])
)


@given(st.lists(HOPS, max_size=8), st.lists(HOPS, min_size=1, max_size=8))
@settings(max_examples=100)
def test_nobody_can_make_up_what_stands_to_his_right(made_up: list[str], real: list[str]) -> None:
    """What a client wrote stands to the left of what proxies append: it never changes who an outsider to them is."""
    outsider = next(
        (hop for hop in reversed(real) if (found := parse_hop(hop)) is None or not TRUSTED.has(found)), None
    )
    if outsider is not None:
        assert forwarded_for(",".join([*made_up, *real]), TRUSTED) == forwarded_for(",".join(real), TRUSTED)


@given(st.text(max_size=100))
@settings(max_examples=100)
def test_any_chain_gives_an_address_or_nothing(chain: str) -> None:
    client = forwarded_for(chain, TRUSTED)
    if client:
        ipaddress.ip_address(client)


@given(st.dictionaries(st.sampled_from([*CLAIMS, PEER_ADDRESS, PEER_IDENTITY, "x-user-id"]), st.text(max_size=20)))
@settings(max_examples=100)
def test_the_transports_word_is_the_last(values: dict[str, str]) -> None:
    known = Peer("192.0.2.1:4711")
    user = values.get("x-user-id")
    vouch(values, known)
    assert values == {**({"x-user-id": user} if user is not None else {}), PEER_ADDRESS: "192.0.2.1:4711"}
