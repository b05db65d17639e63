"""Which stream is in which state (RFC 9113 section 5.1), with little memory of those that are closed."""

import math
from collections import deque
from typing import Final

from gateway.transport.h2.errors import ConnectionFault, ErrorCode, Flood, StreamFault

REMEMBERED: Final = 1024
"""Reset streams remembered; frames on older ones are treated as frames on finished ones."""
REMEMBERED_GAPS: Final = 64
SMALL_BYTES: Final = 128
"""DATA frames below this that do not end a request are chatter, and window growth below this is dribble."""
FRAMES_PER_STREAM: Final = 8
"""Chatter that comes with a call: clients send WINDOW_UPDATE and PING for what they receive."""
FRAMES_PER_DATA: Final = 3
"""The same for each DATA frame of a reply that had to wait for windows: at most two WINDOW_UPDATE and a PING."""
FRAMES_PER_PRIORITY: Final = 8
"""What a PRIORITY frame counts for: gRPC clients send none, and nginx takes 128 at once, too."""


class Streams:
    """Stream ids seen so far. Live streams are kept by those who serve them; this knows the rest.

    Every id below `next_id` was used or skipped. Only resets are remembered one by one: after END_STREAM nothing may
    come (section 5.1, "closed"), whereas frames may still be on their way when we reset a stream.
    """

    __slots__ = ("_gaps", "_reset", "_skipped", "next_id")

    def __init__(self) -> None:
        self.next_id = 1
        """The lowest id a new stream may have."""
        self._gaps: deque[range] = deque(maxlen=REMEMBERED_GAPS)
        self._reset: dict[int, bool] = {}
        self._skipped = 0

    @property
    def opened(self) -> int:
        """Streams opened since the connection began."""
        return self.next_id // 2 - self._skipped

    @property
    def last_id(self) -> int:
        """The highest id a client has used; 0 when none."""
        return max(0, self.next_id - 2)

    def open(self, stream_id: int) -> None:
        """A new stream; lower ids are closed now. Raises ConnectionFault PROTOCOL_ERROR for an even id (5.1.1)."""
        if stream_id % 2 == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"client opened stream {stream_id}, which is even")
        if stream_id != self.next_id:
            gap = range(self.next_id, stream_id, 2)
            self._gaps.append(gap)
            self._skipped += len(gap)
        self.next_id = stream_id + 2

    def remember_reset(self, stream_id: int, *, by_us: bool) -> None:
        """A stream ended by RST_STREAM."""
        self._reset[stream_id] = by_us
        if len(self._reset) > REMEMBERED:
            del self._reset[next(iter(self._reset))]

    def is_idle(self, stream_id: int) -> bool:
        """Never used; ids of the server count, because a gRPC server opens no streams."""
        return stream_id >= self.next_id or stream_id % 2 == 0

    def meet_closed(self, stream_id: int, what: str) -> None:
        """DATA or HEADERS arrived on a stream that is idle or closed. Returns if it is to be discarded: we reset it.

        Raises StreamFault STREAM_CLOSED after a reset by the peer, ConnectionFault otherwise (section 5.1).
        """
        if self.is_idle(stream_id):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"{what} on idle stream {stream_id}")
        by_us = self._reset.get(stream_id)
        if by_us is None:
            raise ConnectionFault(ErrorCode.STREAM_CLOSED, f"{what} on closed stream {stream_id}")
        if not by_us:
            raise StreamFault(ErrorCode.STREAM_CLOSED, f"{what} on stream {stream_id} after its RST_STREAM")

    def meet_reused(self, stream_id: int) -> None:
        """HEADERS arrived with a lower id that is not live: as `meet_closed`, but a skipped id was never a stream."""
        if any(stream_id in gap for gap in self._gaps):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"stream {stream_id} opened after a higher one")
        self.meet_closed(stream_id, "HEADERS")


class ResetBudget:
    """A token bucket against streams that are opened only to be reset (CVE-2023-44487, CVE-2025-8671).

    Besides time, opened streams fill it, one for every two: a client that hedges its calls and cancels the losers never
    empties it, one that resets what it opens does.
    """

    __slots__ = ("_burst", "_opened", "_per_s", "_seen_s", "_tokens")

    def __init__(self, burst: int, per_s: float) -> None:
        self._burst = self._tokens = float(burst)
        self._per_s = per_s
        self._seen_s = 0.0
        self._opened = 0

    def spend(self, now_s: float, opened: int) -> None:
        """One reset; `opened` counts streams since the connection began. Raises Flood."""
        earned = (now_s - self._seen_s) * self._per_s + (opened - self._opened) / 2
        self._tokens = min(self._burst, self._tokens + earned) - 1
        self._seen_s = now_s
        self._opened = opened
        if self._tokens < 0:
            raise Flood("resets", "too many reset streams")


class Chatter:
    """A token bucket against frames that cost work and bring no request on.

    PING, SETTINGS, PRIORITY, WINDOW_UPDATE, unknown types, frames on closed streams, DATA of less than SMALL_BYTES
    (CVE-2019-9511 to 9518). Besides time, opened streams and sent DATA frames fill it, because windows are opened for
    those. Who spends takes from `left`, and calls `refill` when that falls below 0.
    """

    __slots__ = ("_burst", "_opened", "_per_s", "_seen_s", "_sent", "left")

    def __init__(self, burst: int, per_s: float) -> None:
        self.left = 0
        self._burst = burst
        self._per_s = per_s
        self._seen_s = -math.inf
        self._opened = 0
        self._sent = 0

    def refill(self, now_s: float, opened: int, sent: int) -> None:
        """Adds what was earned; `opened` and `sent` count streams and DATA frames since the beginning. Raises Flood."""
        earned = (now_s - self._seen_s) * self._per_s
        earned += (opened - self._opened) * FRAMES_PER_STREAM + (sent - self._sent) * FRAMES_PER_DATA
        self._seen_s, self._opened, self._sent = now_s, opened, sent
        self.left = int(min(self._burst, self.left + earned))
        if self.left < 0:
            raise Flood("chatter", "too many frames that bring no request on")
