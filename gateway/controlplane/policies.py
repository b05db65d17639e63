"""The policy of a release after each command. Pure.

Each function raises InvalidRequest (the command's own values) or Refused (this release does not allow it).
"""

import math
from collections.abc import Iterable, Mapping

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
    check_version(command.version)
    if release.revision:
        said = f"{release.model} has a release already, at revision {release.revision}"
        raise Refused(said, Refusal.HAS_RELEASE)
    return Policy(stable=command.version)


def with_shadow(release: Release, command: SetShadow) -> Policy:
    """With the shadow, at that rate."""
    check_candidate(release.model, release.policy, command.version, "shadow")
    check_rate(command.rate)
    shadow = Shadow(command.version, command.rate)
    shadows = release.policy.shadows
    if any(known.version == shadow.version for known in shadows):
        shadows = tuple(shadow if known.version == shadow.version else known for known in shadows)
    else:
        shadows = (*shadows, shadow)
    return msgspec.structs.replace(release.policy, shadows=shadows)


def without_shadow(release: Release, command: RemoveShadow) -> Policy:
    """Without the shadow."""
    check_version(command.version)
    left = tuple(shadow for shadow in release.policy.shadows if shadow.version != command.version)
    if len(left) == len(release.policy.shadows):
        raise Refused(f"version {command.version} is no shadow of {release.model}", Refusal.NO_SUCH_SHADOW)
    return msgspec.structs.replace(release.policy, shadows=left)


def with_canary(release: Release, command: SetCanary) -> Policy:
    """With the canary, at that share."""
    check_candidate(release.model, release.policy, command.version, "canary")
    check_share(command.basis_points, "canary")
    policy = release.policy
    shares = {canary.version: canary.basis_points for canary in policy.canaries}
    if command.basis_points > shares.get(command.version, 0):
        check_sum(shares | {command.version: command.basis_points})
    salt = policy.salt if policy.canaries else default_salt(release.model, command.version)
    return msgspec.structs.replace(resized(policy, command.version, command.basis_points), salt=salt)


def resized(policy: Policy, version: int, basis_points: int) -> Policy:
    """With the canary of that version at that share. Raises ValueError where fewer buckets are free."""
    known = {canary.version: canary for canary in policy.canaries}
    now = known.get(version, Canary(version, ()))
    more = basis_points - now.basis_points
    taken = [owned for canary in policy.canaries for owned in canary.ranges]
    owned = ranges.grow(now.ranges, taken, more) if more > 0 else ranges.shrink(now.ranges, -more)
    known[version] = Canary(version, owned)
    return msgspec.structs.replace(policy, canaries=tuple(known.values()))


def default_salt(model: str, first: int) -> str:
    """The salt of a rollout that begins with that canary."""
    return f"{model}/{first}"


def without_canary(release: Release, command: RemoveCanary) -> Policy:
    """Without the canary and what sends units to it."""
    _check_canary(release, command.version)
    return dissolved(release.policy, command.version)


def with_standby(release: Release, command: PrepareStandby) -> Policy:
    """With that standby in place of another."""
    check_candidate(release.model, release.policy, command.version, "standby")
    return msgspec.structs.replace(release.policy, standby=command.version)


def flipped(release: Release) -> Policy:
    """The standby is stable."""
    standby = release.policy.standby
    if standby is None:
        raise Refused(f"{release.model} has no standby to flip to; prepare one first", Refusal.NO_STANDBY)
    return switched(release.policy, standby)


def promoted(release: Release, command: Promote) -> Policy:
    """The canary is stable."""
    check_candidate(release.model, release.policy, command.version, "canary")
    _check_canary(release, command.version)
    return switched(release.policy, command.version)


def aborted(policy: Policy) -> Policy:
    """Without canaries and standby, and without what sends units to them."""
    ending = [canary.arm for canary in policy.canaries] + [STANDBY]
    return without_arms(msgspec.structs.replace(policy, canaries=(), standby=None, salt=""), ending)


