"""Whatever is asked of a release in whatever order, its promises hold."""

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.controlplane.commands import (
    PIECES,
    Abort,
    Command,
    Declare,
    Declared,
    Flip,
    Hold,
    Pause,
    PrepareStandby,
    Promote,
    Register,
    RemoveCanary,
    RemoveHoldout,
    RemoveShadow,
    Resume,
    Rollback,
    SetCanary,
    SetHoldout,
    SetOverrides,
    SetShadow,
)
from gateway.controlplane.declared import of_policy, settled
from gateway.controlplane.readiness import pools_needed
from gateway.controlplane.release import Fact, apply, replay, unborn
from gateway.controlplane.store.sql import body_of, release_of
from gateway.errors import InvalidRequest, Refusal, Refused
from gateway.routing.snapshot import BUCKETS, Assignment, Policy, Release, Rule, arm_versions

VERSIONS = st.integers(1, 4)
UNITS = st.sampled_from(["ann", "bob", "eve", "joe"])
ARMS = st.sampled_from(["stable", "standby", "holdout", *(f"canary-{version}" for version in range(1, 5))])
SHARES = st.one_of(st.integers(1, 3_000), st.integers(-1, BUCKETS + 1))


RULES = st.lists(st.builds(Rule, st.just("x-team"), st.sampled_from([("a",), ("b", "a"), ("c",)]), ARMS), max_size=3)
SMALL = st.integers(1, 4_000)
DECLARED = st.fixed_dictionaries(
    {},
    optional={
        "stable": VERSIONS,
        "canaries": st.dictionaries(VERSIONS, SMALL, max_size=3),
        "shadows": st.dictionaries(VERSIONS, st.sampled_from([0.1, 0.5, 1.0]), max_size=2),
        "standby": st.one_of(st.none(), VERSIONS),
        "salt": st.sampled_from(["", "one", "other"]),
        "holdout": st.one_of(st.none(), st.builds(Hold, SMALL, VERSIONS)),
        "rules": RULES.map(tuple),
        "assignment": st.sampled_from([None, Assignment(), Assignment(("x-tenant",))]),
        "timeout_ms": st.sampled_from([0, 250]),
        "overrides": st.dictionaries(UNITS, ARMS, max_size=3),
    },
)
"""Some pieces of a release."""


@st.composite
def sensible(draw: st.DrawFn, policy: Policy) -> Declared:
    """A whole release that the rules allow, but for what the policy before it and its versions say."""
    stable = draw(st.sampled_from([policy.stable] * 4 + [1, 2, 3, 4]))
    others = st.sampled_from(sorted({1, 2, 3, 4} - {stable}))
    canaries = draw(st.dictionaries(others, st.integers(1, 3_333), max_size=3))
    for canary in policy.canaries:
        if canary.version != stable and draw(st.booleans()):
            canaries.setdefault(canary.version, draw(st.integers(1, 3_333)))
    standby = draw(st.one_of(st.none(), others))
    holdout = draw(st.one_of(st.builds(Hold, SMALL, st.sampled_from([0, 0, 1, 2])), st.none()))
    arms = ["stable", *(f"canary-{version}" for version in canaries)]
    arms += ["standby"] * bool(standby) + ["holdout"] * bool(holdout)
    one = st.sampled_from(arms)
    values = st.sampled_from([("a",), ("b", "a"), ("c",)])
    return Declared(
        stable=stable,
        canaries=canaries,
        shadows=draw(st.dictionaries(others, st.sampled_from([0.1, 1.0]), max_size=2)),
        standby=standby,
        salt=draw(st.sampled_from(["", "", "one"])) if canaries else "",
        holdout=holdout,
        rules=tuple(draw(st.lists(st.builds(Rule, st.just("x-team"), values, one), max_size=3))),
        assignment=draw(st.sampled_from([None, Assignment(("x-tenant",))])),
        timeout_ms=draw(st.sampled_from([0, 250])),
        overrides=draw(st.dictionaries(UNITS, one, max_size=3)),
    )


def owned(policy: Policy, version: int) -> set[int]:
    """The buckets of that version's canary."""
    ranges = [found for canary in policy.canaries if canary.version == version for found in canary.ranges]
    return {bucket for found in ranges for bucket in range(found.start, found.end)}


def held(policy: Policy) -> set[int]:
    """The buckets of the holdout."""
    ranges = policy.holdout.ranges if policy.holdout else ()
    return {bucket for found in ranges for bucket in range(found.start, found.end)}


