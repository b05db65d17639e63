"""The override list of a release: units that go to an arm whatever their bucket. Pure."""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from gateway.controlplane.commands import SetOverrides
from gateway.errors import InvalidRequest, Refusal, Refused
from gateway.routing.snapshot import Policy, Release, arm_versions

MAX_OVERRIDES: Final = 100_000
"""Of one release. A share of the users is a canary's business, not a list's."""
MAX_ALL_OVERRIDES: Final = 400_000
"""Of all releases; of each, what it has or would have again after a rollback, whichever is more. So they fit into one
message to a proxy, even with the policies to roll back to."""
MAX_UNIT_BYTES: Final = 256


def changed(release: Release, command: SetOverrides) -> Policy:
    """The policy with the command's entries. Raises InvalidRequest or Refused."""
    if not command.overrides and not command.remove:
        raise InvalidRequest("neither units to override nor units to remove are given", "overrides")
    _check_units(command.overrides, "overrides")
    _check_units(command.remove, "remove")
    if both := command.overrides.keys() & set(command.remove):
        raise InvalidRequest(f"unit {min(both)!r} is to be overridden and removed at once", "remove")
    _check_arms(release.model, release.policy, command.overrides)
    merged = release.policy.overrides | command.overrides
    for unit in command.remove:
        merged.pop(unit, None)
    _check_count(release.model, merged)
    return msgspec.structs.replace(release.policy, overrides=merged)


def replaced(model: str, policy: Policy, overrides: dict[str, str]) -> Policy:
    """The policy with these and no others. Raises InvalidRequest or Refused."""
    _check_units(overrides, "overrides")
    _check_arms(model, policy, overrides)
    _check_count(model, overrides)
    return msgspec.structs.replace(policy, overrides=overrides)


def check_all(releases: Iterable[Release]) -> None:
    """Raises Refused when all releases together have too many."""
    count = sum(_most(release) for release in releases)
    if count > MAX_ALL_OVERRIDES:
        said = f"all models together would have {count} overrides; at most {MAX_ALL_OVERRIDES} are kept"
        raise Refused(said, Refusal.TOO_MANY_OVERRIDES)


def _most(release: Release) -> int:
    """A rollback must not bring more than is kept."""
    return max(len(policy.overrides) for policy in (release.policy, release.rollback) if policy is not None)


def without(policy: Policy, arm: str) -> Policy:
    """The policy without the overrides to an arm that has ended."""
    if arm not in policy.overrides.values():
        return policy
    left = {unit: name for unit, name in policy.overrides.items() if name != arm}
    return msgspec.structs.replace(policy, overrides=left)


def _check_units(units: Iterable[str], field: str) -> None:
    for unit in units:
        if not unit:
            raise InvalidRequest("a unit is empty: requests with an empty unit are spread as if they had none", field)
        if (size := len(unit.encode())) > MAX_UNIT_BYTES:
            raise InvalidRequest(f"unit {unit[:32]!r}… has {size} bytes; at most {MAX_UNIT_BYTES} are kept", field)
        if not unit.isprintable():
            raise InvalidRequest(f"unit {unit!r} holds a character that cannot be printed", field)


def _check_arms(model: str, policy: Policy, overrides: Mapping[str, str]) -> None:
    arms = arm_versions(policy)
    if unknown := {*overrides.values()} - arms.keys():
        raise Refused(f"{model} has no arm '{min(unknown)}'; it has {', '.join(arms)}", Refusal.NO_SUCH_ARM)


def _check_count(model: str, overrides: Mapping[str, str]) -> None:
    if len(overrides) > MAX_OVERRIDES:
        said = f"{model} would have {len(overrides)} overrides; at most {MAX_OVERRIDES} are kept"
        raise Refused(said, Refusal.TOO_MANY_OVERRIDES)
