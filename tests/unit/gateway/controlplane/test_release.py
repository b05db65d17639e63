"""The rules of a release, one by one."""

import math

import msgspec
import pytest

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
from gateway.routing.snapshot import Canary, Holdout, Policy, Range, Release, Rule, Shadow

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
    ("command", "reason", "why"),
    [
        (Register(2), "HAS_RELEASE", "has a release already"),
        (SetShadow(1, 1.0), "IS_STABLE", "cannot be its own shadow"),
        (SetCanary(1, 1), "IS_STABLE", "cannot be its own canary"),
        (PrepareStandby(1), "IS_STABLE", "cannot be its own standby"),
        (Promote(1), "IS_STABLE", "cannot be its own canary"),
        (RemoveShadow(2), "NO_SUCH_SHADOW", "version 2 is no shadow of iris"),
        (RemoveCanary(2), "NO_SUCH_ARM", "version 2 is no canary of iris"),
        (Promote(2), "NO_SUCH_ARM", "version 2 is no canary of iris"),
        (RemoveHoldout(), "NO_SUCH_ARM", "iris has no holdout"),
        (SetOverrides({"ann": "holdout"}), "NO_SUCH_ARM", "no arm 'holdout'"),
        (Flip(), "NO_STANDBY", "no standby to flip to; prepare one first"),
        (Rollback(), "NOTHING_TO_ROLL_BACK", "nothing to roll back to: no flip or promote since"),
        (Rollback(2), "NO_SUCH_REVISION", "iris has no revision 2; it is at revision 1"),
        (Rollback(1), "NO_SUCH_REVISION", "the store has not kept revision 1 of iris"),
    ],
)
def test_refused(command: Command, reason: str, why: str) -> None:
    with pytest.raises(Refused, match=why) as caught:
        apply(FIRST, command, 7)
    assert caught.value.reason == reason


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
        (Promote(0), "positive integer"),
        (SetHoldout(0), "basis_points must be 1 to 10000.*to end a holdout, remove it"),
        (Rollback(-1, Policy(stable=1)), "revision must be a positive integer, not -1"),
    ],
)
def test_invalid(command: Command, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        apply(FIRST, command, 7)
    with pytest.raises(InvalidRequest):
        apply(unborn("iris"), Register(0), 7)


@pytest.mark.parametrize("command", [SetShadow(2, 0.5), SetCanary(3, 100), PrepareStandby(4), SetHoldout(50), Resume()])
def test_asking_for_what_already_is_changes_nothing(command: Command) -> None:
    release = after(SetShadow(2, 0.5), SetCanary(3, 100), PrepareStandby(4), SetHoldout(50))
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


def test_the_place_that_the_store_gave_a_release_is_no_gap() -> None:
    first, (registered,) = apply(unborn("iris"), Register(1), 7)
    stored = msgspec.structs.replace(first, sequence=40)
    second, (paused,) = apply(stored, Pause(), 8)
    assert second.sequence == 0
    assert replay([registered, paused], unborn("iris")) == second


def test_a_promote_makes_a_canary_stable_and_keeps_the_others_and_the_way_back() -> None:
    before = after(
        *(SetShadow(2, 1.0), SetShadow(3, 1.0), SetCanary(2, 100), SetCanary(4, 100), PrepareStandby(5)),
        SetOverrides({"ann": "canary-2", "bob": "canary-4", "eve": "standby"}),
    )
    release = after(Promote(2), release=before)
    assert release.policy == Policy(
        *(2, (Canary(4, (Range(100, 200),)),), (Shadow(3, 1.0),), 5, "iris/2", {"bob": "canary-4", "eve": "standby"}),
    )
    assert release.rollback == before.policy
    assert after(Rollback(), release=release).policy == before.policy


def test_a_promoted_version_does_not_stand_by_any_more() -> None:
    ready = after(SetCanary(2, 100), PrepareStandby(2), SetOverrides({"ann": "standby"}))
    assert after(Promote(2), release=ready).policy == Policy(stable=2)


def test_an_abort_leaves_stable_its_shadows_and_the_holdout() -> None:
    before = after(
        *(SetShadow(2, 1.0), SetHoldout(10), SetCanary(2, 100), SetCanary(4, 100), PrepareStandby(5)),
        SetOverrides({"ann": "canary-2", "bob": "stable", "eve": "standby", "joe": "holdout"}),
    )
    release = after(Abort(), release=before)
    assert release.policy == Policy(
        *(1, (), (Shadow(2, 1.0),)),
        overrides={"bob": "stable", "joe": "holdout"},
        holdout=Holdout(1, (Range(0, 10),), "iris/holdout/1"),
    )
    assert apply(release, Abort(), 9) == (release, ())


def test_a_holdout_keeps_its_version_and_its_units() -> None:
    release = after(SetHoldout(100), PrepareStandby(2), Flip(), SetCanary(3, 500), Promote(3), SetHoldout(150))
    assert release.policy.holdout == Holdout(1, (Range(0, 150),), "iris/holdout/1")
    release = after(SetHoldout(20), SetOverrides({"ann": "holdout"}), release=release)
    assert release.policy.holdout == Holdout(1, (Range(0, 20),), "iris/holdout/1")
    assert after(RemoveHoldout(), release=release).policy == Policy(stable=3)
    assert after(RemoveHoldout(), SetHoldout(5), release=release).policy.holdout == Holdout(
        3, (Range(0, 5),), "iris/holdout/3"
    )


def test_rules_end_with_their_arms() -> None:
    rules = (Rule("x-team", ("qa",), "canary-2"), Rule("x-team", ("dev",), "stable"), Rule("x-beta", ("1",), "standby"))
    ready = after(SetCanary(2, 100), PrepareStandby(3))
    ruled = msgspec.structs.replace(ready, policy=msgspec.structs.replace(ready.policy, rules=rules))
    assert after(RemoveCanary(2), release=ruled).policy.rules == rules[1:]
    assert after(Promote(2), release=ruled).policy.rules == rules[1:]
    assert after(Flip(), release=ruled).policy.rules == rules[:2]
    assert after(Abort(), release=ruled).policy.rules == rules[1:2]


def test_a_rollback_to_a_revision_restores_its_policy_whole() -> None:
    second = after(SetCanary(2, 100), SetHoldout(10))
    release = after(PrepareStandby(2), Flip(), PrepareStandby(3), Flip(), release=second)
    back = after(Rollback(second.revision, second.policy), release=release)
    assert back.policy == second.policy
    assert back.rollback is None, "what was kept is of another stable version"
    assert back.revision == release.revision + 1


def test_a_rollback_to_a_revision_of_the_same_stable_version_keeps_the_way_back() -> None:
    release = after(PrepareStandby(2), Flip(), SetCanary(3, 10))
    back = after(Rollback(3, Policy(stable=2)), release=release)
    assert (back.policy, back.rollback) == (Policy(stable=2), release.rollback)
    assert apply(back, Rollback(3, Policy(stable=2)), 9) == (back, ())


def test_a_pause_lasts_until_the_resume_whatever_is_rolled_back() -> None:
    paused = after(PrepareStandby(2), Flip(), Pause())
    assert (paused.paused, paused.revision) == (True, 4)
    assert after(Rollback(), release=paused).paused
    assert not after(Rollback(), Resume(), release=paused).paused
    assert apply(paused, Pause(), 9) == (paused, ())


def test_while_paused_less_is_possible_and_more_is_not() -> None:
    paused = after(SetCanary(2, 100), PrepareStandby(2), Pause())
    with pytest.raises(Refused, match="iris is paused, and version 2 would become stable; resume it first") as caught:
        apply(paused, Flip(), 9)
    assert caught.value.reason == "PAUSED"
    assert after(SetCanary(2, 50), Abort(), release=paused).policy == Policy(stable=1)
