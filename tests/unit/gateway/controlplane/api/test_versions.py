"""Through a real channel in tests/integration/test_admin.py."""

from gateway.controlplane.api.versions import Versions
from protos import admin_pb2 as pb
from tests.unit.gateway.controlplane.api.conftest import World
from tests.unit.gateway.controlplane.fake_fleet import status


async def test_versions_are_listed_with_what_they_are_used_for(world: World) -> None:
    world.fleet.known = [status("iris", 1), status("wine", 1)]
    world.fleet.found_problems = ["iris/latest: not an integer", "wine/x: not an integer"]
    room = Versions(world.releases, world.fleet, world.known)
    listed = await room.ListVersions(pb.ListVersionsRequest(parent="models/iris"), world.context)
    assert [(found.name, list(found.roles)) for found in listed.versions] == [("models/iris/versions/1", ["stable"])]
    assert list(listed.problems) == ["iris/latest: not an integer"]
