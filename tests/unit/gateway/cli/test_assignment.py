import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.assignment import assign
from gateway.routing.assignment import bucket
from gateway.routing.snapshot import Canary, Holdout, Policy, Range, Rule


@pytest.mark.parametrize(
    ("salt", "unit", "bucket"),
    [
        ("exp-1", "user-1", 5504),
        ("exp-1", "user-2", 6104),
        ("exp-2", "user-1", 5576),
        ("exp-1", "", 7177),
        ("exp-1", "Ünïcødé-😊", 7219),
    ],
)
def test_vectors(salt: str, unit: str, bucket: int) -> None:
    owner = Canary(2, (Range(0, 10), Range(bucket, bucket + 1)))
    assert assign(Policy(1, (owner,), salt=salt), unit).arm == "canary-2"
    found = assign(Policy(1, salt=salt), unit)
    assert (found.bucket, found.arm, found.version, found.reason) == (bucket, "stable", 1, "stable")


def test_an_override_comes_before_the_bucket() -> None:
    policy = Policy(
        1, (Canary(2, (Range(0, 10_000),)),), standby=3, salt="m/2", overrides={"a": "stable", "b": "standby"}
    )
    found = [assign(policy, unit) for unit in "abc"]
    assert [(one.arm, one.version, one.reason) for one in found] == [
        ("stable", 1, "override"),
        ("standby", 3, "override"),
        ("canary-2", 2, "split"),
    ]


@given(st.text(), st.integers(0, 10_000))
def test_whoever_owns_the_bucket_answers(unit: str, end: int) -> None:
    canaries = (Canary(2, (Range(0, end),)),) if end else ()
    found = assign(Policy(1, canaries, salt="m/2"), unit)
    assert found.version == (2 if found.bucket < end else 1)


def test_a_rule_comes_between_the_override_and_the_holdout() -> None:
    policy = Policy(
        3,
        standby=2,
        overrides={"qa": "stable"},
        rules=(Rule("x-region", ("eu", "us"), "standby"), Rule("x-region", ("eu",), "stable")),
        holdout=Holdout(1, (Range(0, 10_000),), "m/holdout/1"),
        salt="m/2",
    )
    found = [assign(policy, "ada", metadata) for metadata in ({"x-region": "eu"}, {"x-region": "asia"}, {})]
    assert [(one.arm, one.version, one.reason) for one in found] == [
        ("standby", 2, "rule"),
        ("holdout", 1, "holdout"),
        ("holdout", 1, "holdout"),
    ]
    assert [one.bucket for one in found] == [bucket(salt, "ada") for salt in ("m/2", "m/holdout/1", "m/holdout/1")]
    assert assign(policy, "qa", {"x-region": "eu"}).reason == "override"
