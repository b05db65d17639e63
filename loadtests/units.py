"""Quantities as people write them: "5ms", "30s", "200/s", "0.1%". A number without its unit is refused."""

import re

_NUMBER_AND_UNIT = re.compile(r"(\d+(?:\.\d+)?)\s*([^\d\s].*)?")
_SECONDS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}
_PER_SECOND = {"/s": 1.0, "/min": 1 / 60, "/h": 1 / 3600}


class UnitError(ValueError):
    """The text is not a quantity of the wanted kind; one line that says what would be."""


def duration_s(text: object) -> float:
    """Seconds in `"250us"`, `"5ms"`, `"30s"`, `"2min"` or `"1h"`."""
    return _quantity(text, _SECONDS, 'a duration such as "5ms" or "30s"')


def rate_per_s(text: object) -> float:
    """Events per second in `"200/s"`, `"6000/min"` or `"1000/h"`."""
    return _quantity(text, _PER_SECOND, 'a rate such as "200/s"')


def fraction(text: object) -> float:
    """The part of one in `"0.1%"`; at most 100 %."""
    found = _quantity(text, {"%": 0.01}, 'a percentage such as "0.1%"')
    if found > 1.0:
        raise UnitError(f"{text!r} is more than 100%")
    return found


def _quantity(text: object, units: dict[str, float], wanted: str) -> float:
    match = _NUMBER_AND_UNIT.fullmatch(text.strip()) if isinstance(text, str) else None
    scale = units.get((match[2] or "").strip()) if match else None
    if match is None or scale is None:
        raise UnitError(f"{text!r} is not {wanted}")
    return float(match[1]) * scale


def format_us(value_us: float | None) -> str:
    """A duration for people, three significant digits: `830 µs`, `4.21 ms`, `1.20 s`; None is `no answer`."""
    if value_us is None:
        return "no answer"
    if value_us < 1e3:
        return f"{value_us:.0f} µs"
    scaled, unit = (value_us / 1e3, "ms") if value_us < 1e6 else (value_us / 1e6, "s")
    return f"{scaled:.{2 if scaled < 10 else 1 if scaled < 100 else 0}f} {unit}"


def format_rate(per_s: float) -> str:
    """A rate for people: `199.8/s`, `12,400/s`."""
    return f"{per_s:,.0f}/s" if per_s >= 1000 else f"{per_s:.4g}/s"


def format_percent(part: float) -> str:
    """A fraction for people: `0%`, `0.025%`, `12.5%`, `100%`."""
    return f"{100 * part:.4g}%"
