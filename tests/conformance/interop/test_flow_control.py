"""Flow control, which the interop descriptions only announce: who is too fast is held back, and loses nothing."""

from gateway.transport.h2.frames import window_update
from tests.conformance.interop.client import asking
from tests.conformance.interop.conftest import Interop
from tests.conformance.interop.wire import WIDE_BYTES, WINDOW_BYTES, Wire, message

REPLY_BYTES = 30_000
ASK = message(asking(REPLY_BYTES, body_bytes=10_000).SerializeToString())
MOST_BYTES = 64 << 20
"""Whoever may send that much without reading is not held back."""


def narrow(server: Interop) -> Wire:
    """A client that takes little at a time on a stream, but as much as comes on the connection: others pass."""
    wire = Wire(server.connect(), WINDOW_BYTES)
    wire.write(window_update(0, WIDE_BYTES))
    return wire


def has_seen_all(wire: Wire) -> bool:
    """Waits until the server has seen all we sent: it answers a call that came later."""
    return wire.call("EmptyCall", b"").status == 0


def test_pushback_at_client(server: Interop) -> None:
    """A client that asks and does not read may ask no more; once it reads, all is answered."""
    with narrow(server) as wire:
        stream_id = wire.start("FullDuplexCall")
        asked = 0
        while wire.room_bytes(stream_id) >= len(ASK) or (has_seen_all(wire) and wire.room_bytes(stream_id) >= len(ASK)):
            wire.send(stream_id, ASK, end=False)
            asked += 1
            assert asked * len(ASK) < MOST_BYTES
        wire.open_window(stream_id, WIDE_BYTES)
        wire.send(stream_id, ASK)
        reply = wire.reply(stream_id)
    assert reply.status == 0
    assert {len(body) >= REPLY_BYTES for _, body in reply.messages} == {True}
    assert len(reply.messages) == asked + 1


def test_pushback_at_server(server: Interop) -> None:
    """A server sends no more than its peer takes, however much was asked, and answers others meanwhile."""
    with narrow(server) as wire:
        stream_id = wire.start("StreamingOutputCall")
        wire.send(stream_id, message(asking(*[REPLY_BYTES] * 50).SerializeToString()))
        reply = wire.replies[stream_id]
        for opened in range(1, 20):
            while len(reply.data) < opened * WINDOW_BYTES:
                wire.read()
            assert has_seen_all(wire)
            assert len(reply.data) == opened * WINDOW_BYTES
            wire.open_window(stream_id, WINDOW_BYTES)
        wire.open_window(stream_id, WIDE_BYTES)
        assert len(wire.reply(stream_id).messages) == 50
