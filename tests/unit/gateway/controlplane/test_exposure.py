"""What a pause refuses."""

import msgspec
import pytest

from gateway.controlplane.exposure import check
from gateway.errors import Refused
from gateway.routing.snapshot import Assignment, Canary, Holdout, Policy, Range, Release, Rule, Shadow

HELD = Holdout(9, (Range(0, 10),), "iris/holdout/9")
TO_CANARY = Rule("x-team", ("qa",), "canary-2")
BEFORE = Policy(
    *(1, (Canary(2, (Range(0, 100),)),), (Shadow(3, 0.5),), 4, "iris/2"),
    overrides={"ann": "canary-2"},
    holdout=HELD,
    rules=(TO_CANARY,),
)


def changed(**fields: object) -> Policy:
    return Policy(**{name: getattr(BEFORE, name) for name in Policy.__struct_fields__} | fields)


@pytest.mark.parametrize(
    ("after", "why"),
    [
        (changed(stable=2, canaries=()), "version 2 would become stable"),
        (changed(canaries=(Canary(2, (Range(0, 101),)),)), "version 2 would answer more users"),
        (changed(canaries=(*BEFORE.canaries, Canary(5, (Range(200, 201),)))), "version 5 would answer more users"),
        (changed(shadows=(Shadow(3, 0.6),)), "version 3 would get more copies"),
        (changed(shadows=(*BEFORE.shadows, Shadow(6, 0.1))), "version 6 would get more copies"),
        (changed(holdout=Holdout(9, (Range(0, 11),), HELD.salt)), "version 9 would hold out more users"),
        (changed(rules=(TO_CANARY, Rule("x-team", ("dev",), "standby"))), "a rule for 'dev' would send more requests"),
        (changed(overrides={"ann": "canary-2", "bob": "canary-2"}), "unit 'bob' would be sent to version 2"),
        (changed(overrides={"ann": "holdout"}), "unit 'ann' would be sent to version 9"),
        (changed(assignment=Assignment(("x-tenant",))), "units would be found in another way"),
    ],
)
def test_more_of_what_is_not_stable_is_refused(after: Policy, why: str) -> None:
    with pytest.raises(Refused, match=why) as caught:
        check(Release("iris", 5, BEFORE), after)
    assert caught.value.reason == "PAUSED"


@pytest.mark.parametrize(
    "after",
    [
        BEFORE,
        Policy(1),
        Policy(1, assignment=Assignment(("x-tenant",))),
        changed(rules=(TO_CANARY, Rule("x-team", ("qa",), "standby"))),
        changed(canaries=(Canary(2, (Range(0, 99),)),), shadows=(Shadow(3, 0.4),)),
        changed(overrides={"ann": "canary-2", "bob": "stable"}, rules=(Rule("x-team", ("dev",), "stable"), TO_CANARY)),
        changed(standby=7),
        changed(holdout=Holdout(9, (Range(0, 9),), HELD.salt)),
        changed(holdout=Holdout(1, (Range(0, 900),), "iris/holdout/1")),
    ],
)
def test_less_and_what_goes_to_stable_is_not(after: Policy) -> None:
    check(Release("iris", 5, BEFORE), after)


def test_who_may_choose_an_arm_stays_where_there_is_one_to_choose() -> None:
    before, free = Policy(1, standby=4, assignment=Assignment(allow_forced=False)), Assignment()
    with pytest.raises(Refused, match="found in another way"):
        check(Release("iris", 5, before), msgspec.structs.replace(before, assignment=free))
    check(Release("iris", 5, before), Policy(1, assignment=free))
