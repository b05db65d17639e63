"""The service-level objective a load test is judged by: a strict TOML file. `loadtests/slo.toml` is an example."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests import units

MIN_REQUESTS = 100
"""What `sample.min_requests` is when the file does not say."""

_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d{1,3})?)")
_TABLES = {"latency": None, "errors": {"max_rate"}, "throughput": {"min", "of_intended"}, "sample": {"min_requests"}}


class SloError(ValueError):
    """The file is not a service-level objective; one line that names the place and the remedy."""


@dataclass(frozen=True)
class Slo:
    """Bounds; None: not asked for."""

    latency_us: tuple[tuple[str, float], ...] = ()
    """Pairs such as ("p99", 5000.0), ("mean", ...) or ("max", ...), in the file's order."""
    max_error_rate: float | None = None
    """Failed and unsent requests as a part of all."""
    min_rate: float | None = None
    """Right answers per second."""
    min_of_intended: float | None = None
    """Right answers as a part of the requests that ought to have been sent."""
    min_requests: int = MIN_REQUESTS
    """Fewer measured requests make the verdict inconclusive."""


def load(path: Path) -> Slo:
    """Reads an SLO file. Raises SloError."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SloError(f"cannot read the SLO file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SloError(f"{path} is not TOML: {error}") from error
    try:
        return parse(data)
    except SloError as error:
        raise SloError(f"{path}: {error}") from error


def parse(data: dict[str, Any]) -> Slo:
    """The objective in a parsed TOML document. Raises SloError."""
    for name, table in data.items():
        if name not in _TABLES:
            raise SloError(f"unknown table [{name}]; known are {', '.join(f'[{known}]' for known in _TABLES)}")
        if not isinstance(table, dict):
            raise SloError(f"{name} must be a table: write [{name}] on a line of its own")
        known_keys = _TABLES[name]
        for key in table:
            if known_keys is not None and key not in known_keys:
                raise SloError(f"unknown key {name}.{key}; known are {', '.join(sorted(known_keys))}")
    slo = Slo(
        latency_us=tuple(_latency(key, value) for key, value in data.get("latency", {}).items()),
        max_error_rate=_optional(data, "errors", "max_rate", units.fraction),
        min_rate=_optional(data, "throughput", "min", units.rate_per_s),
        min_of_intended=_optional(data, "throughput", "of_intended", units.fraction),
        min_requests=_min_requests(data.get("sample", {}).get("min_requests", MIN_REQUESTS)),
    )
    if not slo.latency_us and slo.max_error_rate is None and slo.min_rate is None and slo.min_of_intended is None:
        raise SloError('no objective; write for example [latency] and p99 = "5ms"')
    return slo


def percentile(metric: str) -> float | None:
    """The fraction that `p50`, `p99.9`… stand for; None for other metrics."""
    match = _PERCENTILE.fullmatch(metric)
    return float(match[1]) / 100 if match and float(match[1]) > 0 else None


def _latency(key: str, value: object) -> tuple[str, float]:
    if isinstance(value, dict):
        inner = next(iter(value), "9")
        raise SloError(f'latency.{key}.{inner}: write the key in quotes: "{key}.{inner}" = …')
    if key not in ("mean", "max") and percentile(key) is None:
        raise SloError(f"unknown key latency.{key}; known are percentiles such as p50 or p99.9, mean and max")
    return key, _checked("latency", key, value, units.duration_s) * 1e6


def _optional(data: dict[str, Any], table: str, key: str, parse_value: Any) -> float | None:
    return _checked(table, key, data[table][key], parse_value) if key in data.get(table, {}) else None


def _checked(table: str, key: str, value: object, parse_value: Any) -> float:
    try:
        return float(parse_value(value))
    except units.UnitError as error:
        raise SloError(f"{table}.{key}: {error}") from error


def _min_requests(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SloError(f"sample.min_requests: {value!r} is not a whole number above 0")
    return value
