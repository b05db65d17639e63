"""Numbers and releases in words, the same everywhere. Pure."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from gateway.controlplane.commands import Declared
from gateway.controlplane.units import written_duration
from gateway.routing.snapshot import (
    HOLDOUT,
    SHADOW,
    STABLE,
    STANDBY,
    Assignment,
    Canary,
    Holdout,
    Policy,
    Range,
    Rule,
    Shadow,
)
from protos import admin_pb2 as pb

EACH = 8
"""Up to so many proxies are shown one by one."""


def milliseconds(value_ms: float) -> str:
    """Three digits that matter: `0.412 ms`, `12.3 ms`, `1.5 s`."""
    if value_ms >= 1000:
        return f"{value_ms / 1000:.3g} s" if value_ms < 1e6 else f"{value_ms / 1000:.0f} s"
    return f"{value_ms:.3g} ms"


def percent(basis_points: int) -> str:
    """Hundredths of a percent: `10 %`, `0.05 %`."""
    return f"{basis_points / 100:g} %"


def rate(value: float) -> str:
    """A share of 1 as a percentage: `100 %`, `2.5 %`."""
    return f"{value * 100:.6g} %"


def share(part: int, whole: int) -> str:
    """`part` of `whole`, never rounded up to all of it; `-` of nothing."""
    if not whole:
        return "-"
    return "100 %" if part == whole else f"{min(part / whole * 100, 99.99):.2f} %"


def difference(value: float) -> str:
    """A difference between two answers."""
    return f"{value:.3g}"


def count(value: int) -> str:
    """`12,345`."""
    return f"{value:,}"


def age(then: datetime, now: datetime) -> str:
    """How long ago, in one unit."""
    seconds = max(0, int((now - then).total_seconds()))
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def counted(value: int, what: str) -> str:
    """`1 restart`, `2 restarts`."""
    return f"{count(value)} {what}" if value == 1 else f"{count(value)} {what}s"


def proxies(found: Collection[pb.Proxy]) -> str:
    """`proxies 2/2, connections 31 + 33, in flight 4 + 0, requests 1,200 + 1,310`; of many: sum, least and most."""
    up = sum(one.up for one in found)
    numbers = {
        "connections": [one.connections for one in found],
        "in flight": [one.in_flight for one in found],
        "requests": [one.requests for one in found],
    }
    return ", ".join([f"proxies {up}/{len(found)}", *(f"{name} {_each(values)}" for name, values in numbers.items())])


def _each(values: list[int]) -> str:
    if len(values) <= EACH:
        return " + ".join(map(count, values))
    return f"{count(sum(values))} ({count(min(values))} to {count(max(values))} each)"


def roles(found: Mapping[str, str]) -> str:
    """Roles by model: `owner`, `viewer, operator of digits`."""
    said = {model: role.lower() for model, role in sorted(found.items())}
    return line(", ".join(role if model == "*" else f"{role} of {model}" for model, role in said.items()))


def line(text: str) -> str:
    """Text of others on one line and without control characters: it goes to a terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


def to_policy(message: pb.Policy, overrides: Mapping[str, str] | None = None) -> Policy:
    """The policy a message speaks of; it says how many overrides there are, but not which."""
    held, found = message.holdout, message.assignment
    return Policy(
        stable=message.stable_version,
        canaries=tuple(Canary(canary.version, _ranges(canary.ranges)) for canary in message.canaries),
        shadows=tuple(Shadow(shadow.version, shadow.rate) for shadow in message.shadows),
        standby=message.standby_version or None,
        salt=message.salt,
        overrides=dict(overrides or {}),
        holdout=Holdout(held.version, _ranges(held.ranges), held.salt) if message.HasField("holdout") else None,
        rules=tuple(Rule(rule.key, tuple(rule.values), rule.arm) for rule in message.rules),
        assignment=Assignment(
            tuple(found.unit_metadata), tuple(found.unit_parameters), found.no_unit, found.allow_forced
        )
        if message.HasField("assignment")
        else None,
        timeout_ms=message.timeout_ms,
    )


def to_message(wanted: Declared) -> pb.Policy:
    """The policy that asks for what is declared; overrides go a way of their own."""
    held, found = wanted.holdout, wanted.assignment
    return pb.Policy(
        stable_version=wanted.stable,
        canaries=[pb.Canary(version=one, basis_points=share) for one, share in wanted.canaries.items()],
        shadows=[pb.Shadow(version=one, rate=part) for one, part in wanted.shadows.items()],
        standby_version=wanted.standby or 0,
        salt=wanted.salt,
        holdout=pb.Holdout(version=held.version, basis_points=held.basis_points) if held else None,
        rules=[pb.Rule(key=rule.key, values=rule.values, arm=rule.arm) for rule in wanted.rules],
        assignment=pb.Assignment(
            unit_metadata=found.unit_metadata,
            unit_parameters=found.unit_parameters,
            no_unit=found.no_unit,
            allow_forced=found.allow_forced,
        )
        if found
        else None,
        timeout_ms=wanted.timeout_ms,
    )


def _ranges(found: Iterable[pb.BucketRange]) -> tuple[Range, ...]:
    return tuple(Range(owned.start, owned.end) for owned in found)


def describe(policy: Policy, overrides: int = 0) -> str:
    """`stable 1, canary 2 (10 %), shadow 3 (100 %), standby 4, holdout 1 (5 %), 5 overrides, 1 rule, timeout 250ms`.

    Whatever a change can change is in it, so that two revisions do not look the same.
    """
    said = [f"{STABLE} {policy.stable}", *candidates(policy)]
    if policy.standby is not None:
        said.append(f"{STANDBY} {policy.standby}")
    if policy.holdout is not None:
        said.append(f"{HOLDOUT} {policy.holdout.version} ({percent(policy.holdout.basis_points)})")
    if overrides:
        said.append(counted(overrides, "override"))
    if policy.rules:
        said.append(counted(len(policy.rules), "rule"))
    return ", ".join([*said, *requests(policy)])


def requests(policy: Policy) -> list[str]:
    """What a policy says of requests themselves: `units by x-tenant, tenant`, `timeout 250ms`."""
    said = []
    if (found := policy.assignment) is not None:
        said.append(f"units by {', '.join((*found.unit_metadata, *found.unit_parameters)) or 'nothing'}")
    if policy.timeout_ms:
        said.append(f"timeout {written_duration(policy.timeout_ms / 1000)}")
    return said


def release(message: pb.Release) -> str:
    """A release's policy, and whether it is paused."""
    said = describe(to_policy(message.policy), message.policy.override_count)
    return f"{said}, paused" if message.paused else said


def candidates(policy: Policy) -> list[str]:
    """Each canary and shadow: `canary 2 (10 %)`, `shadow 3 (100 %)`."""
    said = [f"canary {canary.version} ({percent(canary.basis_points)})" for canary in policy.canaries]
    return said + [f"{SHADOW} {shadow.version} ({rate(shadow.rate)})" for shadow in policy.shadows]
