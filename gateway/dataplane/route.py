"""Routes: a release compiled for the hot path, and the decision which arm answers. Pure but for the random bucket.

Order: forced arm (metadata `cutover-arm`) -> version named by the request -> override of the unit -> rule -> holdout
-> the unit's bucket -> stable.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from gateway.dataplane.door import Door
from gateway.dataplane.job import Job
from gateway.dataplane.lane import Lane
from gateway.dataplane.plan import Plans
from gateway.dataplane.shares import Shares
from gateway.dataplane.tap import Series
from gateway.dataplane.timeout import TimedLane
from gateway.errors import InvalidRequest, NotFound
from gateway.oip import request as oip
from gateway.routing.snapshot import HOLDOUT, STABLE, STANDBY, Assignment, Policy, Range, Release, Rule, arm_versions
from gateway.transport.call import NO_TRAILERS, Trailers

FORCE = "cutover-arm"
"""Request metadata that forces an arm."""
NO_ARM = "none"
"""The arm under which requests are counted that were refused before one was chosen."""
REASONS = ("stable", "split", "per-request", "no-unit", "forced", "version", "override", "rule", "holdout")

_SAID = {reason: ("cutover-reason", reason) for reason in REASONS}
"""One for all arms: there are many."""


class Way(Protocol):
    """Where an arm's requests go: its lane, or a way into it."""

    @property
    def plans(self) -> Plans: ...
    @property
    def door(self) -> Door: ...
    def submit(self, job: Job) -> None: ...


class Arm:
    """One way a request can be answered. `trailers` by reason say who answered; `way`: into the lane."""

    __slots__ = ("lane", "name", "series", "trailers", "version", "way")

    def __init__(
        self, name: str, version: int, lane: Lane, series: Series, trailers: Mapping[str, Trailers], timeout_ms: int
    ) -> None:
        self.name = name
        self.version = version
        self.lane = lane
        self.series = series
        self.trailers = trailers
        self.way: Way = TimedLane(lane, timeout_ms) if timeout_ms else lane


Choice = tuple[Arm, str]
"""An arm and why."""


