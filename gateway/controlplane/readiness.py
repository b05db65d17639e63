"""Which pools must be ready before a command may take effect. Pure.

Only what a command gives more traffic to must be ready: taking traffic away from a broken version always works.
"""

from typing import NamedTuple

from gateway.controlplane.commands import (
    Command,
    Flip,
    PrepareStandby,
    Promote,
    Register,
    Rollback,
    SetCanary,
    SetHoldout,
    SetOverrides,
    SetShadow,
)
from gateway.routing.snapshot import BUCKETS, STABLE, Policy, Release, arm_versions


class Needed(NamedTuple):
    """A pool; shadow copies have pools of their own."""

    version: int
    shadow: bool


def pools_needed(release: Release, command: Command) -> tuple[Needed, ...]:
    """Pools that `Fleet.prepare` must bring up first, given the release the command will be applied to."""
    policy = release.policy
    match command:
        case SetShadow(version=version, rate=rate):
            lower = any(shadow.version == version and shadow.rate > rate for shadow in policy.shadows)
            return () if lower else (Needed(version, shadow=True),)
        case SetCanary(version=version, basis_points=share):
            lower = any(canary.version == version and canary.basis_points > share for canary in policy.canaries)
            return () if lower else (Needed(version, shadow=False),)
        case SetOverrides(overrides=overrides):
            arms = arm_versions(policy)
            return tuple(Needed(arms[arm], shadow=False) for arm in sorted({*overrides.values()} - {STABLE}))
        case PrepareStandby(version=version) | Register(version=version):
            return (Needed(version, shadow=False),)
        case Flip() if policy.standby is not None:
            return (Needed(policy.standby, shadow=False),)
        case Promote(version=version):
            return (Needed(version, shadow=False),)
        case SetHoldout(basis_points=share) if policy.holdout is not None and share > policy.holdout.basis_points:
            return (Needed(policy.holdout.version, shadow=False),)
        case Rollback(revision=revision, policy=kept):
            back = kept if revision else release.rollback
            return () if back is None else _needed_back(policy, back)
        case _:
            return ()


def _needed_back(policy: Policy, back: Policy) -> tuple[Needed, ...]:
    """A shadow or standby that is not ready must never hold up a way back, nor must the broken version that is to be
    left: before the flip it was a canary more often than not, and becomes one again.
    """
    had = {canary.version: canary.basis_points for canary in policy.canaries} | {policy.stable: BUCKETS}
    grown = [canary.version for canary in back.canaries if canary.basis_points > had.get(canary.version, 0)]
    held = policy.holdout.basis_points if policy.holdout else 0
    if back.holdout is not None and back.holdout.basis_points > held and back.holdout.version != back.stable:
        grown.append(back.holdout.version)
    return tuple(Needed(version, shadow=False) for version in (back.stable, *grown))
