"""Which arm answers a unit, recomputed from a release alone, as the data plane does it. Pure."""

from dataclasses import dataclass

from gateway.routing.assignment import bucket
from gateway.routing.snapshot import STABLE, Policy, arm_versions


@dataclass(frozen=True, slots=True)
class Assigned:
    """Where one unit goes. `reason` is what the reply's `cutover-reason` says."""

    unit: str
    bucket: int
    arm: str
    version: int
    reason: str


def assign(policy: Policy, unit: str) -> Assigned:
    """The arm the unit is sent to by an override, else the one whose ranges hold its bucket, else stable."""
    number = bucket(policy.salt, unit)
    if arm := policy.overrides.get(unit):
        return Assigned(unit, number, arm, arm_versions(policy)[arm], "override")
    for canary in policy.canaries:
        if any(owned.start <= number < owned.end for owned in canary.ranges):
            return Assigned(unit, number, canary.arm, canary.version, "split")
    return Assigned(unit, number, STABLE, policy.stable, "split" if policy.canaries else "stable")
