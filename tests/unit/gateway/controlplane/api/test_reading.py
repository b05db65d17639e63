"""Through a real channel in tests/integration/test_admin.py."""

from gateway.controlplane.api.reading import Reading
from protos import admin_pb2 as pb
from tests.unit.gateway.controlplane.api.conftest import World

IRIS = "models/iris/release"


async def test_a_release_is_got_and_listed(world: World) -> None:
    room = Reading(world.releases, world.store)
    release = await room.GetRelease(pb.GetReleaseRequest(name=IRIS), world.context)
    assert (release.name, release.policy.stable_version) == (IRIS, 1)
    listed = await room.ListReleases(pb.ListReleasesRequest(), world.context)
    assert list(listed.releases) == [release]


async def test_overrides_are_listed(world: World) -> None:
    found = await Reading(world.releases, world.store).ListOverrides(pb.ListOverridesRequest(name=IRIS), world.context)
    assert found == pb.ListOverridesResponse(revision=1)
