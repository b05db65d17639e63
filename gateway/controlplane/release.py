"""A release's rules: `apply(release, command, now)` gives the next release and the facts about it. Pure.

Rules:
- The stable version is never its own canary, shadow or standby.
- Canaries own explicit bucket ranges. Growing takes the lowest free buckets and never another arm's, shrinking gives
  the newest back; so raising a share never moves a unit out of its arm, and candidates never push each other.
- The salt is "<model>/<version of the first canary>" while any canary is live; the next rollout meets others first.
- An override names an arm that exists. When its arm ends (a canary is removed or becomes stable, a standby is flipped
  to), it ends, too: its unit then goes where its bucket goes.
- A flip keeps the whole policy before it; a rollback restores exactly that, once.
- Asking for what already is changes nothing: same revision, no facts.
"""

import math
from collections.abc import Iterable

import msgspec

from gateway.controlplane import overrides, ranges
from gateway.controlplane.commands import (
    Command,
    Flip,
    PrepareStandby,
    Register,
    RemoveCanary,
    RemoveShadow,
    Rollback,
    SetCanary,
    SetOverrides,
    SetShadow,
    verb,
)
from gateway.errors import InvalidRequest, Refused
from gateway.routing.snapshot import BUCKETS, STANDBY, Canary, Policy, Release, Shadow, canary_arm


class Fact(msgspec.Struct, frozen=True):
    """What happened to a release. `before` of the first fact is `unborn(model)`."""

    verb: str
    before: Release
    after: Release


def unborn(model: str) -> Release:
    """The release of a model nobody has registered yet: revision 0."""
    return Release(model=model, revision=0, policy=Policy(stable=0))


def apply(release: Release, command: Command, now_ms: int) -> tuple[Release, tuple[Fact, ...]]:
    """The release after the command, and what happened; no facts: nothing changed.

    `now_ms`: milliseconds since the epoch. Raises InvalidRequest (the command's own values) or Refused (this release
    does not allow it); both say why in one line.
    """
    policy, rollback = _decide(release, command)
    if policy == release.policy and rollback == release.rollback:
        return release, ()
    after = Release(release.model, release.revision + 1, policy, rollback, now_ms)
    return after, (Fact(verb(command), release, after),)


def replay(facts: Iterable[Fact], release: Release) -> Release:
    """The release that the facts lead to. Raises ValueError at the first fact that does not follow."""
    for fact in facts:
        if fact.before != release or fact.after.revision != release.revision + 1:
            raise ValueError(f"fact {fact.verb} does not follow revision {release.revision} of {release.model}")
        release = fact.after
    return release


def _decide(release: Release, command: Command) -> tuple[Policy, Policy | None]:
    """The policy and the rollback policy after the command."""
    if isinstance(command, Register):
        return _register(release, command), None
    if not release.revision:
        raise Refused(f"{release.model} has no release yet; put a version of it into the models directory")
    match command:
        case Flip():
            return _flipped(release), release.policy
        case Rollback():
            if release.rollback is None:
                raise Refused(f"{release.model} has nothing to roll back to: no flip since the last rollback")
            return release.rollback, None
        case SetShadow():
            policy = _with_shadow(release, command)
        case RemoveShadow():
            policy = _without_shadow(release, command)
        case SetCanary():
            policy = _with_canary(release, command)
        case RemoveCanary():
            policy = _without_canary(release, command)
        case SetOverrides():
            policy = overrides.changed(release, command)
        case PrepareStandby():
            policy = _with_standby(release, command)
    return policy, release.rollback


def _register(release: Release, command: Register) -> Policy:
    _check_version(command.version)
    if release.revision:
        raise Refused(f"{release.model} has a release already, at revision {release.revision}")
    return Policy(stable=command.version)


def _with_shadow(release: Release, command: SetShadow) -> Policy:
    _check_candidate(release, command.version, "shadow")
    if not (math.isfinite(command.rate) and 0 < command.rate <= 1):
        raise InvalidRequest(
            f"rate must be above 0 and at most 1, not {command.rate:g}; to stop copies, remove the shadow"
        )
    shadow = Shadow(command.version, command.rate)
    shadows = release.policy.shadows
    if any(known.version == shadow.version for known in shadows):
        shadows = tuple(shadow if known.version == shadow.version else known for known in shadows)
    else:
        shadows = (*shadows, shadow)
    return msgspec.structs.replace(release.policy, shadows=shadows)


def _without_shadow(release: Release, command: RemoveShadow) -> Policy:
    _check_version(command.version)
    left = tuple(shadow for shadow in release.policy.shadows if shadow.version != command.version)
    if len(left) == len(release.policy.shadows):
        raise Refused(f"version {command.version} is no shadow of {release.model}")
    return msgspec.structs.replace(release.policy, shadows=left)


def _with_canary(release: Release, command: SetCanary) -> Policy:
    _check_candidate(release, command.version, "canary")
    if not 1 <= command.basis_points <= BUCKETS:
        raise InvalidRequest(
            f"basis_points must be 1 to {BUCKETS} (hundredths of a percent), not {command.basis_points}; "
            "to end a canary, remove it"
        )
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


def _without_canary(release: Release, command: RemoveCanary) -> Policy:
    _check_version(command.version)
    if all(canary.version != command.version for canary in release.policy.canaries):
        raise Refused(f"version {command.version} is no canary of {release.model}")
    return _dissolved(release.policy, command.version)


def _dissolved(policy: Policy, version: int) -> Policy:
    """Without the canary of that version, if there is one; without the salt when no canary is left."""
    left = tuple(canary for canary in policy.canaries if canary.version != version)
    dissolved = msgspec.structs.replace(policy, canaries=left, salt=policy.salt if left else "")
    return overrides.without(dissolved, canary_arm(version))


def _with_standby(release: Release, command: PrepareStandby) -> Policy:
    _check_candidate(release, command.version, "standby")
    return msgspec.structs.replace(release.policy, standby=command.version)


def _flipped(release: Release) -> Policy:
    policy = release.policy
    if policy.standby is None:
        raise Refused(f"{release.model} has no standby to flip to; prepare one first")
    left = tuple(shadow for shadow in policy.shadows if shadow.version != policy.standby)
    dissolved = _dissolved(policy, policy.standby)
    flipped = msgspec.structs.replace(dissolved, stable=policy.standby, standby=None, shadows=left)
    return overrides.without(flipped, STANDBY)


def _check_version(version: int) -> None:
    if version < 1:
        raise InvalidRequest(f"version must be a positive integer, not {version}")


def _check_candidate(release: Release, version: int, role: str) -> None:
    _check_version(version)
    if version == release.policy.stable:
        raise Refused(f"version {version} is the stable version of {release.model}; it cannot be its own {role}")


def _check_sum(canaries: tuple[Canary, ...], command: SetCanary) -> None:
    shares = {canary.version: canary.basis_points for canary in canaries} | {command.version: command.basis_points}
    total = sum(shares.values())
    if total > BUCKETS:
        arms = ", ".join(f"canary-{version} {share / 100:g} %" for version, share in shares.items())
        raise Refused(f"the canaries' shares would add up to {total / 100:g} % ({arms}); lower or remove one first")
