import msgspec
import pytest

from gateway.routing.snapshot import (
    BUCKETS,
    Assignment,
    Canary,
    Holdout,
    Policy,
    Pool,
    Range,
    Release,
    Rule,
    Shadow,
    Snapshot,
    Tensor,
    arm_versions,
    canary_arm,
)


def test_a_canary_knows_its_arm_and_share() -> None:
    canary = Canary(12, (Range(0, 100), Range(BUCKETS - 50, BUCKETS)))
    assert canary.arm == canary_arm(12) == "canary-12"
    assert canary.basis_points == 150
    assert Canary(1, ()).basis_points == 0


def test_a_snapshot_survives_the_wire() -> None:
    policy = Policy(
        *(1, (Canary(2, (Range(0, 10),)),)),
        standby=4,
        salt="m/2",
        holdout=Holdout(3, (Range(5, 9),), "m/holdout/3"),
        rules=(Rule("x-team", ("qa",), "standby"),),
        assignment=Assignment(no_unit="stable"),
        timeout_ms=250,
    )
    release = Release("m", 3, policy, rollback=Policy(9), paused=True, sequence=7)
    pool = Pool("m", 1, shadow=False, state="ready", inputs=(Tensor("X", "FP32", (-1, 2)),))
    snapshot = Snapshot(epoch=5, releases=(release,), pools=(pool,))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(snapshot), type=Snapshot) == snapshot
    assert msgspec.json.decode(msgspec.json.encode(snapshot), type=Snapshot) == snapshot


def test_values_do_not_change() -> None:
    policy = Policy(1)
    with pytest.raises(AttributeError):
        policy.stable = 2  # type: ignore[misc] # that it cannot be done is the test


def test_live_versions_are_those_that_may_answer() -> None:
    policy = Policy(3, canaries=(Canary(2, ()), Canary(5, ())), shadows=(Shadow(9, 1.0),), standby=2)
    assert policy.live == (2, 3, 5)
    assert Policy(3, standby=1).live == (1, 3)
    assert Policy(3, holdout=Holdout(2, (), "m/holdout/2")).live == (2, 3)


def test_the_arms_of_a_policy() -> None:
    policy = Policy(stable=1, canaries=(Canary(5, ()), Canary(2, ())), standby=7, holdout=Holdout(4, (), "m/holdout/4"))
    assert list(arm_versions(policy).items()) == [
        *(("stable", 1), ("canary-5", 5), ("canary-2", 2)),
        *(("standby", 7), ("holdout", 4)),
    ]


def test_a_holdout_knows_its_share() -> None:
    assert Holdout(1, (Range(0, 100), Range(200, 250)), "m/holdout/1").basis_points == 150
