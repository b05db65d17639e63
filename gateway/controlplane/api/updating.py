"""Several parts of a release changed at once, as AIP-134 updates a resource."""

# ruff: noqa: N802  # RPCs are named by the proto
from collections.abc import Iterable
from typing import Final, TypeVar

from gateway.controlplane.api.carrying import carry_out
from gateway.controlplane.commands import Declare, Declared, Hold
from gateway.controlplane.releases import Releases
from gateway.controlplane.statuses import Context
from gateway.errors import InvalidRequest
from gateway.routing.snapshot import Assignment, Rule
from protos import admin_pb2 as pb

OVERRIDES: Final = "overrides"
FIELDS: Final = {
    "stable_version": "stable",
    "canaries": "canaries",
    "shadows": "shadows",
    "standby_version": "standby",
    "salt": "salt",
    "holdout": "holdout",
    "rules": "rules",
    "assignment": "assignment",
    "timeout_ms": "timeout_ms",
}
"""Of a policy's message: the piece of a release that it declares."""
_PLACES: Final = {piece: f"release.policy.{field}" for field, piece in FIELDS.items()} | {
    OVERRIDES: "override_list",
    "name": "release.name",
}
"""In the request, of what is wrong."""
ALL: Final = ("*", "policy")
Value = TypeVar("Value", int, float)


class Updating:
    """Declares releases."""

    def __init__(self, releases: Releases) -> None:
        self._releases = releases

    async def UpdateRelease(self, request: pb.UpdateReleaseRequest, context: Context) -> pb.Release:
        request.etag = request.etag or request.release.etag
        command = Declare(declared(request), mask(request))
        try:
            return await carry_out(self._releases, request.release.name, command, request, context)
        except InvalidRequest as wrong:
            wrong.field = _PLACES.get(wrong.field, wrong.field)
            raise


def mask(request: pb.UpdateReleaseRequest) -> tuple[str, ...]:
    """The pieces that the request sets. Raises InvalidRequest for a path that cannot be set."""
    paths = list(request.update_mask.paths)
    if not paths:
        fields = [field.name for field, _ in request.release.policy.ListFields()]
        pieces = {FIELDS[field] for field in fields if field in FIELDS}
    elif set(paths) & set(ALL):
        pieces = {*FIELDS.values()}
    else:
        pieces = {_piece(path) for path in paths}
    if request.HasField("override_list"):
        pieces.add(OVERRIDES)
    if not pieces:
        raise InvalidRequest("neither update_mask nor the policy says what to set", "update_mask")
    return tuple(sorted(pieces))


def declared(request: pb.UpdateReleaseRequest) -> Declared:
    """What the request's policy says, whatever its mask. Raises InvalidRequest for a version that is given twice."""
    policy, held, found = request.release.policy, request.release.policy.holdout, request.release.policy.assignment
    return Declared(
        stable=policy.stable_version,
        canaries=_by_version(((one.version, one.basis_points) for one in policy.canaries), "canaries"),
        shadows=_by_version(((one.version, one.rate) for one in policy.shadows), "shadows"),
        standby=policy.standby_version or None,
        salt=policy.salt,
        holdout=Hold(held.basis_points, held.version) if policy.HasField("holdout") else None,
        rules=tuple(Rule(rule.key, tuple(rule.values), rule.arm) for rule in policy.rules),
        assignment=Assignment(
            tuple(found.unit_metadata), tuple(found.unit_parameters), found.no_unit, found.allow_forced
        )
        if policy.HasField("assignment")
        else None,
        timeout_ms=policy.timeout_ms,
        overrides=dict(request.override_list.overrides),
    )


def _piece(path: str) -> str:
    part, _, field = path.partition(".")
    if part != "policy" or field not in FIELDS:
        known = ", ".join(f"policy.{name}" for name in FIELDS)
        said = f"update_mask: {path[:100]!r} cannot be set; {known} or all of policy can"
        raise InvalidRequest(said, "update_mask")
    return FIELDS[field]


def _by_version(pairs: Iterable[tuple[int, Value]], what: str) -> dict[int, Value]:
    found: dict[int, Value] = {}
    for version, value in pairs:
        if version in found:
            raise InvalidRequest(f"policy.{what} names version {version} twice", f"release.policy.{what}")
        found[version] = value
    return found
