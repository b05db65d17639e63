"""h2load as the load generator; see `loadtests.bench.h2load`."""

from pathlib import Path
from typing import Any

from loadtests.bench import h2load
from loadtests.bench.errors import BenchError
from loadtests.bench.h2load import Load, Shape, require_h2load

__all__ = ["BenchError", "Load", "require_h2load", "run"]


def run(port: int, payload: Path, reply_bytes: int, **shape: Any) -> Load:
    """`h2load.run` with the fields of `Shape` as keywords."""
    return h2load.run(port, payload, reply_bytes, Shape(**shape))
