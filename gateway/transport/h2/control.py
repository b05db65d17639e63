"""Frames about the connection rather than a request (RFC 9113 section 6).

SETTINGS, PING, GOAWAY, WINDOW_UPDATE, PRIORITY.
"""

from typing import Final

from gateway.transport.h2 import settings
from gateway.transport.h2.errors import ConnectionFault, ErrorCode, StreamFault
from gateway.transport.h2.frames import ACK, STREAM_ID_MASK, WORD, FrameType, expect_size, frame
from gateway.transport.h2.keepalive import Strikes
from gateway.transport.h2.limits import Limits
from gateway.transport.h2.requests import Requests
from gateway.transport.h2.sending import Sender
from gateway.transport.h2.settings import Setting
from gateway.transport.h2.streams import FRAMES_PER_PRIORITY

DRAIN_PING: Final = b"draining"
"""Payload of the PING whose answer says that the peer has seen our first GOAWAY."""

_SETTINGS_ACK: Final = frame(FrameType.SETTINGS, ACK, 0)


class Control:
    """What the peer said about the connection."""

    __slots__ = ("_limits", "_requests", "_sender", "_strikes", "settled")

    def __init__(self, requests: Requests, sender: Sender, limits: Limits) -> None:
        self._limits = limits
        self._strikes = Strikes(limits)
        self._requests = requests
        self._sender = sender
        self.settled = False
        """The peer's first SETTINGS frame has arrived."""

    def settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        """SETTINGS (section 6.5): applied in order, then acknowledged."""
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"SETTINGS on stream {stream_id}")
        if flags & ACK:
            expect_size(FrameType.SETTINGS, 0, len(payload))
            return
        sender, requests = self._sender, self._requests
        for identifier, value in settings.parse(payload, self._limits.max_settings):
            if identifier == Setting.INITIAL_WINDOW_SIZE:
                requests.chat(sender.set_initial_window(value))
            elif identifier == Setting.MAX_FRAME_SIZE:
                sender.set_max_frame(value)
            elif identifier == Setting.HEADER_TABLE_SIZE:
                sender.set_header_table(value)
        self.settled = True
        sender.control(_SETTINGS_ACK)

    def ping(self, flags: int, stream_id: int, payload: bytes) -> bool:
        """PING (section 6.7); whether it is the answer to our DRAIN_PING: the peer has seen our first GOAWAY.

        Raises Flood when the client asks too often.
        """
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"PING on stream {stream_id}")
        expect_size(FrameType.PING, 8, len(payload))
        if flags & ACK:
            return payload == DRAIN_PING
        self._count_ping()
        self._sender.control(frame(FrameType.PING, ACK, 0, payload))
        return False

    def _count_ping(self) -> None:
        """Raises Flood when the client asks too often. Calls that have ended were sent HEADERS: they void strikes."""
        requests = self._requests
        live = self._limits.max_streams - requests.room
        sent = self._sender.sent_bytes + requests.streams.opened - live
        self._strikes.ping(requests.now_s, sent, idle=not live)

    def goaway(self, stream_id: int, size: int) -> None:
        """GOAWAY (section 6.8): calls in flight are finished. Its last stream id is about streams we never open."""
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"GOAWAY on stream {stream_id}")
        if size < 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"GOAWAY of {size} bytes, must be 8 or more")

    def window_update(self, stream_id: int, data: bytes, start: int, end: int) -> None:
        """WINDOW_UPDATE (section 6.9)."""
        expect_size(FrameType.WINDOW_UPDATE, 4, end - start)
        increment_bytes = WORD.unpack_from(data, start)[0] & STREAM_ID_MASK
        if not stream_id:
            if not increment_bytes:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
            self._sender.credit_connection(increment_bytes)
            return
        if not self._requests.is_live(stream_id):
            if self._requests.streams.is_idle(stream_id):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"WINDOW_UPDATE on idle stream {stream_id}")
        elif not increment_bytes:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
        else:
            self._sender.credit_stream(stream_id, increment_bytes)

    def priority(self, stream_id: int, size: int) -> None:
        """PRIORITY (section 6.3) means nothing any more, but its form is checked."""
        if not stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PRIORITY on stream 0")
        self._requests.chat(FRAMES_PER_PRIORITY - 1)
        if size == 5:
            return
        text = f"PRIORITY of {size} bytes, must be 5"
        if self._requests.is_live(stream_id):
            raise StreamFault(ErrorCode.FRAME_SIZE_ERROR, text)
        # A stream that is not live cannot be reset.
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, text)
