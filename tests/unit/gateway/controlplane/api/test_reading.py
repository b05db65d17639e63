"""Through a real channel in tests/integration/test_admin.py."""

import pytest

from gateway.controlplane.api.reading import REVISIONS_AT_ONCE, Reading
from gateway.controlplane.commands import SetCanary
from gateway.controlplane.etag import etag
from gateway.errors import NotFound
from gateway.routing.snapshot import Release
from protos import admin_pb2 as pb
from tests.unit.gateway.controlplane.api.conftest import World

IRIS = "models/iris/release"


async def test_a_release_is_got_and_listed(world: World) -> None:
    room = Reading(world.releases, world.store)
    release = await room.GetRelease(pb.GetReleaseRequest(name=IRIS), world.context)
    assert (release.name, release.policy.stable_version) == (IRIS, 1)
    listed = await room.ListReleases(pb.ListReleasesRequest(), world.context)
    assert list(listed.releases) == [release]


async def test_releases_come_in_pages_or_whole(world: World) -> None:
    await world.releases.register("wine", 1)
    room = Reading(world.releases, world.store)
    first = await room.ListReleases(pb.ListReleasesRequest(page_size=1), world.context)
    second = await room.ListReleases(
        pb.ListReleasesRequest(page_size=1, page_token=first.next_page_token), world.context
    )
    assert [release.model for page in (first, second) for release in page.releases] == ["iris", "wine"]
    assert second.next_page_token == ""
    assert len((await room.ListReleases(pb.ListReleasesRequest(), world.context)).releases) == 2


async def test_revisions_are_listed_newest_first(world: World) -> None:
    room, seen = Reading(world.releases, world.store), []
    for share in (1, 2):
        current = etag(world.releases.get("iris"))
        await world.releases.change("iris", SetCanary(2, share), etag=current, actor="ada")
    request = pb.ListRevisionsRequest(name=IRIS, page_size=2)
    while True:
        page = await room.ListRevisions(request, world.context)
        seen += [(one.revision, one.etag) for one in page.revisions]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert seen == [(3, ""), (2, ""), (1, "")]
    with pytest.raises(NotFound):
        await room.ListRevisions(pb.ListRevisionsRequest(name="models/wine/release"), world.context)


async def test_revisions_are_read_few_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for share in range(1, 11):
        current = etag(world.releases.get("iris"))
        await world.releases.change("iris", SetCanary(2, share), etag=current, actor="ada")
    read, asked = world.store.revisions, []

    async def revisions(model: str, limit: int, before_revision: int | None) -> list[Release]:
        asked.append(limit)
        return await read(model, limit, before_revision)

    monkeypatch.setattr(world.store, "revisions", revisions)
    room = Reading(world.releases, world.store)
    for size, seen in ((0, 11), (100, 11), (10, 10), (8, 8), (3, 3)):
        page = await room.ListRevisions(pb.ListRevisionsRequest(name=IRIS, page_size=size), world.context)
        assert [one.revision for one in page.revisions] == [*range(11, 11 - seen, -1)]
        assert bool(page.next_page_token) == (seen < 11)
    assert max(asked) == REVISIONS_AT_ONCE


async def test_overrides_are_listed(world: World) -> None:
    found = await Reading(world.releases, world.store).ListOverrides(pb.ListOverridesRequest(name=IRIS), world.context)
    assert found == pb.ListOverridesResponse(revision=1)
