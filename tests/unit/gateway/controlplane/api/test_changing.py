"""Through a real channel in tests/integration/test_admin.py."""

from typing import Any

import pytest

from gateway.controlplane.api.changing import Changing
from gateway.controlplane.etag import etag
from gateway.errors import Refused
from protos import admin_pb2 as pb
from tests.unit.gateway.controlplane.api.conftest import World
from tests.unit.gateway.controlplane.fake_fleet import status


async def test_a_change_is_carried_out_in_the_callers_name(world: World) -> None:
    request = pb.SetCanaryRequest(
        name="models/iris/release",
        etag=etag(world.releases.get("iris")),
        reason="first users",
        request_id="id-1",
        version=2,
        basis_points=100,
    )
    changed = await Changing(world.releases).SetCanary(request, world.context)
    assert [(canary.version, canary.basis_points) for canary in changed.policy.canaries] == [(2, 100)]
    (event,) = await world.store.events("iris", 1, None)
    assert (event.actor, event.reason, event.request_id) == ("ada", "first users", "id-1")


async def test_a_change_may_be_asked_for_without_making_it(world: World) -> None:
    world.fleet.known = [status("iris", 2)]
    room, before = Changing(world.releases), world.releases.get("iris")
    seen: Any = {"name": "models/iris/release", "etag": etag(before), "validate_only": True}
    made = await room.SetCanary(pb.SetCanaryRequest(**seen, version=2, basis_points=100), world.context)
    assert (made.revision, made.etag, made.policy.canaries[0].basis_points) == (2, "", 100)
    same = await room.ResumeRelease(pb.ResumeReleaseRequest(**seen), world.context)
    assert (same.revision, same.etag) == (1, etag(before)), "nothing would change"
    assert world.releases.get("iris") is before


async def test_a_refusal_names_the_release(world: World) -> None:
    request = pb.FlipRequest(name="models/iris/release", etag=etag(world.releases.get("iris")))
    with pytest.raises(Refused) as caught:
        await Changing(world.releases).Flip(request, world.context)
    assert caught.value.subject == "models/iris/release"
