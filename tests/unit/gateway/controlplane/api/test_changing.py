"""Through a real channel in tests/integration/test_admin.py."""

from gateway.controlplane.api.changing import Changing
from gateway.controlplane.etag import etag
from protos import admin_pb2 as pb
from tests.unit.gateway.controlplane.api.conftest import World


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
