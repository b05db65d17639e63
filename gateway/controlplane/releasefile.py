"""Declarations of releases as TOML files. Pure.

A file says all there is: what it leaves out, the release has not. Only buckets, and the salt that spreads units over
them, are the gateway's to choose.
"""

import tomllib
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, Field, StrictInt, StrictStr, ValidationError

from gateway.controlplane import toml
from gateway.controlplane.commands import Declared, Hold
from gateway.controlplane.explain import explain
from gateway.controlplane.names import LARGEST_VERSION
from gateway.controlplane.units import duration_s, written_duration
from gateway.controlplane.written import Section, Units
from gateway.errors import InvalidRequest
from gateway.routing.snapshot import BUCKETS, Rule

_HUNDREDTHS: Final = 100


def _basis_points(written: object) -> int:
    """Of "percent = 10" or "percent = 0.25"."""
    if not isinstance(written, int | Decimal) or isinstance(written, bool):
        raise ValueError("must be a number")
    points = Decimal(written) * _HUNDREDTHS
    if not points.is_finite() or points != points.to_integral_value() or not 1 <= points <= BUCKETS:
        raise ValueError("must be 0.01 to 100 in steps of 0.01")
    return int(points)


def _rate(written: object) -> float:
    if not isinstance(written, int | Decimal) or isinstance(written, bool):
        raise ValueError("must be a number")
    if not (Decimal(written).is_finite() and 0 < float(written) <= 1):
        raise ValueError("must be above 0 and at most 1")
    return float(written)


def _milliseconds(written: object) -> int:
    milliseconds = duration_s(written) * 1_000
    if round(milliseconds) < 1 or abs(milliseconds - round(milliseconds)) > 1e-6:
        raise ValueError("must be in whole milliseconds, and at least one")
    return round(milliseconds)


VersionNumber = Annotated[StrictInt, Field(ge=1, le=LARGEST_VERSION)]
Text = Annotated[StrictStr, Field(min_length=1)]
Percent = Annotated[int, BeforeValidator(_basis_points)]


class CanaryTable(Section):
    """[[canaries]]"""

    version: VersionNumber
    percent: Percent


class ShadowTable(Section):
    """[[shadows]]"""

    version: VersionNumber
    rate: Annotated[float, BeforeValidator(_rate)] = 1.0


class HoldoutTable(Section):
    """[holdout]"""

    version: VersionNumber | None = None
    percent: Percent


class RuleTable(Section):
    """[[rules]]"""

    key: Text
    values: list[str]
    arm: Text


class ReleaseFile(Section):
    """The whole file."""

    model: Text
    stable: VersionNumber
    standby: VersionNumber | None = None
    timeout: Annotated[int, BeforeValidator(_milliseconds)] = 0
    salt: str = ""
    canaries: list[CanaryTable] = Field(default_factory=list)
    shadows: list[ShadowTable] = Field(default_factory=list)
    holdout: HoldoutTable | None = None
    rules: list[RuleTable] = Field(default_factory=list)
    assignment: Units | None = None
    overrides: dict[str, str] = Field(default_factory=dict)


_TABLES: Final[dict[str, type[BaseModel]]] = {
    "canaries": CanaryTable,
    "shadows": ShadowTable,
    "holdout": HoldoutTable,
    "rules": RuleTable,
    "assignment": Units,
}


def read(text: str) -> tuple[str, Declared]:
    """The model a file speaks of, and what it is to be. Raises InvalidRequest: the first mistake, and where it is."""
    try:
        found = ReleaseFile.model_validate(tomllib.loads(text, parse_float=Decimal))
    except tomllib.TOMLDecodeError as error:
        raise InvalidRequest(f"not valid TOML: {error}") from None
    except ValidationError as error:
        # A key that is misspelt is missed, too.
        mistakes = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
        raise InvalidRequest(_mistake(mistakes[0])) from None
    held = found.holdout
    return found.model, Declared(
        stable=found.stable,
        canaries=_by_version(((one.version, one.percent) for one in found.canaries), "canaries"),
        shadows=_by_version(((one.version, one.rate) for one in found.shadows), "shadows"),
        standby=found.standby,
        salt=found.salt,
        holdout=Hold(held.percent, held.version or 0) if held else None,
        rules=tuple(Rule(rule.key.lower(), tuple(rule.values), rule.arm) for rule in found.rules),
        assignment=found.assignment.assignment() if found.assignment else None,
        timeout_ms=found.timeout,
        overrides=found.overrides,
    )


def write(model: str, declared: Declared) -> str:
    """The file that `read` reads back to the same."""
    return "".join(f"{line}\n" for line in _lines(model, declared))


def _lines(model: str, declared: Declared) -> Iterator[str]:
    yield f"model = {toml.text(model)}"
    yield f"stable = {declared.stable}"
    if declared.standby is not None:
        yield f"standby = {declared.standby}"
    if declared.timeout_ms:
        yield f"timeout = {toml.text(written_duration(declared.timeout_ms / 1_000))}"
    if declared.salt:
        yield f"salt = {toml.text(declared.salt)}"
    for version, share in declared.canaries.items():
        yield from ("", "[[canaries]]", f"version = {version}", f"percent = {_percent(share)}")
    for version, rate in declared.shadows.items():
        yield from ("", "[[shadows]]", f"version = {version}", f"rate = {rate}")
    if held := declared.holdout:
        version_line = [f"version = {held.version}"] if held.version else []
        yield from ("", "[holdout]", *version_line, f"percent = {_percent(held.basis_points)}")
    for rule in declared.rules:
        yield from ("", "[[rules]]", f"key = {toml.text(rule.key)}", f"values = {toml.texts(rule.values)}")
        yield f"arm = {toml.text(rule.arm)}"
    if found := declared.assignment:
        yield from ("", "[assignment]", f"unit_metadata = {toml.texts(found.unit_metadata)}")
        yield f"unit_parameters = {toml.texts(found.unit_parameters)}"
        yield f"no_unit = {toml.text(found.no_unit)}"
        yield f"allow_forced = {str(found.allow_forced).lower()}"
    if declared.overrides:
        yield from ("", "[overrides]")
        yield from (f"{toml.key(unit)} = {toml.text(arm)}" for unit, arm in sorted(declared.overrides.items()))


def _percent(basis_points: int) -> str:
    return f"{Decimal(basis_points) / _HUNDREDTHS:f}"


def _by_version(pairs: Any, what: str) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for version, value in pairs:
        if version in found:
            raise InvalidRequest(f"{what}: version {version} is named twice")
        found[version] = value
    return found


def _mistake(problem: Any) -> str:
    """With its place: `canaries.2.percent`; tables of a list are counted from 1."""
    location, given = problem["loc"], problem["input"]
    place = ".".join(str(part + 1) if isinstance(part, int) else part for part in location)
    if problem["type"] == "list_type" and place in _TABLES:
        return f"{place}: must be tables, each under [[{place}]]"
    where = _TABLES.get(str(location[0]), ReleaseFile) if len(location) > 1 else ReleaseFile
    return f"{place}: {explain(problem | {'input': float(given) if isinstance(given, Decimal) else given}, where)}"
