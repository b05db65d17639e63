"""The policy of a release after each command. Pure.

Each function raises InvalidRequest (the command's own values) or Refused (this release does not allow it).
"""

import math
from collections.abc import Iterable

import msgspec

from gateway.controlplane import overrides, ranges
from gateway.controlplane.commands import (
    PrepareStandby,
    Promote,
    Register,
    RemoveCanary,
    RemoveShadow,
    SetCanary,
    SetHoldout,
    SetShadow,
)
from gateway.errors import InvalidRequest, Refusal, Refused
from gateway.routing.snapshot import (
    BUCKETS,
    HOLDOUT,
    STANDBY,
    Canary,
    Holdout,
    Policy,
    Release,
    Shadow,
    canary_arm,
)


def registered(release: Release, command: Register) -> Policy:
    """Everybody gets the first version."""
    _check_version(command.version)
    if release.revision:
        said = f"{release.model} has a release already, at revision {release.revision}"
        raise Refused(said, Refusal.HAS_RELEASE)
    return Policy(stable=command.version)


def with_shadow(release: Release, command: SetShadow) -> Policy:
    """With the shadow, at that rate."""
    _check_candidate(release, command.version, "shadow")
    if not (math.isfinite(command.rate) and 0 < command.rate <= 1):
        raise InvalidRequest(
            f"rate must be above 0 and at most 1, not {command.rate:g}; to stop copies, remove the shadow",
            "rate",
        )
    shadow = Shadow(command.version, command.rate)
    shadows = release.policy.shadows
    if any(known.version == shadow.version for known in shadows):
        shadows = tuple(shadow if known.version == shadow.version else known for known in shadows)
    else:
        shadows = (*shadows, shadow)
    return msgspec.structs.replace(release.policy, shadows=shadows)


def without_shadow(release: Release, command: RemoveShadow) -> Policy:
    """Without the shadow."""
    _check_version(command.version)
    left = tuple(shadow for shadow in release.policy.shadows if shadow.version != command.version)
    if len(left) == len(release.policy.shadows):
        raise Refused(f"version {command.version} is no shadow of {release.model}", Refusal.NO_SUCH_SHADOW)
    return msgspec.structs.replace(release.policy, shadows=left)


def with_canary(release: Release, command: SetCanary) -> Policy:
    """With the canary, at that share."""
    _check_candidate(release, command.version, "canary")
    _check_share(command.basis_points, "canary")
    policy = release.policy
    known = {canary.version: canary for canary in policy.canaries}
    now = known.get(command.version, Canary(command.version, ()))
    more = command.basis_points - now.basis_points
    if more <= 0:
        owned = ranges.shrink(now.ranges, -more)
    else:
        _check_sum(policy.canaries, command)
        taken = [owned for canary in policy.canaries for owned in canary.ranges]
        owned = ranges.grow(now.ranges, taken, more)
    known[command.version] = Canary(command.version, owned)
    salt = policy.salt if policy.canaries else f"{release.model}/{command.version}"
    return msgspec.structs.replace(policy, canaries=tuple(known.values()), salt=salt)


def without_canary(release: Release, command: RemoveCanary) -> Policy:
    """Without the canary and what sends units to it."""
    _check_canary(release, command.version)
    return _dissolved(release.policy, command.version)


def with_standby(release: Release, command: PrepareStandby) -> Policy:
    """With that standby in place of another."""
    _check_candidate(release, command.version, "standby")
    return msgspec.structs.replace(release.policy, standby=command.version)


def flipped(release: Release) -> Policy:
    """The standby is stable."""
    standby = release.policy.standby
    if standby is None:
        raise Refused(f"{release.model} has no standby to flip to; prepare one first", Refusal.NO_STANDBY)
    return _switched(release.policy, standby)


def promoted(release: Release, command: Promote) -> Policy:
    """The canary is stable."""
    _check_candidate(release, command.version, "canary")
    _check_canary(release, command.version)
    return _switched(release.policy, command.version)


