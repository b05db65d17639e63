"""Declarations of releases, and what differs between two."""

import msgspec

from gateway.controlplane.commands import Declare, Declared, Hold
from gateway.controlplane.declared import SHOWN, described, difference, of_policy, overrides_stray, settled
from gateway.controlplane.release import apply
from gateway.routing.snapshot import Assignment, Canary, Holdout, Policy, Range, Release, Rule, Shadow

POLICY = Policy(
    *(1, (Canary(2, (Range(0, 100), Range(200, 350))),), (Shadow(3, 0.5),), 4, "iris/2", {"ann": "stable"}),
    holdout=Holdout(1, (Range(0, 50),), "iris/holdout/1"),
    rules=(Rule("x-team", ("qa", "dev"), "canary-2"),),
    assignment=Assignment(("x-tenant",), (), "stable", False),
    timeout_ms=250,
)
DECLARED = Declared(
    stable=1,
    canaries={2: 250},
    shadows={3: 0.5},
    standby=4,
    salt="iris/2",
    holdout=Hold(50, 1),
    rules=POLICY.rules,
    assignment=POLICY.assignment,
    timeout_ms=250,
    overrides={"ann": "stable"},
)


def test_a_policy_is_declared_by_its_shares() -> None:
    assert of_policy(POLICY) == DECLARED
    assert apply(Release("iris", 7, POLICY), Declare(DECLARED), 9) == (Release("iris", 7, POLICY), ())


def test_everything_there_is_has_a_line() -> None:
    assert described(DECLARED) == [
        "stable: 1",
        "canary 2: 2.5 %",
        "salt: iris/2",
        "shadow 3: 0.5 of the requests",
        "standby: 4",
        "holdout of 1: 0.5 %",
        'rule 1: x-team = ["qa", "dev"] goes to canary-2',
        "units by allow_forced: false",
        'units by metadata: ["x-tenant"]',
        "units by no_unit: stable",
        "units by parameters: []",
        "timeout: 250 ms",
        "override ann: stable",
    ]


def test_what_is_added_what_ends_and_what_becomes_another() -> None:
    wanted = Declared(
        stable=2,
        canaries={3: 10},
        shadows={3: 1.0},
        standby=4,
        holdout=Hold(100),
        rules=(Rule("x", ("y",), "stable"), *POLICY.rules),
        overrides={"ann": "canary-3", "bob": "stable"},
    )
    assert difference(DECLARED, wanted) == [
        "~ stable: 1 -> 2",
        "- canary 2: 2.5 %",
        "+ canary 3: 0.1 %",
        "~ shadow 3: 0.5 of the requests -> 1.0 of the requests",
        "~ holdout of 1: 0.5 % -> 1 %",
        '+ rule 1: x = ["y"] goes to stable',
        "- units by allow_forced: false",
        '- units by metadata: ["x-tenant"]',
        "- units by no_unit: stable",
        "- units by parameters: []",
        "- timeout: 250 ms",
        "~ override ann: stable -> canary-3",
        "+ override bob: stable",
    ]


def test_what_is_left_to_the_release_is_no_difference() -> None:
    wanted = Declared(stable=1, canaries={2: 250}, holdout=Hold(50))
    now = Declared(stable=1, canaries={2: 250}, salt="iris/2", holdout=Hold(50, 1))
    assert settled(wanted, now) == now
    assert difference(now, wanted) == []
    assert difference(Declared(stable=5), Declared(stable=6, holdout=Hold(1)))[1] == "+ holdout of 5: 0.01 %"


def test_another_order_of_rules_is_a_difference_and_one_of_canaries_none() -> None:
    first, second = Rule("x", ("a",), "stable"), Rule("x", ("b",), "stable")
    lines = difference(Declared(rules=(first, second)), Declared(rules=(second, first)))
    assert (
        sorted(lines) == ['+ rule 1: x = ["b"] goes to stable', '- rule 2: x = ["b"] goes to stable'] or len(lines) == 2
    )
    assert difference(Declared(canaries={2: 1, 3: 1}), Declared(canaries={3: 1, 2: 1})) == []


def test_of_many_overrides_the_first_are_shown() -> None:
    lines = difference(Declared(), Declared(overrides={f"user-{number:03}": "stable" for number in range(100)}))
    assert len(lines) == SHOWN + 1
    assert (lines[0], lines[-1]) == ("+ override user-000: stable", "~ 80 more overrides")


def test_overrides_that_stay_are_said_again_where_their_arm_does_not() -> None:
    def strays(arm: str, after: Declared) -> bool:
        return overrides_stray(DECLARED, msgspec.structs.replace(after, overrides={"ann": arm}))

    assert not any(strays(arm, DECLARED) for arm in ("stable", "canary-2", "standby", "holdout"))
    assert not strays("holdout", msgspec.structs.replace(DECLARED, holdout=Hold(50))), "it keeps its version"
    assert strays("canary-2", msgspec.structs.replace(DECLARED, canaries={}))
    assert strays("standby", msgspec.structs.replace(DECLARED, stable=4, standby=5)), (
        "the one it was has been flipped to"
    )
    assert strays("holdout", msgspec.structs.replace(DECLARED, holdout=None))
    assert not strays("stable", Declared(stable=2)), "it follows stable"