def with_holdout(release: Release, command: SetHoldout) -> Policy:
    """With a holdout of that size: of the version it has, else of the stable one."""
    check_share(command.basis_points, "holdout")
    now = release.policy.holdout or new_holdout(release.model, release.policy.stable)
    return msgspec.structs.replace(release.policy, holdout=held(now, command.basis_points))


def new_holdout(model: str, version: int) -> Holdout:
    """A holdout of nobody yet."""
    return Holdout(version, (), f"{model}/{HOLDOUT}/{version}")


def held(now: Holdout, basis_points: int) -> Holdout:
    """The holdout at that share."""
    more = basis_points - now.basis_points
    owned = ranges.grow(now.ranges, now.ranges, more) if more > 0 else ranges.shrink(now.ranges, -more)
    return Holdout(now.version, owned, now.salt)


def without_holdout(release: Release) -> Policy:
    """Without the holdout and what sends units to it."""
    if release.policy.holdout is None:
        raise Refused(f"{release.model} has no holdout", Refusal.NO_SUCH_ARM)
    return without_arms(msgspec.structs.replace(release.policy, holdout=None), [HOLDOUT])


def switched(policy: Policy, version: int) -> Policy:
    """That version is stable and nothing else besides, but for a holdout."""
    left = tuple(shadow for shadow in policy.shadows if shadow.version != version)
    after = msgspec.structs.replace(dissolved(policy, version), stable=version, shadows=left)
    if policy.standby != version:
        return after
    return without_arms(msgspec.structs.replace(after, standby=None), [STANDBY])


def dissolved(policy: Policy, version: int) -> Policy:
    """Without the canary of that version, if there is one; without the salt when no canary is left."""
    left = tuple(canary for canary in policy.canaries if canary.version != version)
    after = msgspec.structs.replace(policy, canaries=left, salt=policy.salt if left else "")
    return without_arms(after, [canary_arm(version)])


def without_arms(policy: Policy, arms: Iterable[str]) -> Policy:
    """Without the overrides and rules to arms that have ended."""
    for arm in arms:
        policy = overrides.without(policy, arm)
    return msgspec.structs.replace(policy, rules=tuple(rule for rule in policy.rules if rule.arm not in arms))


def check_version(version: int) -> None:
    """Versions are counted from 1."""
    if version < 1:
        raise InvalidRequest(f"version must be a positive integer, not {version}", "version")


def check_candidate(model: str, policy: Policy, version: int, role: str) -> None:
    """A version may have the role, which the stable one must not."""
    check_version(version)
    if version == policy.stable:
        said = f"version {version} is the stable version of {model}; it cannot be its own {role}"
        raise Refused(said, Refusal.IS_STABLE)


def check_rate(rate: float) -> None:
    """The share of requests that is copied."""
    if not (math.isfinite(rate) and 0 < rate <= 1):
        said = f"rate must be above 0 and at most 1, not {rate:g}; to stop copies, remove the shadow"
        raise InvalidRequest(said, "rate")


def check_share(basis_points: int, role: str) -> None:
    """The share of all units."""
    if not 1 <= basis_points <= BUCKETS:
        raise InvalidRequest(
            f"basis_points must be 1 to {BUCKETS} (hundredths of a percent), not {basis_points}; "
            f"to end a {role}, remove it",
            "basis_points",
        )


def check_sum(shares: Mapping[int, int]) -> None:
    """Those of all canaries, by version."""
    total = sum(shares.values())
    if total > BUCKETS:
        arms = ", ".join(f"canary-{version} {share / 100:g} %" for version, share in shares.items())
        said = f"the canaries' shares would add up to {total / 100:g} % ({arms}); lower or remove one first"
        raise Refused(said, Refusal.SHARES_TOO_HIGH)


def _check_canary(release: Release, version: int) -> None:
    check_version(version)
    if all(canary.version != version for canary in release.policy.canaries):
        raise Refused(f"version {version} is no canary of {release.model}", Refusal.NO_SUCH_ARM)
