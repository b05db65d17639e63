"""PINGs that find out whether the other side is there: ours (gRFC A9), and how many of a client's we bear (A8)."""

import math
from typing import Final

from gateway.transport.h2.errors import ConnectionFault, ErrorCode, Flood
from gateway.transport.h2.limits import Limits

KEEPALIVE_PING: Final = b"alive???"
"""Payload of our PING; whatever bytes follow are answer enough."""
TOO_MANY_PINGS: Final = "too_many_pings"
"""Debug data of the GOAWAY; clients that read it double their keepalive time (gRFC A8). Never change it."""


class Keepalive:
    """Asks a peer that has fallen silent whether it is there."""

    __slots__ = ("_asked", "_limits", "_silent_s")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._silent_s = 0.0
        """Since the last byte, or since we asked."""
        self._asked = False

    def look(self, elapsed_s: float, *, heard: bool) -> bool:
        """Whether to send a PING now; `heard`: any bytes came since the last look.

        Raises ConnectionFault when the peer has not answered one in time.
        """
        limits = self._limits
        if heard or not limits.keepalive_time_s:
            self._asked, self._silent_s = False, 0.0
            return False
        self._silent_s += elapsed_s
        if self._asked:
            if self._silent_s > limits.keepalive_timeout_s:
                raise ConnectionFault(ErrorCode.NO_ERROR, "keepalive timeout", reason="keepalive")
            return False
        if self._silent_s <= limits.keepalive_time_s:
            return False
        self._asked, self._silent_s = True, 0.0
        return True


class Strikes:
    """Counts a client's PINGs that come too soon, by grpc-core's rule: time runs from the last one, good or bad.

    A client may always ask once after it was sent something: that is how clients measure the bandwidth.
    """

    __slots__ = ("_last_s", "_limits", "_sent", "_strikes")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._last_s = -math.inf
        self._sent = 0
        self._strikes = 0

    def ping(self, now_s: float, sent: int, *, idle: bool) -> None:
        """One PING at `now_s`. Raises Flood when it is one too many.

        `sent`: a number that grows whenever HEADERS or DATA are sent. `idle`: no call is under way.
        """
        limits = self._limits
        if sent != self._sent:
            self._sent, self._strikes, self._last_s = sent, 0, -math.inf
        soon = now_s < self._last_s + (limits.min_idle_ping_interval_s if idle else limits.min_ping_interval_s)
        self._last_s = now_s
        self._strikes += soon
        if soon and self._strikes > limits.max_ping_strikes:
            raise Flood("pings", TOO_MANY_PINGS)
