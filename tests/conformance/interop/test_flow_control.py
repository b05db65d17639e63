"""Flow control, which the interop descriptions only announce: who is too fast is held back, and loses nothing."""

from tests.conformance.interop.client import asking
from tests.conformance.interop.conftest import Interop
from tests.conformance.interop.wire import WINDOW_BYTES, Wire, message

REPLY_BYTES = 30_000
ASK = message(asking(REPLY_BYTES, body_bytes=10_000).SerializeToString())
MOST_BYTES = 64 << 20
"""Whoever may send that much without reading is not held back."""


def test_pushback_at_client(server: Interop) -> None:
    """A client that asks and does not read may ask no more; once it reads, all is answered."""
    with Wire(server.port, WINDOW_BYTES) as wire:
        stream_id = wire.start("FullDuplexCall")
        asked = 0
        while may_ask(wire, stream_id):
            wire.send(stream_id, ASK, end=False)
            asked += 1
            assert asked * len(ASK) < MOST_BYTES
        wire.open_windows(stream_id, 1 << 30)
        wire.send(stream_id, ASK)
        reply = wire.reply(stream_id)
    assert reply.status == 0
    assert {len(body) >= REPLY_BYTES for _, body in reply.messages} == {True}
    assert len(reply.messages) == asked + 1


def may_ask(wire: Wire, stream_id: int) -> bool:
    """Whether the windows have room for one more, after the server has seen all we sent."""
    if wire.room_bytes(stream_id) >= len(ASK):
        return True
    wire.ping(b"seen all")
    seen = len(wire.pongs) + 1
    while len(wire.pongs) < seen and wire.room_bytes(stream_id) < len(ASK):
        wire.read()
    return wire.room_bytes(stream_id) >= len(ASK)


def test_pushback_at_server(server: Interop) -> None:
    """A server that sends no faster than its peer takes: nothing beyond the window, however much was asked."""
    with Wire(server.port, WINDOW_BYTES) as wire:
        stream_id = wire.start("StreamingOutputCall")
        wire.send(stream_id, message(asking(*[REPLY_BYTES] * 50).SerializeToString()))
        reply = wire.replies[stream_id]
        for opened in range(1, 20):
            while len(reply.data) < opened * WINDOW_BYTES:
                wire.read()
            wire.ping(b"no more?")
            while len(wire.pongs) < opened:
                wire.read()
            assert len(reply.data) == opened * WINDOW_BYTES
            wire.open_windows(stream_id, WINDOW_BYTES)
        wire.open_windows(stream_id, 1 << 30)
        assert len(wire.reply(stream_id).messages) == 50
