"""Which arm answers a unit, recomputed from a release alone, as the data plane does it. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway.routing.assignment import bucket
from gateway.routing.snapshot import HOLDOUT, STABLE, Policy, Range, arm_versions


@dataclass(frozen=True, slots=True)
class Assigned:
    """Where one unit goes. `reason` is what the reply's `cutover-reason` says.

    bucket: that of the holdout's salt where the unit is held out, else that of the policy's.
    """

    unit: str
    bucket: int
    arm: str
    version: int
    reason: str


def assign(policy: Policy, unit: str, metadata: Mapping[str, str] | None = None) -> Assigned:
    """The arm of an override of the unit, else of the first rule for the metadata, else of the unit's bucket."""
    number = bucket(policy.salt, unit)
    arm, reason = policy.overrides.get(unit, ""), "override"
    if not arm:
        arm, reason = _rule(policy, metadata or {}), "rule"
    if not arm and policy.holdout is not None:
        held = bucket(policy.holdout.salt, unit)
        if _owns(policy.holdout.ranges, held):
            number, arm, reason = held, HOLDOUT, HOLDOUT
    if not arm:
        owner = next((canary.arm for canary in policy.canaries if _owns(canary.ranges, number)), STABLE)
        arm, reason = owner, "split" if policy.canaries else STABLE
    return Assigned(unit, number, arm, arm_versions(policy)[arm], reason)


def _rule(policy: Policy, metadata: Mapping[str, str]) -> str:
    """The arm of the first rule that matches; empty: none does."""
    return next((rule.arm for rule in policy.rules if metadata.get(rule.key) in rule.values), "")


def _owns(ranges: Iterable[Range], number: int) -> bool:
    return any(owned.start <= number < owned.end for owned in ranges)
