"""Which rules a release may have."""

import pytest

from gateway.controlplane.metadata_rules import MAX_RULES, MAX_VALUES, check_key, replaced
from gateway.errors import InvalidRequest, Refused
from gateway.routing.snapshot import Policy, Rule

POLICY = Policy(1, standby=2)


def test_keys_are_lower_case_as_on_the_wire() -> None:
    rules = (Rule("X-Team", ("QA", "a b"), "standby"), Rule("x", ("1",), "stable"))
    assert replaced("iris", POLICY, rules).rules == (Rule("x-team", ("QA", "a b"), "standby"), rules[1])
    assert replaced("iris", replaced("iris", POLICY, rules), ()) == POLICY


@pytest.mark.parametrize("key", ["", "a b", "ä", "x-bin", "X", ":path", "k" * 65])
def test_what_can_be_no_key(key: str) -> None:
    with pytest.raises(InvalidRequest, match="is no metadata key"):
        check_key(key)


@pytest.mark.parametrize("value", ["", " a", "a ", "a\n", "ä", "v" * 257])
def test_what_can_be_no_value(value: str) -> None:
    with pytest.raises(InvalidRequest, match="the rule for x has the value"):
        replaced("iris", POLICY, (Rule("x", (value,), "stable"),))


def test_a_rule_without_values_would_never_match() -> None:
    with pytest.raises(InvalidRequest, match="the rule for x has no values"):
        replaced("iris", POLICY, (Rule("x", (), "stable"),))


def test_rules_are_few() -> None:
    most = tuple(Rule("x", (str(number),), "stable") for number in range(MAX_RULES))
    assert len(replaced("iris", POLICY, most).rules) == MAX_RULES
    with pytest.raises(InvalidRequest, match="65 rules with 65 values are too many; at most 64 with 1000"):
        replaced("iris", POLICY, (*most, most[0]))
    values = tuple(map(str, range(MAX_VALUES + 1)))
    assert replaced("iris", POLICY, (Rule("x", values[1:], "stable"),)).rules[0].values == values[1:]
    with pytest.raises(InvalidRequest, match="1 rules with 1001 values"):
        replaced("iris", POLICY, (Rule("x", values, "stable"),))


def test_an_arm_must_be_there() -> None:
    with pytest.raises(Refused, match="iris has no arm 'canary-2'; it has stable, standby") as caught:
        replaced("iris", POLICY, (Rule("x", ("a",), "canary-2"),))
    assert caught.value.reason == "NO_SUCH_ARM"
