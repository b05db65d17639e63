"""Which versions a change of a policy sends more to. Pure.

What a version gets because another one loses it, or an override ends, counts for nothing: so taking requests away from
somebody is never more for anybody.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from gateway.controlplane import ranges
from gateway.routing.snapshot import Policy, arm_versions

Match = tuple[str, str, int]
"""Metadata key and value, and the version that a rule sends those to."""


class Gain(NamedTuple):
    """More for a version."""

    version: int
    by: str
    """`stable`, `canary`, `holdout`, `override`, `rule` or `shadow`."""
    of: str = ""
    """The unit of an override, the value of a rule."""


def gained(before: Policy, after: Policy) -> Iterator[Gain]:
    """Requests to answer. Buckets count, not shares: as many units but others are more."""
    if after.stable != before.stable:
        yield Gain(after.stable, "stable")
    had = {canary.version: canary.ranges for canary in before.canaries if before.salt == after.salt}
    for canary in after.canaries:
        if not ranges.within(canary.ranges, had.get(canary.version, ())):
            yield Gain(canary.version, "canary")
    kept, held = before.holdout, after.holdout
    if held:
        same = kept and (kept.version, kept.salt) == (held.version, held.salt)
        if not ranges.within(held.ranges, kept.ranges if kept and same else ()):
            yield Gain(held.version, "holdout")
    if (before.overrides, before.rules) != ({}, ()) or (after.overrides, after.rules) != ({}, ()):
        yield from _sent(before, after)


def copied(before: Policy, after: Policy) -> Iterator[Gain]:
    """Copies of requests."""
    rates = {shadow.version: shadow.rate for shadow in before.shadows}
    return (Gain(one.version, "shadow") for one in after.shadows if one.rate > rates.get(one.version, 0))


def matches(policy: Policy) -> Iterator[Match]:
    """Metadata key and value, and the version that a rule sends those to, in the order in which rules are tried."""
    arms = arm_versions(policy)
    return ((rule.key, value, arms[rule.arm]) for rule in policy.rules for value in rule.values)


def _sent(before: Policy, after: Policy) -> Iterator[Gain]:
    """By overrides and rules, to another version than before."""
    was, now = arm_versions(before), arm_versions(after)
    if after.overrides is not before.overrides or was != now:
        for unit, arm in after.overrides.items():
            if was.get(before.overrides.get(unit, "")) != now[arm]:
                yield Gain(now[arm], "override", unit)
    yield from _ruled(before, after)


def _ruled(before: Policy, after: Policy) -> Iterator[Gain]:
    """By rules that are new, or have moved up past others that are still there. If these ended, that would be no gain.

    Two for the same key and different values never meet.
    """
    places: dict[Match, int] = {}
    for number, match in enumerate(matches(before)):
        places.setdefault(match, number)
    now = list(matches(after))
    first = {(key, value): version for key, value, version in reversed(now)}
    below: dict[Match, int] = {}
    foremost: dict[tuple[str, int], int] = {}
    """By key and version: the first place that one of those below had before."""
    gains = []
    for match in reversed(dict.fromkeys(now)):
        key, value, version = match
        place = places.get(match)
        if first[key, value] == version and (place is None or _overtakes(match, place, below, foremost)):
            gains.append(Gain(version, "rule", value))
        if place is not None:
            below[match] = place
            foremost[key, version] = min(place, foremost.get((key, version), place))
    yield from reversed(gains)


def _overtakes(match: Match, place: int, below: Mapping[Match, int], foremost: Mapping[tuple[str, int], int]) -> bool:
    """Whether one that is below it now, and sends to another version, was above it before."""
    key, value, version = match
    for (other, sent), had in foremost.items():
        earlier = below.get((key, value, sent), place) if other == key else had
        if sent != version and earlier < place:
            return True
    return False
