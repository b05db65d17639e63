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


async def test_a_model_gets_its_first_release_by_a_name_without_an_etag(world: World) -> None:
    request = pb.RegisterModelRequest(name="models/wine/release", version=2, validate_only=True)
    would = await Changing(world.releases).RegisterModel(request, world.context)
    assert (would.revision, would.policy.stable_version, would.etag) == (1, 2, "")
    assert "wine" not in world.releases.models()
    request.validate_only = False
    made = await Changing(world.releases).RegisterModel(request, world.context)
    assert (made.revision, made.policy.stable_version) == (1, 2)
    assert made.etag == etag(world.releases.get("wine"))
