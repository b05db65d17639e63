"""The policy after a release was declared: several pieces of it at once, each by the rules of its own command. Pure.

Every function raises InvalidRequest (what is declared makes no sense) or Refused (this release does not allow it).
"""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from gateway.controlplane import metadata_rules, overrides, policies
from gateway.controlplane.commands import PIECES, Declare, Declared
from gateway.errors import InvalidRequest, Refusal, Refused
from gateway.routing.snapshot import HOLDOUT, STANDBY, Assignment, Policy, Release, Shadow

LONGEST_TIMEOUT_MS: Final = 24 * 3_600_000
MAX_KEYS: Final = 16
"""Places where a unit is looked for."""
NO_UNIT: Final = ("per-request", "stable")


def declared(release: Release, command: Declare) -> Policy:
    """The release's policy with the pieces in the mask as declared.

    What sends units to an arm that ends thereby ends, too, unless it is declared itself. The field of an InvalidRequest
    is the piece that is wrong.
    """
    if unknown := set(command.mask) - set(PIECES):
        raise InvalidRequest(f"a release has no piece '{min(unknown)}'; it has {', '.join(PIECES)}")
    if "salt" in command.mask and command.declared.salt and "canaries" not in command.mask:
        raise InvalidRequest("a salt is that of the canaries: declare it together with them", "salt")
    policy, wanted = release.policy, command.declared
    if "salt" not in command.mask:
        wanted = msgspec.structs.replace(wanted, salt="")
    for piece, become in _BECOME.items():
        if piece in command.mask:
            try:
                policy = become(release, policy, wanted)
            except InvalidRequest as wrong:
                wrong.field = piece
                raise
    return policy


def _stable(_: Release, policy: Policy, wanted: Declared) -> Policy:
    if not wanted.stable:
        raise InvalidRequest("a release needs a stable version, and none is declared")
    policies.check_version(wanted.stable)
    return policy if wanted.stable == policy.stable else policies.switched(policy, wanted.stable)


def _canaries(release: Release, policy: Policy, wanted: Declared) -> Policy:
    """Shares that shrink make room for those that grow, so that the order in a file means nothing."""
    for version, share in wanted.canaries.items():
        policies.check_candidate(release.model, policy, version, "canary")
        policies.check_share(share, "canary")
    policies.check_sum(wanted.canaries)
    for canary in policy.canaries:
        if canary.version not in wanted.canaries:
            policy = policies.dissolved(policy, canary.version)
    policy = msgspec.structs.replace(policy, salt=_salt(release.model, policy, wanted))
    had = {canary.version: canary.basis_points for canary in policy.canaries}
    for version, share in sorted(wanted.canaries.items(), key=lambda item: item[1] > had.get(item[0], 0)):
        policy = policies.resized(policy, version, share)
    return policy


def _salt(model: str, left: Policy, wanted: Declared) -> str:
    """`left`: with the canaries that stay."""
    if left.canaries:
        if wanted.salt not in ("", left.salt):
            said = f"the canaries of {model} are spread by the salt '{left.salt}', which stays while one of them lives"
            raise Refused(said, Refusal.UNITS_STAY)
        return left.salt
    if not wanted.canaries:
        if wanted.salt:
            raise InvalidRequest("a salt is that of the canaries, and no canary is declared")
        return ""
    if wanted.salt and not (wanted.salt.isprintable() and len(wanted.salt.encode()) <= overrides.MAX_UNIT_BYTES):
        raise InvalidRequest(f"the salt must be printable, and of at most {overrides.MAX_UNIT_BYTES} bytes")
    return wanted.salt or policies.default_salt(model, next(iter(wanted.canaries)))


def _standby(release: Release, policy: Policy, wanted: Declared) -> Policy:
    if wanted.standby is None:
        return policies.without_arms(msgspec.structs.replace(policy, standby=None), [STANDBY])
    policies.check_candidate(release.model, policy, wanted.standby, STANDBY)
    return msgspec.structs.replace(policy, standby=wanted.standby)


def _shadows(release: Release, policy: Policy, wanted: Declared) -> Policy:
    for version, rate in wanted.shadows.items():
        policies.check_candidate(release.model, policy, version, "shadow")
        policies.check_rate(rate)
    shadows = {shadow.version: shadow.rate for shadow in policy.shadows if shadow.version in wanted.shadows}
    shadows |= wanted.shadows
    return msgspec.structs.replace(policy, shadows=tuple(Shadow(*item) for item in shadows.items()))


def _holdout(release: Release, policy: Policy, wanted: Declared) -> Policy:
    if wanted.holdout is None:
        return policies.without_arms(msgspec.structs.replace(policy, holdout=None), [HOLDOUT])
    policies.check_share(wanted.holdout.basis_points, HOLDOUT)
    version = wanted.holdout.version or (policy.holdout.version if policy.holdout else release.policy.stable)
    policies.check_version(version)
    now = policy.holdout or policies.new_holdout(release.model, version)
    if now.version != version:
        said = f"the holdout of {release.model} is of version {now.version}; end it first, to hold out of {version}"
        raise Refused(said, Refusal.UNITS_STAY)
    return msgspec.structs.replace(policy, holdout=policies.held(now, wanted.holdout.basis_points))


def _overrides(release: Release, policy: Policy, wanted: Declared) -> Policy:
    return overrides.replaced(release.model, policy, wanted.overrides)


def _rules(release: Release, policy: Policy, wanted: Declared) -> Policy:
    return metadata_rules.replaced(release.model, policy, wanted.rules)


def _assignment(_: Release, policy: Policy, wanted: Declared) -> Policy:
    return msgspec.structs.replace(policy, assignment=_checked(wanted.assignment))


def _checked(found: Assignment | None) -> Assignment | None:
    if found is None:
        return None
    if max(len(found.unit_metadata), len(found.unit_parameters)) > MAX_KEYS:
        raise InvalidRequest(f"a unit is looked for in at most {MAX_KEYS} metadata keys and as many parameters")
    keys = tuple(key.lower() for key in found.unit_metadata)
    for key in keys:
        metadata_rules.check_key(key)
    for name in found.unit_parameters:
        if not (name and name.isprintable() and len(name.encode()) <= overrides.MAX_UNIT_BYTES):
            raise InvalidRequest(f"{name[:32]!r} is no name of a request parameter")
    if found.no_unit not in NO_UNIT:
        raise InvalidRequest(f"no_unit must be {' or '.join(NO_UNIT)}, not {found.no_unit[:32]!r}")
    return msgspec.structs.replace(found, unit_metadata=keys)


def _timeout_ms(_: Release, policy: Policy, wanted: Declared) -> Policy:
    if not 0 <= wanted.timeout_ms <= LONGEST_TIMEOUT_MS:
        raise InvalidRequest(f"timeout_ms must be 0 (none) to {LONGEST_TIMEOUT_MS} (a day), not {wanted.timeout_ms}")
    return msgspec.structs.replace(policy, timeout_ms=wanted.timeout_ms)


_BECOME: Final[Mapping[str, Callable[[Release, Policy, Declared], Policy]]] = {
    "stable": _stable,
    "canaries": _canaries,
    "standby": _standby,
    "shadows": _shadows,
    "holdout": _holdout,
    "overrides": _overrides,
    "rules": _rules,
    "assignment": _assignment,
    "timeout_ms": _timeout_ms,
}
"""In this order: who may be a canary depends on who is stable, and which arms there are on all of them. The salt comes
with the canaries."""
