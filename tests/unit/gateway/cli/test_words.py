from datetime import UTC, datetime, timedelta

import pytest

from gateway.cli import words
from gateway.controlplane.api.updating import declared as declared_again
from gateway.controlplane.commands import Declared, Hold
from gateway.routing.snapshot import Assignment, Canary, Holdout, Policy, Range, Rule, Shadow
from protos import admin_pb2 as pb


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "0 ms"), (0.41234, "0.412 ms"), (12.345, "12.3 ms"), (999.4, "999 ms"), (1500, "1.5 s"), (2e6, "2000 s")],
)
def test_milliseconds(value: float, said: str) -> None:
    assert words.milliseconds(value) == said


@pytest.mark.parametrize(
    ("part", "whole", "said"),
    [(0, 0, "-"), (1, 3, "33.33 %"), (99_999, 100_000, "99.99 %"), (7, 7, "100 %"), (0, 7, "0.00 %")],
)
def test_a_share_is_never_rounded_up_to_all(part: int, whole: int, said: str) -> None:
    assert words.share(part, whole) == said


def test_percentages() -> None:
    assert [words.percent(points) for points in (1, 25, 1000, 10_000)] == ["0.01 %", "0.25 %", "10 %", "100 %"]
    assert [words.rate(value) for value in (1.0, 0.1, 0.0005)] == ["100 %", "10 %", "0.05 %"]


@pytest.mark.parametrize(
    ("seconds", "said"), [(-5, "0 s ago"), (59, "59 s ago"), (60, "1 min ago"), (7200, "2 h ago"), (90_000, "1 d ago")]
)
def test_age(seconds: int, said: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert words.age(now - timedelta(seconds=seconds), now) == said


def test_one_is_no_plural() -> None:
    assert [words.counted(number, "restart") for number in (0, 1, 1234)] == [
        "0 restarts",
        "1 restart",
        "1,234 restarts",
    ]


def test_a_policy_in_words_and_from_a_message() -> None:
    message = pb.Policy(stable_version=1, standby_version=4, salt="m/2")
    message.canaries.add(version=2, basis_points=1000, ranges=[pb.BucketRange(start=0, end=1000)])
    message.shadows.add(version=3, rate=0.5)
    policy = words.to_policy(message)
    assert policy == Policy(1, (Canary(2, (Range(0, 1000),)),), (Shadow(3, 0.5),), 4, "m/2")
    assert words.describe(policy) == "stable 1, canary 2 (10 %), shadow 3 (50 %), standby 4"
    assert words.candidates(policy) == ["canary 2 (10 %)", "shadow 3 (50 %)"]
    assert words.describe(words.to_policy(pb.Policy(stable_version=1))) == "stable 1"


def test_what_is_declared_becomes_a_message() -> None:
    declared = Declared(
        stable=1,
        canaries={2: 100},
        shadows={3: 0.5},
        standby=4,
        salt="m/2",
        holdout=Hold(50, 1),
        rules=(Rule("x", ("a",), "stable"),),
        assignment=Assignment(("x",), ("y",), "stable", False),
        timeout_ms=5,
    )
    message = words.to_message(declared)
    assert declared_again(pb.UpdateReleaseRequest(release=pb.Release(policy=message))) == declared
    assert words.to_message(Declared(stable=1)) == pb.Policy(stable_version=1)


def test_many_proxies_are_summed_up() -> None:
    few = [pb.Proxy(index=number, up=True, connections=number) for number in range(3)]
    assert words.proxies(few) == "proxies 3/3, connections 0 + 1 + 2, in flight 0 + 0 + 0, requests 0 + 0 + 0"
    many = [pb.Proxy(index=number, up=number > 0, connections=number, requests=10) for number in range(20)]
    said = "proxies 19/20, connections 190 (0 to 19 each), in flight 0 (0 to 0 each), requests 200 (10 to 10 each)"
    assert words.proxies(many) == said


def test_overrides_are_counted_in_a_description() -> None:
    assert words.describe(Policy(1, standby=4), 2) == "stable 1, standby 4, 2 overrides"
    assert words.to_policy(pb.Policy(stable_version=1, override_count=1), {"a": "stable"}).overrides == {"a": "stable"}


def test_a_holdout_and_rules_are_in_a_description() -> None:
    holdout = Holdout(1, (Range(0, 500),), "m/holdout/1")
    policy = Policy(2, holdout=holdout, rules=(Rule("x-team", ("qa",), "stable"),))
    assert words.describe(policy) == "stable 2, holdout 1 (5 %), 1 rule"


def test_what_holds_for_requests_is_in_a_description() -> None:
    policy = Policy(1, assignment=Assignment(("x-tenant",), ("tenant",)), timeout_ms=1_500)
    assert words.describe(policy) == "stable 1, units by x-tenant, tenant, timeout 1500ms"
    assert words.requests(Policy(1, assignment=Assignment((), ()))) == ["units by nothing"]
    assert words.requests(Policy(1)) == []


def test_roles_are_said_by_model() -> None:
    assert words.roles({"digits": "OPERATOR", "*": "viewer"}) == "viewer, operator of digits"
    assert words.roles({}) == ""