class Route:
    """One model's release, compiled."""

    __slots__ = (
        "_assignment", "_by_unit", "_by_version", "_first_key", "_held", "_only_split", "_overrides", "_pinned",
        "_release", "_rules", "_split", "arms", "model", "refused", "revision", "stable", "undivided",
        "usual",
    )  # fmt: skip

    def __init__(
        self,
        release: Release,
        assignment: Assignment,
        lane_of: Callable[[int], Lane],
        series_of: Callable[[int, str], Series],
    ) -> None:
        """`assignment` is what the configuration says; the release may know better."""
        policy = release.policy
        self.model = release.model
        self.revision = release.revision
        self._release = release
        self._assignment = policy.assignment or assignment
        self._first_key = next(iter(self._assignment.unit_metadata), "")
        revision = ("cutover-revision", str(release.revision))
        self.arms: dict[str, Arm] = {}
        for name, version in arm_versions(policy).items():
            said = ("cutover-arm", name)
            trailers = {reason: Trailers(said, revision, _SAID[reason]) for reason in _reasons(policy, name)}
            lane, series = lane_of(version), series_of(version, name)
            self.arms[name] = Arm(name, version, lane, series, trailers, policy.timeout_ms)
        self.stable = self.arms[STABLE]
        self.refused = series_of(0, NO_ARM)
        """Requests for this model that were refused before an arm was chosen."""
        self._by_version = {str(arm.version).encode(): arm for arm in reversed(self.arms.values())}
        self._compile(policy)

    def _compile(self, policy: Policy) -> None:
        stable, arms = self.stable, self.arms
        self._overrides = policy.overrides
        pinned = arms if policy.overrides else {}
        self._pinned: dict[str, Choice] = {name: (arm, "override") for name, arm in pinned.items()}
        self._rules = _compiled(policy.rules, arms)
        self._held: Shares[Choice | None] | None = None
        if policy.holdout is not None:
            held: Choice = (arms[HOLDOUT], HOLDOUT)
            self._held = Shares(policy.holdout.salt, [(policy.holdout.ranges, held)], None)
        self._split: Shares[Choice] | None = None
        if policy.canaries:
            owned: list[tuple[Sequence[Range], Choice]]
            owned = [(canary.ranges, (arms[canary.arm], "split")) for canary in policy.canaries]
            self._split = Shares(policy.salt, owned, (stable, "split"))
        self._by_unit = bool(policy.canaries or policy.overrides or policy.holdout)
        self.undivided = not (self._by_unit or policy.rules)
        """Whoever names neither an arm nor a version gets the stable one, and these trailers:"""
        self.usual = stable.trailers.get(STABLE, NO_TRAILERS)
        self._only_split = self._split if not (policy.overrides or policy.rules or policy.holdout) else None
        """The canaries, if they are all that divides the release."""

    def compiled_from(self, release: Release, assignment: Assignment) -> bool:
        """Whether it is what these would be compiled to."""
        same = self._release is release or self._release == release
        return same and self._assignment == (release.policy.assignment or assignment)

    def assign(self, metadata: Mapping[str, str], request: oip.Request) -> Choice:
        """The arm that answers and why. Raises InvalidRequest or NotFound for an arm or version that is not there."""
        forced = metadata.get(FORCE)
        if forced:
            return self._forced(forced), "forced"
        if request.version:
            return self.by_version(request.version), "version"
        split = self._only_split
        if split is None:
            return self._exceptional(metadata, request)
        unit = metadata.get(self._first_key) or self.unit(metadata, request)
        return split.of(unit) if unit is not None else self._by_chance(split)

    def _exceptional(self, metadata: Mapping[str, str], request: oip.Request) -> Choice:
        """The arm, where there may be exceptions from the canaries, or no canaries."""
        unit = None
        if self._by_unit:
            unit = metadata.get(self._first_key) or self.unit(metadata, request)
        if unit is not None and (name := self._overrides.get(unit)) is not None:
            return self._pinned[name]
        for key, chosen in self._rules:
            value = metadata.get(key)
            if value is not None and (choice := chosen.get(value)) is not None:
                return choice
        if self._held is not None and unit is not None and (held := self._held.of(unit)) is not None:
            return held
        split = self._split
        if split is None:
            return self.stable, STABLE
        return split.of(unit) if unit is not None else self._by_chance(split)

    def _by_chance(self, split: Shares[Choice]) -> Choice:
        """The arm of a request that names no unit."""
        if self._assignment.no_unit == "stable":
            return self.stable, "no-unit"
        return split.by_chance()[0], "per-request"

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


def _reasons(policy: Policy, arm: str) -> list[str]:
    """Those that answers of an arm can have: there are many policies, and trailers for each reason of each arm."""
    found = ["forced", "version"]
    found += ["override"] * bool(policy.overrides) + ["rule"] * bool(policy.rules)
    if arm in (HOLDOUT, STANDBY):
        return [*found, HOLDOUT] if arm == HOLDOUT else found
    if not policy.canaries:
        return [*found, STABLE]
    return [*found, "split", "per-request", *(["no-unit"] if arm == STABLE else [])]


def _compiled(rules: Sequence[Rule], arms: Mapping[str, Arm]) -> tuple[tuple[str, dict[str, Choice]], ...]:
    """Metadata keys in the order in which to look at them, with the arm of each value: the first rule that has it."""
    found: list[tuple[str, dict[str, Choice]]] = []
    for rule in rules:
        if not found or found[-1][0] != rule.key:
            found.append((rule.key, {}))
        for value in rule.values:
            found[-1][1].setdefault(value, (arms[rule.arm], "rule"))
    return tuple(found)
