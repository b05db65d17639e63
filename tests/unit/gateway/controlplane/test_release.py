"""The rules of a release, one by one."""

import math

import pytest

from gateway.controlplane.commands import (
    Command,
    Flip,
    PrepareStandby,
    Register,
    RemoveCanary,
    RemoveShadow,
    Rollback,
    SetCanary,
    SetShadow,
)
from gateway.controlplane.release import Fact, apply, replay, unborn
from gateway.errors import InvalidRequest, Refused
from gateway.routing.snapshot import Canary, Policy, Range, Release, Shadow

FIRST = Release("iris", 1, Policy(stable=1), updated_ms=5)


def after(*commands: Command, release: Release = FIRST) -> Release:
    for command in commands:
        release, _ = apply(release, command, 7)
    return release


def test_a_model_is_born_with_one_version_for_everybody() -> None:
    release, facts = apply(unborn("iris"), Register(1), 5)
    assert release == FIRST
    assert facts == (Fact("register", unborn("iris"), FIRST),)


def test_a_model_is_born_once() -> None:
    with pytest.raises(Refused, match="iris has a release already, at revision 1"):
        apply(FIRST, Register(2), 7)


def test_nothing_else_can_be_done_to_a_model_without_a_release() -> None:
    with pytest.raises(Refused, match="no release yet"):
        apply(unborn("iris"), Flip(), 7)


def test_a_change_has_one_fact_a_revision_and_a_time() -> None:
    release, facts = apply(FIRST, SetShadow(2, 0.5), 7)
    assert release == Release("iris", 2, Policy(stable=1, shadows=(Shadow(2, 0.5),)), updated_ms=7)
    assert facts == (Fact("set-shadow", FIRST, release),)


def test_shadows_are_added_changed_and_removed_one_by_one() -> None:
    release = after(SetShadow(2, 0.5), SetShadow(3, 1.0), SetShadow(2, 0.1))
    assert release.policy.shadows == (Shadow(2, 0.1), Shadow(3, 1.0))
    assert after(RemoveShadow(2), release=release).policy.shadows == (Shadow(3, 1.0),)


def test_the_first_canary_sets_the_salt_and_the_last_clears_it() -> None:
    first = after(SetCanary(2, 1_000))
    assert first.policy.canaries == (Canary(2, (Range(0, 1_000),)),)
    assert first.policy.salt == "iris/2"
    second = after(SetCanary(3, 500), RemoveCanary(2), release=first)
    assert second.policy.canaries == (Canary(3, (Range(1_000, 1_500),)),)
    assert second.policy.salt == "iris/2"
    assert after(RemoveCanary(3), release=second).policy.salt == ""


def test_growing_canaries_step_over_each_other() -> None:
    release = after(SetCanary(2, 100), SetCanary(3, 100), SetCanary(2, 300))
    assert release.policy.canaries == (
        Canary(2, (Range(0, 100), Range(200, 400))),
        Canary(3, (Range(100, 200),)),
    )


def test_a_shrinking_canary_gives_the_newest_back_and_the_next_takes_it() -> None:
    release = after(SetCanary(2, 100), SetCanary(3, 100), SetCanary(2, 300), SetCanary(2, 50), SetCanary(3, 200))
    assert release.policy.canaries == (
        Canary(2, (Range(0, 50),)),
        Canary(3, (Range(100, 200), Range(50, 100), Range(200, 250))),
    )


def test_a_canary_may_have_everybody() -> None:
    assert after(SetCanary(2, 10_000)).policy.canaries[0].basis_points == 10_000


