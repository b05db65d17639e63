"""Through a real channel in tests/integration/test_admin.py."""

import pytest

from gateway.controlplane.api.versions import Versions
from gateway.errors import NotFound
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


async def test_versions_come_in_pages_and_problems_once(world: World) -> None:
    world.fleet.known = [status("iris", 2), status("iris", 10), status("wine", 1)]
    world.fleet.found_problems = ["wine/x: not an integer"]
    room, request, seen = Versions(world.releases, world.fleet, world.known), pb.ListVersionsRequest(page_size=2), []
    while True:
        page = await room.ListVersions(request, world.context)
        seen.append(([found.name for found in page.versions], list(page.problems)))
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert seen == [
        (["models/iris/versions/2", "models/iris/versions/10"], ["wine/x: not an integer"]),
        (["models/wine/versions/1"], []),
    ]


async def test_one_version_is_got_by_its_name(world: World) -> None:
    world.fleet.known = [status("iris", 1), status("wine", 3)]
    room = Versions(world.releases, world.fleet, world.known)
    found = await room.GetVersion(pb.GetVersionRequest(name="models/iris/versions/1"), world.context)
    assert (found.version, list(found.roles)) == (1, ["stable"])
    unreleased = await room.GetVersion(pb.GetVersionRequest(name="models/wine/versions/3"), world.context)
    assert not unreleased.roles
    with pytest.raises(NotFound, match="model wine has no version 1; it has 3"):
        await room.GetVersion(pb.GetVersionRequest(name="models/wine/versions/1"), world.context)
    with pytest.raises(NotFound, match="there is no model digits"):
        await room.GetVersion(pb.GetVersionRequest(name="models/digits/versions/1"), world.context)
