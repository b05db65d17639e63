"""The policy that comes of a declaration."""

import pytest

from gateway.controlplane.commands import PIECES, Declare, Declared, Hold
from gateway.controlplane.declaring import declared
from gateway.controlplane.release import apply
from gateway.errors import InvalidRequest, Refused
from gateway.routing.snapshot import Assignment, Canary, Holdout, Policy, Range, Release, Rule, Shadow

TEAM = Rule("x-team", ("qa",), "canary-2")
POLICY = Policy(
    *(1, (Canary(2, (Range(0, 100),)), Canary(3, (Range(100, 300),))), (Shadow(4, 0.5),), 5, "iris/2"),
    overrides={"ann": "canary-3", "bob": "standby"},
    holdout=Holdout(1, (Range(0, 50),), "iris/holdout/1"),
    rules=(TEAM,),
    timeout_ms=100,
)
RELEASE = Release("iris", 7, POLICY)


def after(wanted: Declared, *mask: str, policy: Policy = POLICY) -> Policy:
    return declared(Release("iris", 7, policy), Declare(wanted, mask or PIECES))


def test_pieces_that_are_not_named_stay() -> None:
    assert after(Declared(timeout_ms=250, canaries={9: 1}), "timeout_ms") == after(
        Declared(stable=1, timeout_ms=250), "stable", "timeout_ms"
    )
    assert after(Declared(timeout_ms=250), "timeout_ms").canaries == POLICY.canaries


def test_a_release_of_nothing_but_a_stable_version() -> None:
    assert after(Declared(stable=1)) == Policy(1)
    assert after(Declared(stable=8)) == Policy(8)


def test_shares_that_shrink_make_room_for_those_that_grow() -> None:
    wide = Policy(1, (Canary(2, (Range(0, 4_000),)), Canary(3, (Range(4_000, 10_000),))), salt="iris/2")
    policy = after(Declared(canaries={2: 9_000, 3: 1_000}), "canaries", policy=wide)
    assert policy.canaries == (
        Canary(2, (Range(0, 4_000), Range(5_000, 10_000))),
        Canary(3, (Range(4_000, 5_000),)),
    )


def test_the_salt_stays_while_a_canary_does() -> None:
    assert after(Declared(canaries={3: 10, 6: 10}), "canaries").salt == "iris/2"
    assert after(Declared(canaries={3: 10}, salt="iris/2"), "canaries", "salt").salt == "iris/2"
    assert after(Declared(canaries={6: 10}), "canaries").salt == "iris/6"
    assert after(Declared(canaries={6: 10}, salt="mine"), "canaries", "salt").salt == "mine"
    assert after(Declared(canaries={6: 10}, salt="mine"), "canaries").salt == "iris/6"
    assert after(Declared(), "canaries", "salt").salt == ""
    with pytest.raises(Refused, match="spread by the salt 'iris/2', which stays while one of them lives") as caught:
        after(Declared(canaries={3: 10, 6: 10}, salt="mine"), "canaries", "salt")
    assert caught.value.reason == "UNITS_STAY"


def test_what_names_an_arm_that_ends_ends_with_it_unless_it_is_declared() -> None:
    policy = after(Declared(canaries={3: 200}), "canaries", "standby")
    assert (policy.overrides, policy.rules, policy.standby) == ({"ann": "canary-3"}, (), None)
    policy = after(Declared(canaries={6: 1}, overrides={"joe": "canary-6"}), "canaries", "overrides")
    assert policy.overrides == {"joe": "canary-6"}


def test_another_stable_version_ends_its_other_roles() -> None:
    policy = after(Declared(stable=5), "stable")
    assert (policy.stable, policy.standby, policy.overrides) == (5, None, {"ann": "canary-3"})
    assert after(Declared(stable=2, canaries={1: 10}), "stable", "canaries").salt == "iris/1"


def test_a_new_holdout_is_of_the_version_that_was_stable() -> None:
    bare = Policy(1)
    assert after(Declared(stable=2, holdout=Hold(10)), policy=bare).holdout == Holdout(
        1, (Range(0, 10),), "iris/holdout/1"
    )
    other = Holdout(4, (Range(0, 10),), "iris/holdout/4")
    assert after(Declared(holdout=Hold(10, 4)), "holdout", policy=bare).holdout == other


def test_a_holdout_changes_in_size_alone() -> None:
    assert after(Declared(holdout=Hold(20)), "holdout").holdout == Holdout(1, (Range(0, 20),), "iris/holdout/1")
    assert after(Declared(), "holdout").holdout is None
    with pytest.raises(Refused, match="is of version 1; end it first, to hold out of 2") as caught:
        after(Declared(holdout=Hold(20, 2)), "holdout")
    assert caught.value.reason == "UNITS_STAY"


