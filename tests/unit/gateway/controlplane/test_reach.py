"""What counts as more for a version."""

import msgspec

from gateway.controlplane.reach import Gain, copied, gained, matches
from gateway.routing.snapshot import Canary, Holdout, Policy, Range, Rule, Shadow

BEFORE = Policy(
    *(1, (Canary(2, (Range(0, 100),)),), (Shadow(3, 0.5),), 4, "iris/2"),
    overrides={"ann": "standby"},
    holdout=Holdout(9, (Range(0, 10),), "iris/holdout/9"),
    rules=(Rule("x", ("a", "b"), "canary-2"), Rule("x", ("b", "c"), "standby")),
)


def gains(**fields: object) -> list[Gain]:
    return list(gained(BEFORE, msgspec.structs.replace(BEFORE, **fields)))


def test_the_same_is_not_more() -> None:
    assert gains() == list(copied(BEFORE, BEFORE)) == []


def test_less_is_more_for_nobody() -> None:
    assert gains(canaries=(Canary(2, (Range(10, 20),)),)) == []
    assert gains(overrides={}, rules=(), holdout=None) == []


def test_more_is_told_by_how_it_comes() -> None:
    assert gains(stable=5) == [Gain(5, "stable")]
    assert gains(canaries=(Canary(2, (Range(0, 101),)), Canary(6, (Range(200, 201),)))) == [
        Gain(2, "canary"),
        Gain(6, "canary"),
    ]
    assert gains(salt="iris/6") == [Gain(2, "canary")]
    assert gains(holdout=Holdout(9, (Range(5, 11),), "iris/holdout/9")) == [Gain(9, "holdout")]
    assert gains(holdout=Holdout(8, (Range(0, 10),), "iris/holdout/8")) == [Gain(8, "holdout")]
    assert gains(overrides={"ann": "standby", "bob": "canary-2"}) == [Gain(2, "override", "bob")]
    assert gains(rules=(*BEFORE.rules, Rule("x", ("d", "a"), "standby"))) == [Gain(4, "rule", "d")]
    assert list(copied(BEFORE, Policy(1, shadows=(Shadow(3, 0.6), Shadow(2, 0.1))))) == [
        Gain(3, "shadow"),
        Gain(2, "shadow"),
    ]


def test_whoever_is_sent_to_an_arm_follows_it_to_another_version() -> None:
    assert gains(standby=5) == [Gain(5, "override", "ann"), Gain(5, "rule", "c")]


def test_of_rules_the_first_match_wins_and_the_others_wait_for_its_end() -> None:
    assert list(matches(BEFORE)) == [("x", "a", 2), ("x", "b", 2), ("x", "b", 4), ("x", "c", 4)]
    assert gains(rules=BEFORE.rules[1:]) == []
    assert gains(rules=BEFORE.rules[::-1]) == [Gain(4, "rule", "b")]
    assert gains(rules=(*BEFORE.rules, Rule("x", ("a",), "standby"))) == []
    assert gains(rules=(Rule("x", ("a",), "standby"), *BEFORE.rules)) == [Gain(4, "rule", "a")]


def test_a_rule_that_moves_up_past_another_gains_what_both_fit() -> None:
    team, tier, beta = (
        Rule("team", ("qa",), "stable"),
        Rule("tier", ("gold",), "canary-2"),
        Rule("team", ("b",), "standby"),
    )
    before = msgspec.structs.replace(BEFORE, rules=(team, tier, beta))

    def sent(*rules: Rule) -> list[Gain]:
        return list(gained(before, msgspec.structs.replace(before, rules=rules)))

    assert sent(tier, team, beta) == [Gain(2, "rule", "gold")]
    assert sent(team, beta, tier) == [Gain(4, "rule", "b")]
    assert sent(beta, team, tier) == [Gain(4, "rule", "b")], "past tier"
    assert sent(tier, beta) == sent(beta) == sent(team, tier, beta) == []
    assert sent(tier, msgspec.structs.replace(team, arm="canary-2"), beta) == [Gain(2, "rule", "qa")]
    same_key = msgspec.structs.replace(before, rules=(team, beta))
    assert not list(gained(same_key, msgspec.structs.replace(before, rules=(beta, team)))), "they never meet"
