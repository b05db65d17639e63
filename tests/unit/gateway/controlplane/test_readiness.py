"""Which pools a command waits for."""

import pytest

from gateway.controlplane.commands import (
    Abort,
    Command,
    Flip,
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
from gateway.controlplane.readiness import Needed, pools_needed
from gateway.routing.snapshot import Canary, Holdout, Policy, Range, Release, Shadow

POLICY = Policy(stable=1, canaries=(Canary(2, (Range(0, 100),)),), shadows=(Shadow(3, 0.5),), standby=4, salt="iris/2")
RELEASE = Release("iris", 5, POLICY, rollback=Policy(stable=7, canaries=POLICY.canaries, shadows=(Shadow(8, 1.0),)))


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        (SetCanary(2, 200), (Needed(2, shadow=False),)),
        (SetCanary(2, 100), (Needed(2, shadow=False),)),
        (SetCanary(2, 99), ()),
        (SetCanary(5, 1), (Needed(5, shadow=False),)),
        (RemoveCanary(2), ()),
        (SetShadow(3, 1.0), (Needed(3, shadow=True),)),
        (SetShadow(3, 0.4), ()),
        (SetShadow(5, 0.4), (Needed(5, shadow=True),)),
        (PrepareStandby(5), (Needed(5, shadow=False),)),
        (
            SetOverrides({"a": "canary-2", "b": "standby", "c": "stable"}),
            (Needed(2, shadow=False), Needed(4, shadow=False)),
        ),
        (SetOverrides({"c": "stable"}, ("a",)), ()),
        (Flip(), (Needed(4, shadow=False),)),
        (Rollback(), (Needed(7, shadow=False),)),
        (Rollback(2, Policy(stable=9)), (Needed(9, shadow=False),)),
        (Rollback(2), ()),
        (Promote(2), (Needed(2, shadow=False),)),
        (SetHoldout(100), ()),
        (RemoveHoldout(), ()),
        (Abort(), ()),
        (Pause(), ()),
    ],
)
def test_what_gets_more_traffic_must_be_ready(command: Command, needed: tuple[Needed, ...]) -> None:
    assert pools_needed(RELEASE, command) == needed


@pytest.mark.parametrize("command", [Flip(), Rollback()])
def test_nothing_to_switch_to_needs_nothing(command: Command) -> None:
    assert pools_needed(Release("iris", 1, Policy(stable=1)), command) == ()


def test_the_way_back_waits_for_whoever_gets_more_but_not_for_the_version_that_is_left() -> None:
    flipped = Policy(stable=2, canaries=(Canary(3, (Range(0, 100),)),))
    before = Policy(stable=1, canaries=(Canary(3, (Range(0, 100),)), Canary(2, (Range(100, 600),))), standby=2)
    assert pools_needed(Release("iris", 5, flipped, rollback=before), Rollback()) == (Needed(1, shadow=False),)
    less = Policy(stable=2, canaries=(Canary(3, (Range(0, 99),)),))
    needed = (Needed(1, shadow=False), Needed(3, shadow=False))
    assert pools_needed(Release("iris", 5, less, rollback=before), Rollback()) == needed


def test_a_holdout_waits_for_its_version_where_it_grows() -> None:
    held = Release("iris", 5, Policy(stable=2, holdout=Holdout(1, (Range(0, 100),), "iris/holdout/1")))
    assert pools_needed(held, SetHoldout(101)) == (Needed(1, shadow=False),)
    assert pools_needed(held, SetHoldout(99)) == ()
    gone = Release("iris", 5, Policy(stable=2), rollback=held.policy)
    assert pools_needed(gone, Rollback()) == (Needed(2, shadow=False), Needed(1, shadow=False))
    assert pools_needed(held, Rollback(1, held.policy)) == (Needed(2, shadow=False),)
