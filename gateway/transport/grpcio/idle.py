"""How long nothing has happened on a stream: one timer that is set again only when it has run out."""

import asyncio
from collections.abc import Callable
from time import monotonic


class Idle:
    """Calls `on_idle` once, when `touch` was not called for `timeout_s`."""

    __slots__ = ("_on_idle", "_timeout_s", "_timer", "_touched_s")

    def __init__(self, timeout_s: float, on_idle: Callable[[], None]) -> None:
        self._timeout_s = timeout_s
        self._on_idle = on_idle
        self._touched_s = monotonic()
        self._timer = asyncio.get_running_loop().call_later(timeout_s, self._look)

    def touch(self) -> None:
        """Something happened."""
        self._touched_s = monotonic()

    def stop(self) -> None:
        """`on_idle` is not called any more."""
        self._timer.cancel()

    def _look(self) -> None:
        left_s = self._touched_s + self._timeout_s - monotonic()
        if left_s > 0.0:
            self._timer = asyncio.get_running_loop().call_later(left_s, self._look)
        else:
            self._on_idle()
