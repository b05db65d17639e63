"""The override list, rule by rule. `release.apply` uses it: tests/properties/test_release.py."""

import pytest

from gateway.controlplane import overrides
from gateway.controlplane.commands import Command, Flip, PrepareStandby, RemoveCanary, Rollback, SetCanary, SetOverrides
from gateway.controlplane.overrides import changed, check_all, without
from gateway.controlplane.release import apply
from gateway.errors import InvalidRequest, Refused
from gateway.routing.snapshot import Canary, Policy, Range, Release

POLICY = Policy(
    stable=1,
    canaries=(Canary(2, (Range(0, 100),)),),
    standby=3,
    salt="iris/2",
    overrides={"ann": "stable", "bob": "canary-2", "eve": "standby"},
)
RELEASE = Release("iris", 5, POLICY)


def left(*commands: Command, release: Release = RELEASE) -> dict[str, str]:
    """The overrides after the commands."""
    for command in commands:
        release, _ = apply(release, command, 7)
    return release.policy.overrides


def test_entries_are_added_replaced_and_removed_and_the_others_stay() -> None:
    command = SetOverrides({"ann": "canary-2", "joe": "stable"}, ("eve", "nobody"))
    assert left(command) == {"ann": "canary-2", "bob": "canary-2", "joe": "stable"}
    assert POLICY.overrides["ann"] == "stable", "the release before is what it was"


def test_asking_for_what_is_changes_nothing() -> None:
    assert apply(RELEASE, SetOverrides({"ann": "stable"}, ("nobody",)), 7) == (RELEASE, ())


@pytest.mark.parametrize("arm", ["canary-9", "shadow", "", "Stable"])
def test_an_arm_must_exist(arm: str) -> None:
    with pytest.raises(Refused, match=f"iris has no arm '{arm}'; it has stable, canary-2, standby"):
        changed(RELEASE, SetOverrides({"ann": arm}))


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (SetOverrides(), "neither units to override nor units to remove"),
        (SetOverrides({"": "stable"}), "a unit is empty"),
        (SetOverrides({}, ("",)), "a unit is empty"),
        (SetOverrides({"ü" * 129: "stable"}), "has 258 bytes; at most 256 are kept"),
        (SetOverrides({"a\nb": "stable"}), "cannot be printed"),
        (SetOverrides({"joe": "stable"}, ("joe",)), "unit 'joe' is to be overridden and removed at once"),
    ],
)
def test_what_is_no_unit_is_refused(command: SetOverrides, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        changed(RELEASE, command)


def test_there_is_a_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overrides, "MAX_OVERRIDES", 4)
    assert len(left(SetOverrides({"joe": "stable"}))) == 4
    with pytest.raises(Refused, match="iris would have 5 overrides; at most 4 are kept"):
        changed(RELEASE, SetOverrides({"joe": "stable", "zoe": "stable"}))


def test_there_is_a_most_of_all_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overrides, "MAX_ALL_OVERRIDES", 6)
    check_all([RELEASE, RELEASE])
    with pytest.raises(Refused, match="all models together would have 9 overrides; at most 6 are kept"):
        check_all([RELEASE] * 3)


def test_what_a_rollback_would_bring_back_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a list could be put away behind a flip, and the next one be made."""
    monkeypatch.setattr(overrides, "MAX_ALL_OVERRIDES", 6)
    few = Policy(stable=2, overrides={"ann": "stable"})
    flipped = Release("iris", 6, few, rollback=POLICY)
    check_all([flipped, flipped])
    check_all([Release("iris", 6, POLICY, rollback=few)] * 2)
    with pytest.raises(Refused, match="all models together would have 9 overrides; at most 6 are kept"):
        check_all([flipped] * 3)


def test_an_override_ends_with_its_arm() -> None:
    assert left(RemoveCanary(2)) == {"ann": "stable", "eve": "standby"}
    assert left(SetCanary(2, 1)) == POLICY.overrides
    assert left(Flip()) == {"ann": "stable", "bob": "canary-2"}, "the other canary lives on"
    assert left(PrepareStandby(2), Flip()) == {"ann": "stable"}, "both arms of version 2 have ended"


def test_a_rollback_brings_back_the_list_of_that_time() -> None:
    assert left(PrepareStandby(2), Flip(), SetOverrides({"joe": "stable"}), Rollback()) == POLICY.overrides


def test_a_policy_without_overrides_to_an_arm_stays_the_same_object() -> None:
    assert without(POLICY, "canary-7") is POLICY
