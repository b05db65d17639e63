"""How much CPU production leaves: of the machine, of the container and of this proxy's only thread."""

import os
from contextlib import suppress
from pathlib import Path
from time import monotonic, thread_time
from typing import Final, NamedTuple

from gateway.dataplane.pressure import Sample

STALE_S: Final = 1.0
"""Sums over a longer time say little of now."""
_HERTZ: Final = os.sysconf("SC_CLK_TCK")
_LINE_BYTES: Final = 256
_NICE, _IDLE, _DISK = 2, 4, 5
"""Fields of a `cpuN` line of /proc/stat: at work for the low-priority, without work, waiting for a disk."""


class _Counters(NamedTuple):
    """Sums since the start, as they were at `at_s`; None: this system does not tell."""

    at_s: float
    ran_s: float
    lines: list[bytes]
    free_s: float | None
    stops: int | None


class Cores:
    """For the thread that looks. What a system does not tell is left out, and nothing fails."""

    def __init__(self, proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> None:
        self._stat = str(proc / "stat")
        self._stat_bytes = _LINE_BYTES * ((os.cpu_count() or 1) + 1)
        self._group = _group(proc / "self" / "cgroup", groups)
        self._cores = {b"cpu%d" % core for core in os.sched_getaffinity(0)}
        # The workers of shadows count as nice. When the whole gateway is, they cannot be told from production.
        nice = os.getpriority(os.PRIO_PROCESS, 0) > 0
        self._free = (_IDLE, _DISK) if nice else (_NICE, _IDLE, _DISK)
        self._last: _Counters | None = None

    def look(self, *, queued: bool) -> Sample | None:
        """What happened since the last look; None when that is too long ago, or there was none."""
        lines = self._lines()
        last, now = self._last, _Counters(monotonic(), thread_time(), lines, self._free_s(lines), self._stops())
        self._last = now
        if last is None or not 0 < (spent_s := now.at_s - last.at_s) <= STALE_S:
            return None
        return Sample(
            _free_cores(last, now, spent_s),
            len(self._cores),
            (now.ran_s - last.ran_s) / spent_s,
            queued,
            now.stops is not None and last.stops is not None and now.stops > last.stops,
        )

    def _lines(self) -> list[bytes]:
        """What is told of each core that this process may use.

        Nothing where one is missing: containers may number cores otherwise than the kernel does (lxcfs).
        """
        found = []
        with suppress(OSError):
            for line in _read(self._stat, self._stat_bytes).splitlines():
                if not line.startswith(b"cpu"):
                    break
                if line.split(maxsplit=1)[0] in self._cores:
                    found.append(line)
        return found if len(found) == len(self._cores) else []

    def _free_s(self, lines: list[bytes]) -> float | None:
        """Time that was free on these cores."""
        if not lines:
            return None
        with suppress(ValueError, IndexError):
            told = [line.split(maxsplit=_DISK + 1) for line in lines]
            return sum([int(fields[field]) for fields in told for field in self._free]) / _HERTZ
        return None

    def _stops(self) -> int | None:
        """How often the container's processes were stopped because they had used up what they may."""
        if self._group is not None:
            with suppress(OSError, ValueError):
                return _times_throttled(_read(self._group, _LINE_BYTES * 16))
        return None


def _free_cores(last: _Counters, now: _Counters, spent_s: float) -> float | None:
    """None: not told. A core is always at something, so where no number changes they mean nothing (gVisor)."""
    if now.free_s is None or last.free_s is None or now.lines == last.lines:
        return None
    # Linux may take back some of what it counted as waiting for a disk.
    return max(0.0, now.free_s - last.free_s) / spent_s


def _read(path: str, limit_bytes: int) -> bytes:
    """The beginning of a small file, without the objects of Python's own files: this happens between requests."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, limit_bytes)
    finally:
        os.close(fd)


def _group(listing: Path, groups: Path) -> str | None:
    """The cpu.stat of the control group of this process, version 2 or 1, if it counts stops."""
    with suppress(OSError, ValueError):
        for line in listing.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or "cpu" in controllers.split(","):
                stat = groups / controllers / path.lstrip("/") / "cpu.stat"
                if stat.is_file() and _times_throttled(stat.read_bytes()) is not None:
                    return str(stat)
    return None


def _times_throttled(text: bytes) -> int | None:
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith(b"nr_throttled ")), None)