def test_shares_above_everybody_are_refused_with_the_sum_and_the_arms() -> None:
    release = after(SetCanary(2, 6_000), SetCanary(3, 1_000))
    with pytest.raises(Refused, match=r"add up to 110\.5 % \(canary-2 60 %, canary-3 50\.5 %\); lower"):
        apply(release, SetCanary(3, 5_050), 7)


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (SetShadow(1, 1.0), "cannot be its own shadow"),
        (SetCanary(1, 1), "cannot be its own canary"),
        (PrepareStandby(1), "cannot be its own standby"),
        (RemoveShadow(2), "version 2 is no shadow of iris"),
        (RemoveCanary(2), "version 2 is no canary of iris"),
        (Flip(), "no standby to flip to; prepare one first"),
        (Rollback(), "nothing to roll back to"),
    ],
)
def test_refused(command: Command, why: str) -> None:
    with pytest.raises(Refused, match=why):
        apply(FIRST, command, 7)


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (SetShadow(0, 1.0), "version must be a positive integer, not 0"),
        (RemoveShadow(-1), "positive integer, not -1"),
        (SetCanary(0, 1), "positive integer"),
        (RemoveCanary(0), "positive integer"),
        (PrepareStandby(0), "positive integer"),
        (SetShadow(2, 0.0), "rate must be above 0 and at most 1, not 0; to stop copies, remove the shadow"),
        (SetShadow(2, -0.1), "not -0.1"),
        (SetShadow(2, 1.01), "not 1.01"),
        (SetShadow(2, math.nan), "not nan"),
        (SetShadow(2, math.inf), "not inf"),
        (SetCanary(2, 0), "basis_points must be 1 to 10000.*to end a canary, remove it"),
        (SetCanary(2, 10_001), "not 10001"),
    ],
)
def test_invalid(command: Command, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        apply(FIRST, command, 7)
    with pytest.raises(InvalidRequest):
        apply(unborn("iris"), Register(0), 7)


@pytest.mark.parametrize("command", [SetShadow(2, 0.5), SetCanary(3, 100), PrepareStandby(4)])
def test_asking_for_what_already_is_changes_nothing(command: Command) -> None:
    release = after(SetShadow(2, 0.5), SetCanary(3, 100), PrepareStandby(4))
    assert apply(release, command, 99) == (release, ())


def test_one_version_may_be_shadow_canary_and_standby() -> None:
    release = after(SetShadow(2, 1.0), SetCanary(2, 100), PrepareStandby(2))
    assert (release.policy.shadows[0].version, release.policy.canaries[0].version, release.policy.standby) == (2, 2, 2)


def test_a_flip_makes_the_standby_stable_and_drops_its_other_roles() -> None:
    before = after(SetShadow(2, 1.0), SetShadow(3, 1.0), SetCanary(2, 100), SetCanary(4, 100), PrepareStandby(2))
    release = after(Flip(), release=before)
    assert release.policy == Policy(
        stable=2, canaries=(Canary(4, (Range(100, 200),)),), shadows=(Shadow(3, 1.0),), salt="iris/2"
    )
    assert release.rollback == before.policy


def test_a_flip_that_dissolves_the_last_canary_clears_the_salt() -> None:
    assert after(SetCanary(2, 100), PrepareStandby(2), Flip()).policy == Policy(stable=2)


def test_a_rollback_restores_the_whole_policy_once() -> None:
    before = after(SetShadow(3, 1.0), SetCanary(2, 100), PrepareStandby(2))
    flipped = after(Flip(), RemoveShadow(3), SetCanary(4, 50), release=before)
    back = after(Rollback(), release=flipped)
    assert back.policy == before.policy
    assert back.rollback is None
    assert back.revision == flipped.revision + 1
    with pytest.raises(Refused, match="nothing to roll back to"):
        apply(back, Rollback(), 7)


def test_a_second_flip_forgets_the_first() -> None:
    release = after(PrepareStandby(2), Flip(), PrepareStandby(3), Flip())
    assert release.rollback == Policy(stable=2, standby=3)


def test_facts_can_be_replayed_and_gaps_are_seen() -> None:
    release = unborn("iris")
    facts: list[Fact] = []
    for command in (Register(1), SetCanary(2, 10), PrepareStandby(2), Flip()):
        release, more = apply(release, command, 7)
        facts += more
    assert replay(facts, unborn("iris")) == release
    with pytest.raises(ValueError, match="fact prepare-standby does not follow revision 1 of iris"):
        replay([facts[0], *facts[2:]], unborn("iris"))
