"""Durations and sizes as people write them: a number and its unit, always both. Pure."""

import re
from decimal import Decimal
from typing import Final

SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
LONGEST_S: Final = 24 * 3600.0
"""More is a slip of the pen, and no timer takes any number."""
BYTES: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_WRITTEN: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]+)\s*")


def duration_s(written: object) -> float:
    """Seconds of "250ms", "20s", "1.5m", "1h". Raises ValueError that names the units or the longest one."""
    number, unit = _parse(written, SECONDS, "20s")
    seconds = number * SECONDS[unit]
    if seconds > LONGEST_S:
        raise ValueError("must be at most 24h")
    return seconds


def size_bytes(written: object) -> int:
    """Bytes of "512B", "64KiB", "4MiB", "1GiB". Raises ValueError that names the units."""
    number, unit = _parse(written, BYTES, "64MiB")
    return int(number * BYTES[unit])


def written_duration(seconds: float) -> str:
    """A duration as `duration_s` reads it, in the largest unit that gives a whole number: `20s`, `250ms`, `1.5s`."""
    for unit, scale in sorted(SECONDS.items(), key=lambda item: -item[1]):
        number = round(seconds / scale)
        if number and number * scale == seconds:
            return f"{number}{unit}"
    return f"{Decimal(repr(seconds)):f}s" if seconds else "0s"


def written_size(size: int) -> str:
    """A size as `size_bytes` reads it, in the largest unit that gives a whole number: `4MiB`, `1000B`."""
    unit, scale = max((item for item in BYTES.items() if size % item[1] == 0), key=lambda item: item[1])
    return f"{size // scale}{unit}"


def _parse(written: object, units: dict[str, float] | dict[str, int], example: str) -> tuple[float, str]:
    found = _WRITTEN.fullmatch(written) if isinstance(written, str) else None
    if not found or found[2] not in units:
        raise ValueError(f'must be a number with one of the units {", ".join(units)}, such as "{example}"')
    return float(found[1]), found[2]
