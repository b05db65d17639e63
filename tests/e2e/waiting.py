"""Waiting for what must come true."""

import time
from collections.abc import Callable


def eventually(check: Callable[[], bool], limit_s: float = 30) -> None:
    """Returns once the check holds; fails the test when it does not in time."""
    until = time.monotonic() + limit_s
    while not check():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)
