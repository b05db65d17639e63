"""Routes: a release compiled for the hot path, and the decision which arm answers. Pure but for the random bucket.

Order: forced arm (metadata `cutover-arm`) -> version named by the request -> override of the unit -> its bucket
-> stable.
"""

from collections.abc import Callable, Mapping
from random import random

from gateway.dataplane.lane import Lane
from gateway.dataplane.tap import Series
from gateway.errors import InvalidRequest, NotFound
from gateway.oip import request as oip
from gateway.routing.assignment import bucket
from gateway.routing.snapshot import BUCKETS, STABLE, Assignment, Policy, Release, arm_versions
from gateway.transport.call import Trailers

FORCE = "cutover-arm"
"""Request metadata that forces an arm."""
NO_ARM = "none"
"""The arm under which requests are counted that were refused before one was chosen."""
REASONS = ("stable", "split", "per-request", "no-unit", "forced", "version", "override")


class Arm:
    """One way a request can be answered. `trailers` by reason say who answered."""

    __slots__ = ("lane", "name", "series", "trailers", "version")

    def __init__(self, name: str, version: int, lane: Lane, series: Series, revision: int) -> None:
        self.name = name
        self.version = version
        self.lane = lane
        self.series = series
        self.trailers = {
            reason: Trailers(("cutover-arm", name), ("cutover-revision", str(revision)), ("cutover-reason", reason))
            for reason in REASONS
        }


class Route:
    """One model's release, compiled."""

    __slots__ = (
        "_assignment", "_by_version", "_overrides", "_release", "_salt", "_table", "arms", "model", "refused",
        "revision", "stable", "undivided",
    )  # fmt: skip

    def __init__(
        self,
        release: Release,
        assignment: Assignment,
        lane_of: Callable[[int], Lane],
        series_of: Callable[[int, str], Series],
    ) -> None:
        policy = release.policy
        self.model = release.model
        self.revision = release.revision
        self._release = release
        self._assignment = assignment
        self._salt = policy.salt
        self._overrides = policy.overrides
        self.arms: dict[str, Arm] = {}
        for name, version in arm_versions(policy).items():
            self.arms[name] = Arm(name, version, lane_of(version), series_of(version, name), release.revision)
        self.stable = self.arms[STABLE]
        self.refused = series_of(0, NO_ARM)
        """Requests for this model that were refused before an arm was chosen."""
        self._by_version: dict[bytes, Arm] = {}
        for arm in reversed(self.arms.values()):
            self._by_version[str(arm.version).encode()] = arm
        self._table = self._bucket_table(policy)
        self.undivided = self._table is None and not self._overrides
        """Whoever names neither an arm nor a version gets the stable one."""

    def compiled_from(self, release: Release, assignment: Assignment) -> bool:
        """Whether it is what these would be compiled to."""
        return (self._release is release or self._release == release) and self._assignment == assignment

    def _bucket_table(self, policy: Policy) -> list[Arm] | None:
        """The arm of every bucket; None when everything goes to stable."""
        if not policy.canaries:
            return None
        table = [self.stable] * BUCKETS
        for canary in policy.canaries:
            arm = self.arms[canary.arm]
            for owned in canary.ranges:
                table[owned.start : owned.end] = [arm] * (owned.end - owned.start)
        return table

    def assign(self, metadata: Mapping[str, str], request: oip.Request) -> tuple[Arm, str]:
        """The arm that answers and why. Raises InvalidRequest or NotFound for an arm or version that is not there."""
        forced = metadata.get(FORCE)
        if forced:
            return self._forced(forced), "forced"
        if request.version:
            return self.by_version(request.version), "version"
        if self.undivided:
            return self.stable, STABLE
        table, overrides = self._table, self._overrides
        unit = self.unit(metadata, request)
        if overrides and unit is not None and (name := overrides.get(unit)) is not None:
            return self.arms[name], "override"
        if table is None:
            return self.stable, STABLE
        if unit is not None:
            return table[bucket(self._salt, unit)], "split"
        if self._assignment.no_unit == "stable":
            return self.stable, "no-unit"
        return table[int(random() * BUCKETS)], "per-request"  # noqa: S311 - a share of traffic, not a secret

    def unit(self, metadata: Mapping[str, str], request: oip.Request) -> str | None:
        """Who the request is for. An empty value counts as absent."""
        for key in self._assignment.unit_metadata:
            unit = metadata.get(key)
            if unit:
                return unit
        if request.parameters and self._assignment.unit_parameters:
            parameters = oip.parameters(request)
            for name in self._assignment.unit_parameters:
                value = parameters.get(name)
                if value is not None and value != "":
                    return str(value)
        return None

    def _forced(self, name: str) -> Arm:
        if not self._assignment.allow_forced:
            raise InvalidRequest(f"metadata {FORCE}: forcing an arm is not allowed for model {self.model}")
        arm = self.arms.get(name)
        if arm is None:
            raise InvalidRequest(f"metadata {FORCE}: {self.model} has no arm '{name}'; it has {', '.join(self.arms)}")
        return arm

    def by_version(self, version: bytes) -> Arm:
        """The arm bound to a version given as text; empty: stable."""
        if not version:
            return self.stable
        arm = self._by_version.get(version)
        if arm is None:
            text = version.decode(errors="replace")
            if not (text.isascii() and text.isdigit()):
                raise InvalidRequest(f"model version '{text}' is not an integer")
            offered = ", ".join(str(version) for version in sorted({arm.version for arm in self.arms.values()}))
            raise NotFound(f"{self.model} has no live version {text}; it has {offered}")
        return arm
