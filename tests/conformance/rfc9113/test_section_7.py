"""RFC 9113 section 7: error codes."""

import pytest

from gateway.transport.h2.errors import ErrorCode
from gateway.transport.h2.frames import FrameType, frame
from tests.conformance.rfc9113.expect import alive, served
from tests.unit.gateway.transport.h2.peer import Peer, data, message, reset

UNKNOWN = [0xE, 0xFF, 2**32 - 1]


@pytest.mark.parametrize("code", UNKNOWN)
def test_an_unknown_code_in_goaway_means_nothing_special(code: int) -> None:
    """Section 7: a call that is arriving is served as after any GOAWAY. h2spec: http2/7/1."""
    peer = Peer()
    peer.send(peer.headers(1))
    answer = peer.send(frame(FrameType.GOAWAY, 0, 0, bytes(4) + code.to_bytes(4, "big")))
    assert [(item.kind, item.code) for item in answer] == [(FrameType.GOAWAY, ErrorCode.NO_ERROR)]
    alive(peer)
    served(peer, 1, peer.send(data(1, message(b"hello"))))


@pytest.mark.parametrize("code", UNKNOWN)
def test_an_unknown_code_in_rst_stream_means_nothing_special(code: int) -> None:
    """Section 7: it cancels. h2spec: http2/7/2."""
    peer = Peer()
    call = peer.keep(1)
    assert peer.send(reset(1, code)) == []
    assert call.closed
    alive(peer)


def test_the_codes_are_those_of_the_rfc() -> None:
    """Section 7: their numbers."""
    names = (
        "NO_ERROR PROTOCOL_ERROR INTERNAL_ERROR FLOW_CONTROL_ERROR SETTINGS_TIMEOUT STREAM_CLOSED FRAME_SIZE_ERROR "
        "REFUSED_STREAM CANCEL COMPRESSION_ERROR CONNECT_ERROR ENHANCE_YOUR_CALM INADEQUATE_SECURITY HTTP_1_1_REQUIRED"
    )
    assert [code.name for code in sorted(ErrorCode)] == names.split()
    assert [*sorted(ErrorCode)] == [*range(14)]
