"""Where and when a bench ran."""

import platform
from datetime import UTC, datetime
from pathlib import Path


def machine() -> str:
    """Date, processors and interpreter, in one line."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processors = f"{len(names)} × {names[0] if names else platform.machine()}"
    interpreter = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{datetime.now(UTC):%Y-%m-%d}, {processors}, {interpreter}"
