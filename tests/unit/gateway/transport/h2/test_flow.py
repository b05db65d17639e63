"""What a stream is to its service; how it goes over the wire is in test_flows.py."""

import pytest

from gateway.errors import Code
from gateway.transport.call import UNKNOWN_PEER
from tests.unit.gateway.transport.h2.peer import Peer, data, message

LISTEN = (":path", "/test.Echo/Listen")


def test_a_stream_knows_its_peer_and_metadata() -> None:
    peer = Peer()
    peer.send(peer.headers(1, LISTEN, ("x-a", "1")))
    (stream,) = peer.service.streams
    assert stream.peer is UNKNOWN_PEER
    assert stream.metadata.values["x-a"] == "1"
    assert stream.arrived_s == peer.now_s


def test_callbacks_end_with_the_stream() -> None:
    peer = Peer()
    peer.send(peer.headers(1, LISTEN))
    (stream,) = peer.service.streams
    stream.fail(Code.ABORTED, "enough")
    peer.frames()
    peer.send(data(1, message(b"late")))
    assert peer.service.heard == []
    assert (stream.on_cancel, stream.on_writable) == (None, None)


def test_an_on_cancel_that_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def crash() -> None:
        raise RuntimeError("as ordered")

    peer = Peer()
    peer.send(peer.headers(1, LISTEN))
    peer.service.streams[0].on_cancel = crash
    peer.connection.lost()
    assert "on_cancel of /test.Echo/Listen failed" in caplog.text


def test_headers_are_sent_once() -> None:
    peer = Peer()
    peer.send(peer.headers(1, LISTEN))
    (stream,) = peer.service.streams
    stream.send_headers()
    stream.send_headers()
    assert len(peer.frames()) == 1
