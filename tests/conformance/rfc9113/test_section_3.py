"""RFC 9113 section 3: starting HTTP/2."""

import pytest

from gateway.transport.h2.errors import ErrorCode
from gateway.transport.h2.frames import ACK, PREFACE, FrameType, frame
from tests.conformance.rfc9113.expect import anything, connection_error, ping, served
from tests.unit.gateway.transport.h2.peer import SETTINGS_ACK, Frame, Peer, kinds, settings


def test_a_client_connection_preface_is_accepted() -> None:
    """Section 3.4. h2spec: generic/1/1."""
    peer = Peer(greet=False)
    assert Frame(FrameType.SETTINGS, ACK, 0, b"") in peer.send(PREFACE, settings())
    served(peer, 1, peer.send(SETTINGS_ACK, peer.request(1)))


def test_settings_are_the_first_frame_the_server_sends() -> None:
    """Section 3.4: the server's preface is a SETTINGS frame, and not an acknowledgement. h2spec: http2/3.5/1."""
    first = Peer(greet=False).send(PREFACE, settings())[0]
    assert (first.kind, first.flags, first.stream_id, len(first.payload) % 6) == (FrameType.SETTINGS, 0, 0, 0)


@pytest.mark.parametrize("other", [b"INVALID CONNECTION PREFACE\r\n\r\n", PREFACE[:-1] + b"!", b"\0" * 24])
def test_an_invalid_preface_ends_the_connection(other: bytes) -> None:
    """Section 3.4: a connection error, without GOAWAY because the peer may not speak HTTP/2. h2spec: http2/3.5/2."""
    peer = Peer(greet=False)
    assert peer.send(other) == []
    assert peer.connection.finished


@pytest.mark.parametrize("other", [ping(), anything(0xFA, 0, 0), SETTINGS_ACK, frame(FrameType.GOAWAY, 0, 0, bytes(8))])
def test_the_preface_must_be_followed_by_settings(other: bytes) -> None:
    """Section 3.4: the sequence must be followed by a SETTINGS frame, which may be empty."""
    connection_error(Peer(greet=False), ErrorCode.PROTOCOL_ERROR, PREFACE, other)


def test_the_clients_settings_are_acknowledged() -> None:
    """Section 3.4: the SETTINGS of the preface must be acknowledged after the server's own were sent."""
    frames = Peer(greet=False).send(PREFACE, settings(max_frame_size=20_000))
    acknowledged = [item.flags for item in frames if item.kind == FrameType.SETTINGS]
    assert acknowledged == [0, ACK]


def test_frames_may_follow_the_preface_at_once() -> None:
    """Section 3.4: clients may send more without waiting for the server's preface, and before they acknowledge it."""
    peer = Peer(greet=False)
    served(peer, 1, peer.send(PREFACE, settings(), peer.request(1)))


def test_the_preface_may_arrive_in_any_pieces() -> None:
    """Section 3.4: it is a sequence of octets, not a packet."""
    peer = Peer(greet=False)
    frames = [item for octet in PREFACE + settings() for item in peer.send(bytes([octet]))]
    assert kinds(frames)[0] == "SETTINGS"
    served(peer, 1, peer.send(peer.request(1)))


def test_an_upgrade_from_http_1_is_not_offered() -> None:
    """Section 3.1: the upgrade to h2c is gone from HTTP/2; who asks for it is told so in HTTP/1.1."""
    peer = Peer(greet=False)
    upgrade = (
        b"GET / HTTP/1.1\r\nhost: x\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: \r\n\r\n"
    )
    peer.connection.receive(upgrade, 0.0)
    assert peer.connection.output().startswith(b"HTTP/1.1 505 ")
    assert peer.connection.finished