def test_shadows_standby_rules_and_units() -> None:
    found = Assignment(("X-Tenant",), ("tenant",), "stable", False)
    wanted = Declared(shadows={6: 1.0, 4: 0.1}, standby=6, rules=(Rule("X-Team", ("a",), "standby"),), assignment=found)
    policy = after(wanted, "shadows", "standby", "rules", "assignment")
    assert policy.shadows == (Shadow(4, 0.1), Shadow(6, 1.0))
    assert (policy.standby, policy.rules) == (6, (Rule("x-team", ("a",), "standby"),))
    assert policy.assignment == Assignment(("x-tenant",), ("tenant",), "stable", False)
    assert after(Declared(), "assignment").assignment is None


@pytest.mark.parametrize(
    ("wanted", "mask", "why"),
    [
        (Declared(), ("stable",), "needs a stable version"),
        (Declared(), ("colour",), "a release has no piece 'colour'; it has stable, canaries"),
        (Declared(salt="mine"), ("salt",), "declare it together with them"),
        (Declared(salt="mine"), ("salt", "canaries"), "no canary is declared"),
        (Declared(canaries={6: 1}, salt="a\n"), ("salt", "canaries"), "must be printable, and of at most 256 bytes"),
        (Declared(canaries={2: 0}), ("canaries",), "basis_points must be 1 to 10000"),
        (Declared(canaries={0: 1}), ("canaries",), "positive integer"),
        (Declared(shadows={6: 0.0}), ("shadows",), "rate must be above 0"),
        (Declared(standby=-1), ("standby",), "positive integer"),
        (Declared(holdout=Hold(0)), ("holdout",), "to end a holdout, remove it"),
        (Declared(holdout=Hold(1, -1)), ("holdout",), "positive integer"),
        (Declared(timeout_ms=-1), ("timeout_ms",), "timeout_ms must be 0 .none. to 86400000"),
        (Declared(timeout_ms=86_400_001), ("timeout_ms",), "not 86400001"),
        (Declared(assignment=Assignment(("a b",))), ("assignment",), "'a b' is no metadata key"),
        (Declared(assignment=Assignment(unit_parameters=("",))), ("assignment",), "no name of a request parameter"),
        (Declared(assignment=Assignment(no_unit="never")), ("assignment",), "must be per-request or stable"),
        (Declared(assignment=Assignment(("a",) * 17)), ("assignment",), "at most 16 metadata keys"),
        (Declared(overrides={"": "stable"}), ("overrides",), "a unit is empty"),
        (Declared(rules=(Rule("a", (), "stable"),)), ("rules",), "has no values"),
    ],
)
def test_invalid(wanted: Declared, mask: tuple[str, ...], why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        after(wanted, *mask)


@pytest.mark.parametrize(
    ("wanted", "mask", "reason"),
    [
        (Declared(canaries={1: 1}), ("canaries",), "IS_STABLE"),
        (Declared(stable=3, canaries={3: 1}), ("stable", "canaries"), "IS_STABLE"),
        (Declared(shadows={1: 1.0}), ("shadows",), "IS_STABLE"),
        (Declared(standby=1), ("standby",), "IS_STABLE"),
        (Declared(canaries={2: 6_000, 3: 4_001}), ("canaries",), "SHARES_TOO_HIGH"),
        (Declared(overrides={"ann": "canary-9"}), ("overrides",), "NO_SUCH_ARM"),
        (Declared(stable=1, overrides={"ann": "canary-2"}), PIECES, "NO_SUCH_ARM"),
        (Declared(rules=(Rule("a", ("b",), "canary-9"),)), ("rules",), "NO_SUCH_ARM"),
    ],
)
def test_refused(wanted: Declared, mask: tuple[str, ...], reason: str) -> None:
    with pytest.raises(Refused) as caught:
        after(wanted, *mask)
    assert caught.value.reason == reason


def test_another_stable_version_can_be_rolled_back_and_all_else_keeps_the_way_back() -> None:
    switched, (fact,) = apply(RELEASE, Declare(Declared(stable=5), ("stable",)), 9)
    assert (fact.verb, switched.rollback) == ("declare", POLICY)
    later, _ = apply(switched, Declare(Declared(timeout_ms=5), ("timeout_ms",)), 9)
    assert later.rollback == POLICY


def test_a_pause_refuses_what_would_be_more() -> None:
    paused = Release("iris", 7, POLICY, paused=True)
    with pytest.raises(Refused, match="version 5 would become stable") as caught:
        apply(paused, Declare(Declared(stable=5), ("stable",)), 9)
    assert caught.value.reason == "PAUSED"
    assert apply(paused, Declare(Declared(stable=1)), 9)[0].policy == Policy(1)
