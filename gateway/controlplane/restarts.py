"""When a child that died is started again. Pure: `now_s` is an argument."""

from collections import deque
from typing import Final

FIRST_DELAY_S: Final = 0.1
SLOWEST_DELAY_S: Final = 10.0
HEALTHY_S: Final = 60.0
"""A child that worked this long starts with a clean slate."""
LOOP_CRASHES: Final = 5
LOOP_WINDOW_S: Final = 60.0


class Restarts:
    """Exponential backoff with a memory: 5 crashes within a minute are a crash loop, until one life lasts a minute."""

    __slots__ = ("_crashes_s", "_delay_s", "looping")

    def __init__(self) -> None:
        self.looping = False
        self._delay_s = FIRST_DELAY_S
        self._crashes_s: deque[float] = deque(maxlen=LOOP_CRASHES)

    def crashed(self, now_s: float, healthy_s: float) -> float:
        """Notes a crash after `healthy_s` seconds of service; returns the seconds to wait before the next start."""
        if healthy_s >= HEALTHY_S:
            self.recovered()
        self._crashes_s.append(now_s)
        if len(self._crashes_s) == LOOP_CRASHES and now_s - self._crashes_s[0] <= LOOP_WINDOW_S:
            self.looping = True
        if self.looping:
            return SLOWEST_DELAY_S
        delay_s = self._delay_s
        self._delay_s = min(delay_s * 2, SLOWEST_DELAY_S)
        return delay_s

    def recovered(self) -> None:
        """Forgets all crashes."""
        self.looping = False
        self._delay_s = FIRST_DELAY_S
        self._crashes_s.clear()