def claims(policy: Policy, *, waiting: bool = False) -> dict[int, set[object]]:
    """Whom each version answers but for the rest, which is stable's: buckets, units and metadata; `waiting`: also the
    metadata that an earlier rule takes away.
    """
    found: dict[int, set[object]] = {}
    for canary in policy.canaries:
        found.setdefault(canary.version, set()).update(
            (policy.salt, bucket) for bucket in owned(policy, canary.version)
        )
    if policy.holdout:
        salt = policy.holdout.salt
        found.setdefault(policy.holdout.version, set()).update((salt, bucket) for bucket in held(policy))
    arms = arm_versions(policy)
    for unit, arm in policy.overrides.items():
        found.setdefault(arms[arm], set()).add(unit)
    taken: set[tuple[str, str]] = set()
    for one in policy.rules:
        pairs = {(one.key, value) for value in one.values}
        found.setdefault(arms[one.arm], set()).update(pairs if waiting else pairs - taken)
        taken |= pairs
    return found


def exposed(before: Policy, after: Policy) -> bool:
    """Whether some version that was not stable gets more, or is now."""
    had, has = claims(before, waiting=True), claims(after)
    rates = {shadow.version: shadow.rate for shadow in before.shadows}
    spread = set(has) - {before.stable} and (after.canaries or after.holdout)
    return (
        after.stable != before.stable
        or any(has[version] - had.get(version, set()) for version in has if version != before.stable)
        or any(shadow.rate > rates.get(shadow.version, 0) for shadow in after.shadows)
        or bool(spread and after.assignment != before.assignment)
    )


class ReleaseMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.release = unborn("iris")
        self.facts: list[Fact] = []
        self.stored: list[Release] = []
        """All revisions, as they are read back from the bodies that stores keep."""
        self.broken: set[int] = set()
        """Versions that are not ready."""
        self.refusal: str | None = None
        """Why nothing changed last, unless it was so already; NOT_READY is the door's, not the release's."""
        self.now_ms = 0

    def kept(self, revision: int) -> Policy:
        """What a store says that revision was."""
        return self.stored[revision - 1].policy

    def ask(self, command: Command) -> bool:
        """Whether something changed. A refusal must leave no trace."""
        self.now_ms += 1
        before, self.refusal = self.release, None
        try:
            after, facts = apply(before, command, self.now_ms)
        except (Refused, InvalidRequest) as error:
            self.refusal = error.reason
            if self.refusal == Refusal.PAUSED:
                would, _ = apply(msgspec.structs.replace(before, paused=False), command, self.now_ms)
                assert exposed(before.policy, would.policy), "a pause refuses growth only"
            return False
        assert len(facts) == (after != before)
        assert after.revision == before.revision + len(facts)
        if {needed.version for needed in pools_needed(before.policy, after.policy, command)} & self.broken:
            self.refusal = "NOT_READY"
            return False
        self.check_step(before, command, after)
        self.release = msgspec.structs.replace(after, sequence=after.revision)
        if facts:
            self.stored.append(release_of("iris", body_of(self.release)))
        self.facts += facts
        return bool(facts)

    def check_step(self, before: Release, command: Command, after: Release) -> None:
        declares_holdout = isinstance(command, Declare) and "holdout" in command.mask
        if not isinstance(command, SetHoldout | RemoveHoldout | Rollback) and not declares_holdout:
            assert after.policy.holdout == before.policy.holdout
        if before.paused and not isinstance(command, Rollback):
            assert not exposed(before.policy, after.policy)
        if after.policy.stable != before.policy.stable:
            assert after.policy.stable not in self.broken
        had, has = claims(before.policy, waiting=True), claims(after.policy)
        for version in self.broken - {before.policy.stable}:
            assert has.get(version, set()) <= had.get(version, set()), "what is not ready gets no one new"

    @initialize(version=VERSIONS)
    def register(self, version: int) -> None:
        assert self.ask(Register(version))

    @rule(data=st.data())
    def a_version_fails(self, data: st.DataObject) -> None:
        """Sooner one that answers."""
        self.broken.add(data.draw(st.sampled_from([*self.release.policy.live, 1, 2, 3, 4])))

    @precondition(lambda self: self.broken)
    @rule(data=st.data())
    def a_version_recovers(self, data: st.DataObject) -> None:
        self.broken.remove(data.draw(st.sampled_from(sorted(self.broken))))

    @rule(version=VERSIONS, rate=st.sampled_from([0.0, 0.1, 0.5, 1.0, 1.5]))
    def set_shadow(self, version: int, rate: float) -> None:
        self.ask(SetShadow(version, rate))

    @precondition(lambda self: self.release.policy.shadows)
    @rule(data=st.data())
    def remove_shadow(self, data: st.DataObject) -> None:
        assert self.ask(RemoveShadow(data.draw(st.sampled_from(self.release.policy.shadows)).version))

    @rule(version=VERSIONS, share=SHARES)
    def set_canary(self, version: int, share: int) -> None:
        before = self.release.policy
        if not self.ask(SetCanary(version, share)):
            return
        had, has = owned(before, version), owned(self.release.policy, version)
        assert len(has) == share
        assert had <= has or has <= had
        for canary in before.canaries:
            assert canary.version == version or owned(self.release.policy, canary.version) == owned(
                before, canary.version
            )

    @precondition(lambda self: self.release.policy.canaries)
    @rule(data=st.data())
    def ramp_a_canary_down_and_up(self, data: st.DataObject) -> None:
        canary = data.draw(st.sampled_from(self.release.policy.canaries))
        lower = data.draw(st.integers(1, canary.basis_points))
        self.ask(SetCanary(canary.version, lower))
        kept = owned(self.release.policy, canary.version)
        self.ask(SetCanary(canary.version, canary.basis_points))
        again = owned(self.release.policy, canary.version)
        assert kept <= again
        assert len(again) == (lower if self.refusal else canary.basis_points)

    @precondition(lambda self: self.release.policy.canaries)
    @rule(data=st.data())
    def remove_canary(self, data: st.DataObject) -> None:
        before = self.release.policy
        assert self.ask(RemoveCanary(data.draw(st.sampled_from(before.canaries)).version)), "whatever is broken"
        for canary in self.release.policy.canaries:
            assert owned(self.release.policy, canary.version) == owned(before, canary.version)

    @rule(entries=st.dictionaries(UNITS, ARMS, max_size=3), gone=st.sets(UNITS, max_size=2))
    def set_overrides(self, entries: dict[str, str], gone: set[str]) -> None:
        before = self.release.policy
        expected = {unit: arm for unit, arm in (before.overrides | entries).items() if unit not in gone}
        if self.ask(SetOverrides(entries, tuple(gone))):
            assert self.release.policy.overrides == expected
            assert arm_versions(self.release.policy) == arm_versions(before)

    @rule(unit=UNITS, data=st.data())
    def override_to_an_arm_there_is(self, unit: str, data: st.DataObject) -> None:
        self.ask(SetOverrides({unit: data.draw(st.sampled_from(sorted(arm_versions(self.release.policy))))}))

    @rule(version=VERSIONS)
    def prepare_standby(self, version: int) -> None:
        self.ask(PrepareStandby(version))

    @precondition(lambda self: self.release.policy.standby is not None)
    @rule()
    def flip(self) -> None:
        before = self.release
        if not self.ask(Flip()):
            assert before.paused or before.policy.standby in self.broken
            return
        after = self.release.policy
        assert (after.stable, after.standby) == (before.policy.standby, None)
        self.switched_from(before.policy)

    @precondition(lambda self: self.release.policy.canaries)
    @rule(data=st.data())
    def promote(self, data: st.DataObject) -> None:
        before = self.release
        version = data.draw(st.sampled_from(before.policy.canaries)).version
        if not self.ask(Promote(version)):
            assert before.paused or version in self.broken
            return
        assert self.release.policy.stable == version
        assert self.release.policy.standby == (None if before.policy.standby == version else before.policy.standby)
        self.switched_from(before.policy)

    def switched_from(self, before: Policy) -> None:
        """Another version is stable: canaries keep their units, and what named an arm that ended is gone."""
        after = self.release.policy
        assert self.release.rollback == before
        kept = {canary.version for canary in before.canaries} - {after.stable}
        assert {canary.version for canary in after.canaries} == kept
        for version in kept:
            assert owned(after, version) == owned(before, version)
        lives = arm_versions(after)
        assert after.overrides == {unit: arm for unit, arm in before.overrides.items() if arm in lives}
        assert after.rules == tuple(rule for rule in before.rules if rule.arm in lives)

    @rule(pieces=DECLARED)
    def declare_pieces(self, pieces: dict[str, object]) -> None:
        self.declare(Declare(Declared(**pieces), tuple(pieces)))  # type: ignore[arg-type] # as the strategy has them

    @rule(data=st.data())
    def declare_all(self, data: st.DataObject) -> None:
        self.declare(Declare(data.draw(sensible(self.release.policy)), PIECES))

    def declare(self, command: Declare) -> None:
        before, wanted = self.release.policy, command.declared
        if not self.ask(command) and self.refusal:
            return
        after = of_policy(self.release.policy)
        expected = settled(wanted, of_policy(before))
        for piece in set(command.mask) - {"salt"}:
            assert getattr(after, piece) == getattr(expected, piece)
        if "canaries" in command.mask and "salt" in command.mask:
            assert expected.salt in ("", after.salt)
        for canary in before.canaries:
            if canary.version in after.canaries:
                had, has = owned(before, canary.version), owned(self.release.policy, canary.version)
                assert had <= has or has <= had
                assert self.release.policy.salt == before.salt
        if before.holdout and self.release.policy.holdout:
            assert held(before) <= held(self.release.policy) or held(before) >= held(self.release.policy)
            assert self.release.policy.holdout.version == before.holdout.version
        assert not self.ask(command), "once is enough"
        assert not self.refusal

    @precondition(lambda self: self.release.policy.canaries)
    @rule()
    def abort(self) -> None:
        before = self.release.policy
        assert self.ask(Abort()), "whatever is broken"
        after = self.release.policy
        assert (after.stable, after.canaries, after.standby) == (before.stable, (), None)
        assert after.shadows == before.shadows

    @precondition(lambda self: len(self.facts) % 4 == 3)
    @rule()
    def pause(self) -> None:
        """Now and then: much cannot be done meanwhile."""
        self.ask(Pause())
        assert self.release.paused

    @precondition(lambda self: self.release.paused)
    @rule()
    def resume(self) -> None:
        self.ask(Resume())
        assert not self.release.paused

    @rule(share=SHARES)
    def set_holdout(self, share: int) -> None:
        before = self.release.policy
        if not self.ask(SetHoldout(share)):
            return
        had, has = held(before), held(self.release.policy)
        assert len(has) == share
        assert had <= has or has <= had
        now = self.release.policy.holdout
        assert now is not None
        assert now.version == (before.holdout.version if before.holdout else before.stable)

    @precondition(lambda self: self.release.policy.holdout is not None)
    @rule()
    def remove_holdout(self) -> None:
        assert self.ask(RemoveHoldout()), "whatever is broken"
        assert self.release.policy.holdout is None

    @precondition(lambda self: self.release.rollback is not None)
    @rule()
    def rollback(self) -> None:
        wanted = self.release.rollback
        if not self.ask(Rollback()):
            self.only_readiness_stands_in_the_way(wanted)
            return
        assert self.release.policy == wanted
        assert self.release.rollback is None

    @rule(data=st.data())
    def rollback_to(self, data: st.DataObject) -> None:
        revision = data.draw(st.integers(max(1, len(self.stored) - 8), len(self.stored)))
        before, wanted = self.release, self.kept(revision)
        if not self.ask(Rollback(revision, wanted)):
            assert before.policy == wanted or self.only_readiness_stands_in_the_way(wanted)
        else:
            assert self.release.policy == wanted
        assert self.release.paused == before.paused

    def only_readiness_stands_in_the_way(self, wanted: Policy | None) -> bool:
        """Of a version that would answer, and has not been stable: a broken shadow or standby holds nothing up."""
        assert wanted is not None
        assert self.refusal == "NOT_READY"
        answering = {wanted.stable, *claims(wanted)} - {self.release.policy.stable}
        assert answering & self.broken
        return True

    @invariant()
    def policies_are_sound(self) -> None:
        for policy in (self.release.policy, self.release.rollback):
            if policy is None or not self.release.revision:
                continue
            assert policy.stable >= 1
            roles = [canary.version for canary in policy.canaries], [shadow.version for shadow in policy.shadows]
            for versions in (*roles, [policy.standby]):
                assert policy.stable not in versions
                assert len(set(versions)) == len(versions)
            assert all(0 < shadow.rate <= 1 for shadow in policy.shadows)
            assert bool(policy.salt) == bool(policy.canaries)
            assert policy.holdout is None or policy.holdout.ranges
            assert set(policy.overrides.values()) <= arm_versions(policy).keys()
            assert {rule.arm for rule in policy.rules} <= arm_versions(policy).keys()

    @invariant()
    def declared_as_it_is_nothing_changes(self) -> None:
        if self.release.revision:
            assert apply(self.release, Declare(of_policy(self.release.policy)), 0) == (self.release, ())

    @invariant()
    def ranges_never_overlap(self) -> None:
        ranges = [found for canary in self.release.policy.canaries for found in canary.ranges]
        end = 0
        for found in sorted(ranges, key=lambda one: one.start):
            assert end <= found.start < found.end <= BUCKETS
            end = found.end
        assert all(canary.ranges for canary in self.release.policy.canaries)

    @invariant()
    def facts_lead_to_the_state(self) -> None:
        assert replay(self.facts, unborn("iris")) == msgspec.structs.replace(self.release, sequence=0)

    @invariant()
    def what_is_stored_leads_to_the_state(self) -> None:
        """Facts made of nothing but bodies, read back: what a store has is enough to build everything anew."""
        states = [unborn("iris"), *self.stored]
        facts = [Fact(fact.verb, *pair) for fact, *pair in zip(self.facts, states, states[1:], strict=False)]
        assert replay(facts, unborn("iris")) == self.release


ReleaseMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestRelease = ReleaseMachine.TestCase
