"""Through a real channel in tests/integration/test_admin.py."""

from gateway.controlplane.api.changing import Changing
from gateway.controlplane.etag import etag
from protos import admin_pb2 as pb
from tests.unit.gateway.controlplane.api.conftest import World


async def test_an_rpc_is_a_command(world: World) -> None:
    seen = etag(world.releases.get("iris"))
    request = pb.SetCanaryRequest(name="models/iris/release", etag=seen, version=2, basis_points=100)
    changed = await Changing(world.releases).SetCanary(request, world.context)
    assert [(canary.version, canary.basis_points) for canary in changed.policy.canaries] == [(2, 100)]
