import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.transport.call import PEER_ADDRESS, PEER_IDENTITY, Metadata, Peer, Trailers
from gateway.transport.grpcio.metadata import MAX_STATUS_MESSAGE, pairs, peer_of, status_text, values
from gateway.transport.h2 import grpc
from gateway.transport.peers import BadPeer, Trusted


def test_repeated_keys_are_joined() -> None:
    found = values([("a", "1"), ("b", ""), ("a", "2"), ("cookie", "x=1"), ("cookie", "y=2")])
    assert found == {"a": "1,2", "b": "", "cookie": "x=1; y=2"}


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=4))
def test_binary_values_are_base64_again(blobs: list[bytes]) -> None:
    found = values([("k-bin", blob) for blob in blobs])
    assert Metadata("/x", found, None, None).binary("k-bin") == blobs
    assert "=" not in found["k-bin"]


def test_text_that_is_not_utf8_is_latin1() -> None:
    assert values([("a", "ü".encode()), ("b", b"\xfc")]) == {"a": "ü", "b": "ü"}


def test_who_calls_is_the_transports_word() -> None:
    claimed = [(PEER_ADDRESS, "192.0.2.9:1"), (PEER_IDENTITY, "root"), ("x-forwarded-for", "192.0.2.9"), ("x", "y")]
    assert values(claimed) == {"x": "y"}
    assert values(claimed, Peer("192.0.2.1:2")) == {"x": "y", PEER_ADDRESS: "192.0.2.1:2"}


def test_pairs_are_what_grpcio_encodes() -> None:
    made = pairs(Trailers(("a", "v"), ("blob-bin", b"\x00\xff"), ("text-bin", "AP8,AA")))
    assert made == (("a", "v"), ("blob-bin", b"\x00\xff"), ("text-bin", b"\x00\xff"), ("text-bin", b"\x00"))


@given(st.binary(max_size=30))
def test_base64_in_a_trailer_is_the_same_bytes_with_and_without_padding(blob: bytes) -> None:
    for text in (base64.b64encode(blob).decode(), base64.b64encode(blob).rstrip(b"=").decode()):
        assert pairs(Trailers(("k-bin", text))) == (("k-bin", blob),)


@pytest.mark.parametrize("pair", [("Upper", "v"), ("sp ace", "v"), ("", "v"), ("k", "größer"), ("k", b"\xff")])
def test_what_cannot_be_metadata_is_an_error_here(pair: tuple[str, str | bytes]) -> None:
    with pytest.raises(ValueError, match=r"metadata key|not ASCII|codec"):
        pairs(Trailers(pair))


def test_a_status_message_is_cut_as_by_the_other_transport() -> None:
    assert MAX_STATUS_MESSAGE == grpc.MAX_STATUS_MESSAGE
    assert status_text("x" + "ü" * 5000) == "x" + "ü" * 1023
    assert status_text("a\udc80b") == "a?b"


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("ipv4:192.0.2.1:4711", "192.0.2.1:4711"),
        ("ipv6:%5B2001:db8::1%5D:4711", "[2001:db8::1]:4711"),
        ("unix:", "unix:"),
        ("unix:/run/x", "unix:"),
        ("ipv6:%5B::ffff:192.0.2.1%5D:4711", "192.0.2.1:4711"),
        ("vsock:2:3", ""),
        ("", ""),
    ],
)
def test_the_callers_address(name: str, address: str) -> None:
    assert peer_of(name, {}) == Peer(address)


def test_the_callers_identity() -> None:
    auth = {"transport_security_type": [b"ssl"], "x509_common_name": [b"cn"], "peer_dns": [b"a.example", b"b.example"]}
    assert peer_of("ipv4:192.0.2.1:1", auth) == Peer("192.0.2.1:1", "a.example", encrypted=True)
    assert peer_of("unix:", {**auth, "peer_uri": [b"spiffe://x/y"]}).identity == "spiffe://x/y"
    assert peer_of("unix:", {"transport_security_type": [b"ssl"]}) == Peer("unix:", "", encrypted=True)
    assert peer_of("unix:", {**auth, "transport_security_type": [b"insecure"]}) == Peer("unix:")
    with pytest.raises(BadPeer):
        peer_of("unix:", {**auth, "peer_dns": [b"admin\0.example"]})


def test_a_trusted_proxy_may_say_for_whom_it_calls() -> None:
    proxy = peer_of("ipv4:192.0.2.1:1", {}, Trusted.parse(["192.0.2.1"]))
    assert values([("x-forwarded-for", "198.51.100.7")], proxy)[PEER_ADDRESS] == "198.51.100.7"
