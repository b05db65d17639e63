"""Through the command line in tests/integration/test_declaring.py."""

from typing import Any

import pytest

from gateway.controlplane.api.updating import FIELDS, Updating, declared, mask
from gateway.controlplane.commands import PIECES, Declared, Hold
from gateway.controlplane.etag import etag
from gateway.errors import InvalidRequest, Refused
from gateway.routing.snapshot import Assignment, Rule
from protos import admin_pb2 as pb
from tests.unit.gateway.controlplane.api.conftest import World

NAME = "models/iris/release"
POLICY = pb.Policy(
    stable_version=1,
    canaries=[pb.Canary(version=2, basis_points=100, ranges=[pb.BucketRange(start=5, end=9)])],
    shadows=[pb.Shadow(version=3, rate=0.5)],
    standby_version=4,
    salt="mine",
    holdout=pb.Holdout(basis_points=50),
    rules=[pb.Rule(key="x-team", values=["qa"], arm="canary-2")],
    assignment=pb.Assignment(unit_metadata=["x-tenant"], no_unit="stable"),
    timeout_ms=250,
)


def asked(*paths: str, policy: pb.Policy = POLICY, **fields: Any) -> pb.UpdateReleaseRequest:
    release = pb.Release(name=NAME, policy=policy)
    return pb.UpdateReleaseRequest(release=release, update_mask={"paths": paths} if paths else None, **fields)


def test_a_message_declares_shares_and_not_buckets() -> None:
    assert declared(asked(override_list={"overrides": {"ann": "canary-2"}})) == Declared(
        stable=1,
        canaries={2: 100},
        shadows={3: 0.5},
        standby=4,
        salt="mine",
        holdout=Hold(50),
        rules=(Rule("x-team", ("qa",), "canary-2"),),
        assignment=Assignment(("x-tenant",), (), "stable", False),
        timeout_ms=250,
        overrides={"ann": "canary-2"},
    )
    assert declared(pb.UpdateReleaseRequest()) == Declared()


def test_the_mask_says_what_is_set() -> None:
    everything = tuple(sorted(set(PIECES) - {"overrides"}))
    assert set(FIELDS.values()) == set(everything)
    assert mask(asked("policy.standby_version", "policy.canaries")) == ("canaries", "standby")
    assert mask(asked("policy")) == mask(asked("*")) == everything
    assert mask(asked()) == everything
    assert mask(asked(policy=pb.Policy(timeout_ms=5, override_count=3))) == ("timeout_ms",)
    assert mask(asked("policy.salt", override_list=pb.OverrideList())) == ("overrides", "salt")


@pytest.mark.parametrize(
    ("request_", "why", "field"),
    [
        (
            asked("policy.override_count"),
            "update_mask: 'policy.override_count' cannot be set; policy.stable_version, ",
            "update_mask",
        ),
        (asked("revision"), "'revision' cannot be set", "update_mask"),
        (asked(policy=pb.Policy()), "neither update_mask nor the policy says what to set", "update_mask"),
        (
            asked(policy=pb.Policy(canaries=[pb.Canary(version=2)] * 2)),
            "policy.canaries names version 2 twice",
            "release.policy.canaries",
        ),
        (asked("*", policy=pb.Policy()), "needs a stable version, and none is", "release.policy.stable_version"),
        (
            asked("policy.canaries", policy=pb.Policy(canaries=[pb.Canary(version=2)])),
            "basis_points",
            "release.policy.canaries",
        ),
        (asked(policy=pb.Policy(salt="mine")), "declare it together", "release.policy.salt"),
        (asked(policy=pb.Policy(timeout_ms=-1)), "timeout_ms must be", "release.policy.timeout_ms"),
        (asked("policy", override_list={"overrides": {"": "stable"}}), "a unit is empty", "override_list"),
        (pb.UpdateReleaseRequest(release={"policy": POLICY}), "name must be", "release.name"),
    ],
)
async def test_what_makes_no_sense(world: World, request_: pb.UpdateReleaseRequest, why: str, field: str) -> None:
    request_.etag = etag(world.releases.get("iris"))
    with pytest.raises(InvalidRequest, match=why) as caught:
        await Updating(world.releases).UpdateRelease(request_, world.context)
    assert caught.value.field == field


async def test_several_parts_change_in_one_step(world: World) -> None:
    before = world.releases.get("iris")
    rpc = Updating(world.releases).UpdateRelease
    would = await rpc(asked(etag=etag(before), validate_only=True), world.context)
    assert (world.releases.get("iris"), world.fleet.prepared) == (before, [])
    request = asked(etag=etag(before), reason="all at once", request_id="id-1")
    after = await rpc(request, world.context)
    assert after.policy == would.policy
    assert (after.revision, after.policy.holdout.version, after.policy.canaries[0].ranges[0].end) == (2, 1, 100)
    assert set(world.fleet.prepared) == {("iris", 2, False), ("iris", 3, True), ("iris", 4, False)}
    assert await rpc(request, world.context) == after
    (event,) = await world.store.events("iris", 1, None)
    assert (event.actor, event.verb, event.reason) == ("ada", "declare", "all at once")


async def test_the_etag_may_be_that_of_the_release_as_it_was_read(world: World) -> None:
    request = asked("policy.timeout_ms")
    request.release.etag = etag(world.releases.get("iris"))
    assert (await Updating(world.releases).UpdateRelease(request, world.context)).policy.timeout_ms == 250


async def test_a_version_that_does_not_load_gets_nobody(world: World) -> None:
    world.fleet.broken = {5}
    before = world.releases.get("iris")
    for policy in (pb.Policy(stable_version=5), pb.Policy(canaries=[pb.Canary(version=5, basis_points=1)])):
        with pytest.raises(Refused, match="version 5 of iris cannot be loaded"):
            await Updating(world.releases).UpdateRelease(asked(policy=policy, etag=etag(before)), world.context)
    assert world.releases.get("iris") == before
