"""How long a streaming call may take: until its deadline, without a word either way, over one of its messages."""

from gateway.errors import Code
from gateway.transport.h2.flow import H2Stream
from gateway.transport.h2.limits import Counters, Limits
from gateway.transport.h2.stall import Stall


class Vigil:
    """Looks after one stream."""

    __slots__ = ("_idle_s", "_message_bytes", "_moved_bytes", "_stall")

    def __init__(self) -> None:
        self._idle_s = 0.0
        self._moved_bytes = 0
        self._stall: Stall | None = None
        self._message_bytes = 0
        """Where in what the peer has sent the message began that `_stall` is about."""

    def look(self, flow: H2Stream, elapsed_s: float, now_s: float, limits: Limits, counters: Counters) -> None:
        """Ends the stream when its time is up."""
        if now_s > flow.deadline_s:
            flow.abort(Code.DEADLINE_EXCEEDED, "deadline exceeded")
        elif self._is_late(flow, elapsed_s, limits):
            counters.upload_timeout += 1
            flow.abort(Code.DEADLINE_EXCEEDED, "a request message did not arrive in time; send faster")
        elif self._is_idle(flow, elapsed_s, limits):
            counters.stream_idle += 1
            text = f"nothing was sent either way for {limits.stream_idle_timeout_s:g} s"
            flow.abort(Code.UNAVAILABLE, text)

    def _is_idle(self, flow: H2Stream, elapsed_s: float, limits: Limits) -> bool:
        moved_bytes = flow.inbox.received_bytes + flow.outgoing.sent_bytes
        if moved_bytes != self._moved_bytes or flow.may_idle or not limits.stream_idle_timeout_s:
            self._moved_bytes, self._idle_s = moved_bytes, 0.0
            return False
        self._idle_s += elapsed_s
        return self._idle_s > limits.stream_idle_timeout_s

    def _is_late(self, flow: H2Stream, elapsed_s: float, limits: Limits) -> bool:
        """Whether a message that has begun makes no progress; one that waits for us, or has not begun, has time."""
        inbox = flow.inbox
        if not inbox.begun or inbox.has_message or inbox.waiting or inbox.paused or not limits.upload_timeout_s:
            self._stall = None
            return False
        began_bytes = inbox.received_bytes - inbox.begun_bytes
        if self._stall is None or began_bytes != self._message_bytes:
            self._stall, self._message_bytes = Stall(began_bytes), began_bytes
        return self._stall.look(elapsed_s, inbox.received_bytes, limits.min_bytes_per_s) > limits.upload_timeout_s