def aborted(policy: Policy) -> Policy:
    """Without canaries and standby, and without what sends units to them."""
    ending = [canary.arm for canary in policy.canaries] + [STANDBY]
    return _without_arms(msgspec.structs.replace(policy, canaries=(), standby=None, salt=""), ending)


def with_holdout(release: Release, command: SetHoldout) -> Policy:
    """With a holdout of that size: of the version it has, else of the stable one."""
    _check_share(command.basis_points, "holdout")
    stable = release.policy.stable
    now = release.policy.holdout or Holdout(stable, (), f"{release.model}/{HOLDOUT}/{stable}")
    more = command.basis_points - now.basis_points
    owned = ranges.grow(now.ranges, now.ranges, more) if more > 0 else ranges.shrink(now.ranges, -more)
    return msgspec.structs.replace(release.policy, holdout=Holdout(now.version, owned, now.salt))


def without_holdout(release: Release) -> Policy:
    """Without the holdout and what sends units to it."""
    if release.policy.holdout is None:
        raise Refused(f"{release.model} has no holdout", Refusal.NO_SUCH_ARM)
    return _without_arms(msgspec.structs.replace(release.policy, holdout=None), [HOLDOUT])


def _switched(policy: Policy, version: int) -> Policy:
    """That version is stable and nothing else besides, but for a holdout."""
    left = tuple(shadow for shadow in policy.shadows if shadow.version != version)
    dissolved = _dissolved(policy, version)
    switched = msgspec.structs.replace(dissolved, stable=version, shadows=left)
    if policy.standby != version:
        return switched
    return _without_arms(msgspec.structs.replace(switched, standby=None), [STANDBY])


def _dissolved(policy: Policy, version: int) -> Policy:
    """Without the canary of that version, if there is one; without the salt when no canary is left."""
    left = tuple(canary for canary in policy.canaries if canary.version != version)
    dissolved = msgspec.structs.replace(policy, canaries=left, salt=policy.salt if left else "")
    return _without_arms(dissolved, [canary_arm(version)])


def _without_arms(policy: Policy, arms: Iterable[str]) -> Policy:
    """Without the overrides and rules to arms that have ended."""
    for arm in arms:
        policy = overrides.without(policy, arm)
    return msgspec.structs.replace(policy, rules=tuple(rule for rule in policy.rules if rule.arm not in arms))


def _check_version(version: int) -> None:
    if version < 1:
        raise InvalidRequest(f"version must be a positive integer, not {version}", "version")


def _check_candidate(release: Release, version: int, role: str) -> None:
    _check_version(version)
    if version == release.policy.stable:
        said = f"version {version} is the stable version of {release.model}; it cannot be its own {role}"
        raise Refused(said, Refusal.IS_STABLE)


def _check_canary(release: Release, version: int) -> None:
    _check_version(version)
    if all(canary.version != version for canary in release.policy.canaries):
        raise Refused(f"version {version} is no canary of {release.model}", Refusal.NO_SUCH_ARM)


def _check_share(basis_points: int, role: str) -> None:
    if not 1 <= basis_points <= BUCKETS:
        raise InvalidRequest(
            f"basis_points must be 1 to {BUCKETS} (hundredths of a percent), not {basis_points}; "
            f"to end a {role}, remove it",
            "basis_points",
        )


def _check_sum(canaries: tuple[Canary, ...], command: SetCanary) -> None:
    shares = {canary.version: canary.basis_points for canary in canaries} | {command.version: command.basis_points}
    total = sum(shares.values())
    if total > BUCKETS:
        arms = ", ".join(f"canary-{version} {share / 100:g} %" for version, share in shares.items())
        said = f"the canaries' shares would add up to {total / 100:g} % ({arms}); lower or remove one first"
        raise Refused(said, Refusal.SHARES_TOO_HIGH)
