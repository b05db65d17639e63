"""How long a peer may take: one look at each connection per sweep, instead of a timer per stream.

Time is what passed between looks, so that a process that was stopped for a while does not make everybody late.
"""

from collections.abc import Iterable
from typing import Final

from gateway.transport.h2.errors import Flood
from gateway.transport.h2.frames import HEADER, HEADER_BYTES, STREAM_ID_MASK, FrameType, frame
from gateway.transport.h2.keepalive import KEEPALIVE_PING, Keepalive
from gateway.transport.h2.limits import Limits
from gateway.transport.h2.requests import Requests
from gateway.transport.h2.sending import Sender
from gateway.transport.h2.stall import Stall
from gateway.transport.h2.vigil import Vigil

NO_STREAM: Final = -1


class Patience:
    """Looks after the timeouts of one connection."""

    __slots__ = (
        "_heard_s",
        "_keepalive",
        "_limits",
        "_replies",
        "_requests",
        "_rest_bytes",
        "_sender",
        "_uploads",
        "_vigils",
        "_written",
        "frame_s",
    )

    def __init__(self, limits: Limits, requests: Requests, sender: Sender) -> None:
        self.frame_s = 0.0
        """How long the incomplete frame has been incomplete; to be set to 0 when one begins."""
        self._limits = limits
        self._requests = requests
        self._sender = sender
        self._uploads: dict[int, Stall] = {}
        self._replies: dict[int, Stall] = {}
        self._vigils: dict[int, Vigil] = {}
        self._written: Stall | None = None
        self._heard_s = 0.0
        self._rest_bytes = 0
        self._keepalive = Keepalive(limits)

    def look(self, elapsed_s: float, now_s: float, buffered_bytes: int, rest: bytearray, *, idle: bool) -> None:
        """Gives up late streams, and asks a silent peer whether it is there.

        `elapsed_s` since the last look, at `now_s`; `buffered_bytes` in front of the socket, `rest`: the incomplete
        frame. Raises ConnectionFault when the connection is to be closed.
        """
        limits = self._limits
        if not idle or rest or buffered_bytes or self._requests.open_block is not None:
            self._look_at_frame(elapsed_s, rest)
            for stream_id in list(self._requests.opened):
                self._requests.promote(stream_id)  # its body has not come at once: it counts from now on
            if limits.upload_timeout_s:
                self._look_at_uploads(elapsed_s, rest)
            if limits.write_timeout_s:
                self._look_at_replies(elapsed_s, buffered_bytes)
            self._look_at_streams(elapsed_s, now_s)
        else:
            self._written = None
        if len(rest) != self._rest_bytes:
            self._sender.account.change(len(rest) - self._rest_bytes)
            self._rest_bytes = len(rest)
        if self._keepalive.look(elapsed_s, heard=self._requests.now_s != self._heard_s):
            self._sender.control(frame(FrameType.PING, 0, 0, KEEPALIVE_PING))
        self._heard_s = self._requests.now_s

    def end(self) -> None:
        """The connection is over."""
        self._sender.account.change(-self._rest_bytes)
        self._rest_bytes = 0

    def _look_at_frame(self, elapsed_s: float, rest: bytearray) -> None:
        limits, block = self._limits, self._requests.open_block
        if block is not None:
            block.waited_s += elapsed_s
            if block.waited_s > limits.header_timeout_s:
                raise Flood("header_timeout", "header block did not end in time")
        if not rest:
            return
        self.frame_s += elapsed_s
        limit_s = limits.header_timeout_s
        if _data_stream(rest) != NO_STREAM:
            limit_s = limits.upload_timeout_s and limits.upload_timeout_s + len(rest) / limits.min_bytes_per_s
        if 0.0 < limit_s < self.frame_s:
            raise Flood("header_timeout", "frame did not end in time")

    def _look_at_uploads(self, elapsed_s: float, rest: bytearray) -> None:
        requests, limits = self._requests, self._limits
        uploads = requests.intake.uploads
        stalls = self._uploads = _kept(self._uploads, uploads)
        partial = _data_stream(rest)
        late = []
        for stream_id, upload in uploads.items():
            if upload.waiting:  # for us
                continue
            seen_bytes = upload.received_bytes + (len(rest) if stream_id == partial else 0)
            stall = stalls.get(stream_id)
            if stall is None:
                stall = stalls[stream_id] = Stall(0)
            if stall.look(elapsed_s, seen_bytes, limits.min_bytes_per_s) > limits.upload_timeout_s:
                late.append(stream_id)
        for stream_id in late:
            requests.give_up(stream_id)

    def _look_at_streams(self, elapsed_s: float, now_s: float) -> None:
        requests = self._requests
        live = requests.flows.live
        vigils = self._vigils = {stream_id: self._vigils.get(stream_id) or Vigil() for stream_id in live}
        for flow in [flow for flow in live.values() if not flow.closed]:
            vigils[flow.stream_id].look(flow, elapsed_s, now_s, self._limits, requests.counters)

    def _look_at_replies(self, elapsed_s: float, buffered_bytes: int) -> None:
        sender, limits = self._sender, self._limits
        blocked = sender.blocked
        stalls = self._replies = _kept(self._replies, blocked)
        late = []
        for stream_id, reply in blocked.items():
            stall = stalls.get(stream_id)
            if stall is None:
                stall = stalls[stream_id] = Stall(reply.sent_bytes)
            if stall.look(elapsed_s, reply.sent_bytes, limits.min_bytes_per_s) > limits.write_timeout_s:
                late.append(stream_id)
        for stream_id in late:
            self._requests.drop_reply(stream_id)
        if not buffered_bytes and not sender.shut_out:
            self._written = None
            return
        written_bytes = sender.sent_bytes - buffered_bytes
        if self._written is None:
            self._written = Stall(written_bytes)
        if self._written.look(elapsed_s, written_bytes, limits.min_bytes_per_s) > limits.write_timeout_s:
            raise Flood("write_timeout", "the peer does not read")


def _data_stream(rest: bytearray) -> int:
    """The stream of the incomplete frame if it is a DATA frame, else NO_STREAM."""
    if len(rest) < HEADER_BYTES:
        return NO_STREAM
    word, _, stream_id = HEADER.unpack_from(rest)
    return stream_id & STREAM_ID_MASK if word & 0xFF == FrameType.DATA else NO_STREAM


def _kept(stalls: dict[int, Stall], live: Iterable[int]) -> dict[int, Stall]:
    return {stream_id: stalls[stream_id] for stream_id in live if stream_id in stalls} if stalls else stalls
