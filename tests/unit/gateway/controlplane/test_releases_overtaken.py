"""What others on the store have done before this gateway."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from gateway.controlplane import releases as module
from gateway.controlplane.audit import Draft
from gateway.controlplane.commands import (
    SetCanary,
    fingerprint,
)
from gateway.controlplane.etag import etag
from gateway.controlplane.peers import Peers
from gateway.controlplane.releases import Releases
from gateway.controlplane.store import Request
from gateway.controlplane.store.memory import MemoryStore
from gateway.controlplane.store.memorymembers import MemoryMembers
from gateway.errors import NotReady, Stale, StoreFailed
from gateway.routing.snapshot import Canary, Range, Release
from tests.unit.gateway.controlplane.fake_fleet import FakeFleet


class Overtaken(MemoryStore):
    """Another gateway, in the moment before a commit, commits what it was told to."""

    before: tuple[Release, Draft, Request | None] | None = None
    deaf = False
    """It does not say afterwards what is new."""

    async def commit(self, expected_revision: int, release: Release, event: Draft, request: Request | None) -> Release:
        if self.before is not None:
            (other, draft, its_request), self.before = self.before, None
            await super().commit(other.revision - 1, other, draft, its_request)
        return await super().commit(expected_revision, release, event, request)

    async def since(self, sequence: int) -> list[Release]:
        if self.deaf:
            raise StoreFailed("gone")
        return await super().since(sequence)


@pytest.fixture
async def overtaken(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Overtaken, Releases, FakeFleet]]:
    """Releases of one of several gateways; the only one that lives."""
    monkeypatch.setattr(module, "FIRST_RETRY_S", 0.001)
    store, fleet = Overtaken(), FakeFleet()
    peers = Peers(MemoryMembers(store), "a", lambda: 7)
    made = Releases(store, fleet, lambda: 7, peers)
    await made.start()
    await made.register_all({"iris": 1, "wine": 1})
    yield store, made, fleet
    store.deaf = False
    await made.close()
    await peers.close()


def foreign(release: Release, revision: int, request_id: str = "") -> tuple[Release, Draft, Request | None]:
    """A change of another gateway: a canary."""
    after = msgspec.structs.replace(
        release,
        revision=revision,
        policy=msgspec.structs.replace(release.policy, canaries=(Canary(5, (Range(0, 1),)),)),
    )
    draft = Draft(7, "bob", "set-canary", release.model, revision, "", request_id, "", "{}")
    return after, draft, Request(request_id, fingerprint("iris", SetCanary(2, 100))) if request_id else None


async def test_changes_of_others_before_ours_are_taken_over_with_it(
    overtaken: tuple[Overtaken, Releases, FakeFleet],
) -> None:
    store, releases, fleet = overtaken
    store.before = foreign(releases.get("wine"), 2)
    changed = await releases.change("iris", SetCanary(2, 100), etag=etag(releases.get("iris")), actor="ada")
    assert (changed.release.sequence, releases.get("wine").revision) == (4, 2)
    assert set(fleet.served[-1]) == {"iris", "wine"}
    assert releases.served == 4


async def test_a_change_that_another_made_first_is_stale(overtaken: tuple[Overtaken, Releases, FakeFleet]) -> None:
    store, releases, _ = overtaken
    store.before = foreign(releases.get("iris"), 2)
    with pytest.raises(Stale):
        await releases.change("iris", SetCanary(2, 100), etag=etag(releases.get("iris")), actor="ada")
    await releases.catch_up()
    assert releases.get("iris").policy.canaries[0].version == 5


async def test_the_same_request_at_two_gateways_at_once_is_answered_alike(
    overtaken: tuple[Overtaken, Releases, FakeFleet],
) -> None:
    store, releases, fleet = overtaken
    store.before = foreign(releases.get("iris"), 2, "id-1")
    current = etag(releases.get("iris"))
    changed = await releases.change("iris", SetCanary(2, 100), etag=current, request_id="id-1", actor="ada")
    assert changed.release.policy.canaries[0].version == 5
    assert fleet.served[-1]["iris"] == changed.release


async def test_what_is_kept_and_cannot_be_put_in_order_is_served_later(
    overtaken: tuple[Overtaken, Releases, FakeFleet],
) -> None:
    store, releases, fleet = overtaken
    store.before = foreign(releases.get("wine"), 2)
    fleet.may_prepare.clear()
    fleet.preparing.clear()
    current = etag(releases.get("iris"))
    changing = asyncio.get_running_loop().create_task(
        releases.change("iris", SetCanary(2, 100), etag=current, actor="ada")
    )
    await fleet.preparing.wait()
    real = releases._settle

    async def settled_then_deaf() -> None:
        await real()
        store.deaf = True

    releases._settle = settled_then_deaf  # type: ignore[method-assign] # the store goes between two of its calls
    fleet.may_prepare.set()
    with pytest.raises(NotReady, match=r"the change of iris is kept \(revision 2\) and will be served later: gone"):
        await changing
    releases._settle = real  # type: ignore[method-assign] # as it was
    store.deaf = False
    await releases.catch_up()
    assert (releases.get("iris").revision, releases.get("wine").revision) == (2, 2)
