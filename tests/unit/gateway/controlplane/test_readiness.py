"""Which pools a change waits for."""

import msgspec
import pytest

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
    RemoveCanary,
    RemoveHoldout,
    Rollback,
    SetCanary,
    SetHoldout,
    SetOverrides,
    SetShadow,
)
from gateway.controlplane.readiness import Needed, at_hand, grown, pools_needed
from gateway.controlplane.release import apply
from gateway.routing.snapshot import Canary, Holdout, Policy, Range, Release, Rule, Shadow

CANARIES = (Canary(2, (Range(0, 100),)),)
POLICY = Policy(stable=1, canaries=CANARIES, shadows=(Shadow(3, 0.5),), standby=4, salt="iris/2")
RELEASE = Release(
    "iris", 5, POLICY, rollback=Policy(stable=7, canaries=CANARIES, shadows=(Shadow(8, 1.0),), salt="iris/2")
)


def asked(release: Release, command: Command) -> tuple[Needed, ...]:
    return pools_needed(release.policy, apply(release, command, 7)[0].policy, command)


def live(*versions: int) -> tuple[Needed, ...]:
    return tuple(Needed(version, shadow=False) for version in versions)


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        (SetCanary(2, 200), live(2)),
        (SetCanary(2, 100), live(2)),
        (SetCanary(2, 99), ()),
        (SetCanary(5, 1), live(5)),
        (RemoveCanary(2), ()),
        (SetShadow(3, 1.0), (Needed(3, shadow=True),)),
        (SetShadow(3, 0.5), (Needed(3, shadow=True),)),
        (SetShadow(3, 0.4), ()),
        (SetShadow(5, 0.4), (Needed(5, shadow=True),)),
        (PrepareStandby(5), live(5)),
        (PrepareStandby(4), live(4)),
        (SetOverrides({"a": "canary-2", "b": "standby", "c": "stable"}), live(2, 4)),
        (SetOverrides({"c": "stable"}, ("a",)), ()),
        (Flip(), live(4)),
        (Rollback(), live(7)),
        (Rollback(2, Policy(stable=9)), live(9)),
        (Promote(2), live(2)),
        (SetHoldout(100), ()),
        (Abort(), ()),
        (Pause(), ()),
        (Declare(Declared(stable=1, canaries={2: 50, 5: 1}, shadows={3: 0.6}, standby=6)),
         (*live(5), Needed(3, shadow=True), *live(6))),
        (Declare(Declared(stable=8, holdout=Hold(100)), ("stable", "holdout")), live(8)),
        (Declare(Declared(stable=1, holdout=Hold(100, 9))), live(9)),
        (Declare(Declared(rules=(Rule("x", ("y",), "standby"), Rule("x", ("z",), "stable"))), ("rules",)), live(4)),
    ],
)  # fmt: skip
def test_what_gets_more_traffic_must_be_ready(command: Command, needed: tuple[Needed, ...]) -> None:
    assert asked(RELEASE, command) == needed


def test_the_way_back_waits_for_whoever_gets_more_but_not_for_the_version_that_is_left() -> None:
    flipped = Policy(stable=2, canaries=(Canary(3, (Range(0, 100),)),), salt="iris/3")
    canaries = (Canary(3, (Range(0, 100),)), Canary(2, (Range(100, 600),)))
    before = Policy(stable=1, canaries=canaries, standby=2, shadows=(Shadow(5, 1.0),), salt="iris/3")
    assert asked(Release("iris", 5, flipped, rollback=before), Rollback()) == live(1)
    less = Policy(stable=2, canaries=(Canary(3, (Range(0, 99),)),), salt="iris/3")
    assert asked(Release("iris", 5, less, rollback=before), Rollback()) == live(1, 3)


def test_a_holdout_waits_for_its_version_where_it_grows() -> None:
    held = Release("iris", 5, Policy(stable=2, holdout=Holdout(1, (Range(0, 100),), "iris/holdout/1")))
    assert asked(held, SetHoldout(101)) == live(1)
    assert asked(held, SetHoldout(99)) == ()
    assert asked(held, RemoveHoldout()) == ()
    gone = Release("iris", 5, Policy(stable=2), rollback=held.policy)
    assert asked(gone, Rollback()) == live(1)
    assert asked(held, Rollback(1, held.policy)) == ()


def test_as_many_units_but_others_are_more() -> None:
    moved = msgspec.structs.replace(POLICY, canaries=(Canary(2, (Range(50, 150),)),))
    assert grown(POLICY, moved) == live(2)
    assert grown(POLICY, msgspec.structs.replace(POLICY, salt="iris/9")) == live(2)
    inside = msgspec.structs.replace(POLICY, canaries=(Canary(2, (Range(90, 95), Range(0, 10))),))
    assert grown(POLICY, inside) == ()


def test_whoever_is_sent_to_an_arm_follows_it_to_another_version() -> None:
    sent = msgspec.structs.replace(POLICY, overrides={"ann": "standby"}, rules=(Rule("x", ("y",), "standby"),))
    other = msgspec.structs.replace(sent, standby=5)
    assert (grown(sent, other), at_hand(sent, other)) == (live(5), live(5))
    assert grown(sent, msgspec.structs.replace(sent, rules=())) == ()
    longer = msgspec.structs.replace(sent, rules=(Rule("x", ("y", "z"), "standby"),))
    assert grown(sent, longer) == live(4)


def test_of_two_rules_for_the_same_the_first_counts() -> None:
    first, second = Rule("x", ("y",), "canary-2"), Rule("x", ("y",), "standby")
    ruled = msgspec.structs.replace(POLICY, rules=(first,))
    assert grown(ruled, msgspec.structs.replace(ruled, rules=(first, second))) == ()
    assert grown(ruled, msgspec.structs.replace(ruled, rules=(second, first))) == live(4)


def test_what_is_declared_as_it_is_needs_nothing() -> None:
    same = Declared(stable=1, canaries={2: 100}, shadows={3: 0.5}, standby=4)
    assert asked(RELEASE, Declare(same, PIECES)) == ()
