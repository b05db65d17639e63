"""How much memory this process holds, and a limit to it."""

import resource
from pathlib import Path
from typing import Final, NamedTuple

_STATM: Final = Path("/proc/self/statm")


class Memory(NamedTuple):
    """Bytes that are this process's own: without files it has mapped and without what it shares with others."""

    held: int
    """In use."""
    reserved: int
    """Held or promised: what the kernel counts against RLIMIT_DATA."""


def memory() -> Memory:
    """What this process has now (/proc/PID/statm)."""
    _, resident, shared, _, _, data, _ = map(int, _STATM.read_bytes().split())
    page = resource.getpagesize()
    return Memory((resident - shared) * page, data * page)


def limit(max_bytes: int | None) -> bool:
    """Lets one allocation fail that would take this process far beyond `max_bytes`, as an error of who asked for it.

    That is an eighth beyond: up to there a process that grows does not fail, it is found by the control process and
    replaced. What is promised by now but was never used does not count. False: it holds more already. None: no limit.
    """
    if max_bytes is None:
        return True
    now = memory()
    if now.held > max_bytes:
        return False
    most = max_bytes + max_bytes // 8 + max(0, now.reserved - now.held)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    return True
