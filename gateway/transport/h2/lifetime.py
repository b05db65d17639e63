"""How long a connection may live: without calls, with calls, and with calls after it was told to go (gRFC A9)."""

from enum import StrEnum
from typing import Final

from gateway.transport.h2.limits import Limits

JITTER: Final = 0.1
"""Share of `max_age_s` by which connections differ, so that those opened together do not come back together (A9)."""


class Verdict(StrEnum):
    """What is to become of a connection. The texts are the debug data of its GOAWAY."""

    STAYS = ""
    IDLE = "max_idle"
    """To be closed gracefully."""
    OLD = "max_age"
    """To be closed gracefully."""
    OVERDUE = "max_age_grace"
    """To be closed now."""


class Lifetime:
    """The age of one connection. Each verdict but STAYS falls once."""

    __slots__ = ("_age_s", "_idle_s", "_limits", "_max_age_s", "_opened", "_said", "_waited_s")

    def __init__(self, limits: Limits, luck: float = 0.5) -> None:
        """`luck`: a random number from 0 to 1, which decides on the jitter."""
        self._limits = limits
        self._max_age_s = limits.max_age_s * (1 + JITTER * (2 * luck - 1))
        self._age_s = 0.0
        self._idle_s = 0.0
        self._waited_s = 0.0
        self._opened = 0
        self._said = Verdict.STAYS

    def look(self, elapsed_s: float, *, idle: bool, opened: int) -> Verdict:
        """What is due. `idle`: no call is under way; `opened`: streams since the connection began."""
        said = self._said
        if said in (Verdict.STAYS, Verdict.IDLE):
            verdict = self._judge(elapsed_s, idle=idle, opened=opened)
            late = verdict == Verdict.OLD and not idle  # a call came while the goodbye was on its way
            if said == Verdict.STAYS or late:
                self._said = verdict
                return verdict
        if said == Verdict.OLD and self._limits.max_age_grace_s:
            self._waited_s += elapsed_s
            if self._waited_s > self._limits.max_age_grace_s:
                self._said = Verdict.OVERDUE
                return Verdict.OVERDUE
        return Verdict.STAYS

    def _judge(self, elapsed_s: float, *, idle: bool, opened: int) -> Verdict:
        self._age_s += elapsed_s
        self._idle_s = self._idle_s + elapsed_s if idle and opened == self._opened else 0.0
        self._opened = opened
        if 0.0 < self._max_age_s < self._age_s:
            return Verdict.OLD
        if 0.0 < self._limits.idle_timeout_s < self._idle_s:
            return Verdict.IDLE
        return Verdict.STAYS
