"""What gives versions that are not stable more requests: refused while a release is paused. Pure."""

from collections.abc import Iterator

from gateway.errors import Refusal, Refused
from gateway.routing.snapshot import STABLE, Policy, Release, arm_versions


def check(release: Release, after: Policy) -> None:
    """Raises Refused when a paused release would expose more than it does.

    What a version gets because another one loses it counts for nothing.
    """
    for grown in _grown(release.policy, after):
        said = f"{release.model} is paused, and {grown}; resume it first"
        raise Refused(said, Refusal.PAUSED)


def _grown(before: Policy, after: Policy) -> Iterator[str]:
    """In words, each thing that gives a version that was not stable more."""
    if after.stable != before.stable:
        yield f"version {after.stable} would become stable"
    had = {canary.version: canary.basis_points for canary in before.canaries}
    for canary in after.canaries:
        if canary.basis_points > had.get(canary.version, 0):
            yield f"version {canary.version} would answer more users"
    rates = {shadow.version: shadow.rate for shadow in before.shadows}
    for shadow in after.shadows:
        if shadow.rate > rates.get(shadow.version, 0):
            yield f"version {shadow.version} would get more copies"
    held = before.holdout.basis_points if before.holdout else 0
    if after.holdout and after.holdout.version != before.stable and after.holdout.basis_points > held:
        yield f"version {after.holdout.version} would hold out more users"
    divided = after.canaries or (after.holdout and after.holdout.version != before.stable)
    if divided and after.assignment != before.assignment:
        yield "units would be found in another way, and so be spread anew"
    yield from _sent(before, after)


def _sent(before: Policy, after: Policy) -> Iterator[str]:
    """By overrides and rules, to another version than before and than the stable one."""
    was, arms = arm_versions(before), arm_versions(after) | {STABLE: before.stable}
    for rule in after.rules:
        had = rule in before.rules and was[rule.arm] == arms[rule.arm]
        if not had and arms[rule.arm] != before.stable:
            yield f"a rule would send more requests to {rule.arm}"
    for unit, arm in after.overrides.items():
        if arms[arm] not in (before.stable, was.get(before.overrides.get(unit, ""))):
            yield f"unit {unit!r} would be sent to {arm}"
