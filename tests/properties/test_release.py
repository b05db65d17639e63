"""Whatever is asked of a release in whatever order, its promises hold."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.controlplane.commands import (
    Abort,
    Command,
    Flip,
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
from gateway.controlplane.release import Fact, apply, replay, unborn
from gateway.errors import InvalidRequest, Refused
from gateway.routing.snapshot import BUCKETS, Policy, arm_versions

VERSIONS = st.integers(min_value=0, max_value=5)
UNITS = st.sampled_from(["ann", "bob", "eve", "joe"])
ARMS = st.sampled_from(["stable", "standby", "holdout", *(f"canary-{version}" for version in range(6))])
SHARES = st.one_of(st.integers(-1, BUCKETS + 1), st.integers(1, 3_000))


def owned(policy: Policy, version: int) -> set[int]:
    """The buckets of that version's canary."""
    ranges = [found for canary in policy.canaries if canary.version == version for found in canary.ranges]
    return {bucket for found in ranges for bucket in range(found.start, found.end)}


def held(policy: Policy) -> set[int]:
    """The buckets of the holdout."""
    ranges = policy.holdout.ranges if policy.holdout else ()
    return {bucket for found in ranges for bucket in range(found.start, found.end)}


class ReleaseMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.release = unborn("iris")
        self.facts: list[Fact] = []
        self.history: dict[int, Policy] = {}
        self.now_ms = 0

    def ask(self, command: Command) -> bool:
        """Whether something changed. A refusal must leave no trace."""
        self.now_ms += 1
        before = self.release
        try:
            after, facts = apply(before, command, self.now_ms)
        except (Refused, InvalidRequest):
            return False
        assert len(facts) == (after != before)
        assert after.revision == before.revision + len(facts)
        if not isinstance(command, SetHoldout | RemoveHoldout | Rollback):
            assert after.policy.holdout == before.policy.holdout
        self.release = after
        self.history[after.revision] = after.policy
        self.facts += facts
        return bool(facts)

    @initialize(version=st.integers(1, 5))
    def register(self, version: int) -> None:
        assert self.ask(Register(version))

    @rule(version=VERSIONS)
    def register_again(self, version: int) -> None:
        assert not self.ask(Register(version))

    @rule(version=VERSIONS, rate=st.floats(-0.5, 1.5))
    def set_shadow(self, version: int, rate: float) -> None:
        self.ask(SetShadow(version, rate))

    @rule(version=VERSIONS)
    def remove_shadow(self, version: int) -> None:
        self.ask(RemoveShadow(version))

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
        assert len(again) == canary.basis_points

    @rule(version=VERSIONS)
    def remove_canary(self, version: int) -> None:
        before = self.release.policy
        self.ask(RemoveCanary(version))
        for canary in self.release.policy.canaries:
            assert owned(self.release.policy, canary.version) == owned(before, canary.version)

    @rule(entries=st.dictionaries(UNITS, ARMS, max_size=3), gone=st.sets(UNITS, max_size=2))
    def set_overrides(self, entries: dict[str, str], gone: set[str]) -> None:
        before = self.release.policy
        expected = {unit: arm for unit, arm in (before.overrides | entries).items() if unit not in gone}
        if self.ask(SetOverrides(entries, tuple(gone))):
            assert self.release.policy.overrides == expected
            assert arm_versions(self.release.policy) == arm_versions(before)

    @precondition(lambda self: self.release.policy.standby is not None)
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
        assert self.ask(Flip()) != before.paused
        if before.paused:
            return
        after = self.release.policy
        assert (after.stable, after.standby) == (before.policy.standby, None)
        self.switched_from(before.policy)

    @precondition(lambda self: self.release.policy.canaries)
    @rule(data=st.data())
    def promote(self, data: st.DataObject) -> None:
        before = self.release
        version = data.draw(st.sampled_from(before.policy.canaries)).version
        assert self.ask(Promote(version)) != before.paused
        if before.paused:
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

    @rule()
    def abort(self) -> None:
        before = self.release.policy
        self.ask(Abort())
        after = self.release.policy
        assert (after.stable, after.canaries, after.standby) == (before.stable, (), None)
        assert after.shadows == before.shadows

    @rule()
    def pause(self) -> None:
        self.ask(Pause())
        assert self.release.paused

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
        assert self.ask(RemoveHoldout())
        assert self.release.policy.holdout is None

    @precondition(lambda self: self.release.rollback is not None)
    @rule()
    def rollback(self) -> None:
        wanted = self.release.rollback
        assert self.ask(Rollback())
        assert self.release.policy == wanted
        assert self.release.rollback is None

    @rule(data=st.data())
    def rollback_to(self, data: st.DataObject) -> None:
        revision = data.draw(st.sampled_from(sorted(self.history)))
        before = self.release
        changed = self.ask(Rollback(revision, self.history[revision]))
        assert changed or before.policy == self.history[revision]
        assert self.release.policy == self.history[revision]
        assert self.release.paused == before.paused

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
        assert replay(self.facts, unborn("iris")) == self.release


ReleaseMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestRelease = ReleaseMachine.TestCase
