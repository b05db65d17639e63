"""The one door to releases: order, retries, failures in the middle, callers that leave."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.controlplane import overrides
from gateway.controlplane import releases as module
from gateway.controlplane.audit import Draft, verify
from gateway.controlplane.commands import (
    Command,
    Flip,
    PrepareStandby,
    Register,
    RemoveCanary,
    Rollback,
    SetCanary,
    SetOverrides,
    SetShadow,
)
from gateway.controlplane.etag import etag
from gateway.controlplane.ports import Applied
from gateway.controlplane.releases import Changed, Releases
from gateway.controlplane.store import Request
from gateway.controlplane.store.memory import MemoryStore
from gateway.errors import InvalidRequest, NotFound, NotReady, OutOfRange, Refused, Stale, StoreFailed
from gateway.routing.snapshot import Policy, Release
from tests.unit.gateway.controlplane.fake_fleet import FakeFleet


class FailingStore(MemoryStore):
    """Fails when told to; `keeps`: but has kept the commit."""

    failure: Exception | None = None
    keeps = False
    away = False

    async def releases(self) -> dict[str, Release]:
        self._check()
        return await super().releases()

    async def since(self, sequence: int) -> list[Release]:
        self._check()
        return await super().since(sequence)

    def _check(self) -> None:
        if self.away:
            raise StoreFailed("away")

    async def commit(self, expected_revision: int, release: Release, event: Draft, request: Request | None) -> Release:
        if self.failure is None or self.keeps:
            kept = await super().commit(expected_revision, release, event, request)
        if self.failure is not None:
            raise self.failure
        return kept


class Door:
    """Releases with everything around them."""

    def __init__(self) -> None:
        self.now_ms = 1_000
        self.store = FailingStore()
        self.fleet = FakeFleet()
        self.releases = Releases(self.store, self.fleet, self.clock_ms)

    def clock_ms(self) -> int:
        self.now_ms += 1
        return self.now_ms

    async def ask(self, command: Command, given: str | None = "", request_id: str = "") -> Release:
        """A change on the current etag unless another is given."""
        current = etag(self.releases.get("iris")) if given == "" else given
        changed = await self.releases.change(
            "iris", command, etag=current, request_id=request_id, reason="why", actor="ada"
        )
        return changed.release

    def begin(self, command: Command, request_id: str = "") -> asyncio.Task[Release]:
        return asyncio.get_running_loop().create_task(self.ask(command, request_id=request_id))

    async def revisions(self) -> list[int]:
        """The stored revisions, whose chain must be whole."""
        events = list(reversed(await self.store.events("iris", 1_000, None)))
        assert verify(events) is None
        return [event.revision for event in events]


@pytest.fixture
async def door(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Door]:
    monkeypatch.setattr(module, "FIRST_RETRY_S", 0.001)
    made = Door()
    await made.releases.start()
    await made.releases.register("iris", 1)
    yield made
    made.fleet.may_serve.set()
    await made.releases.close()


async def test_start_serves_what_the_store_has(door: Door) -> None:
    await door.ask(SetCanary(2, 100))
    again = Releases(door.store, door.fleet, door.clock_ms)
    await again.start()
    assert again.list() == door.releases.list()
    assert door.fleet.served[-1] == {"iris": again.get("iris")}


async def test_what_is_served_without_the_store_may_lack_any_change_and_is_made_whole_later(door: Door) -> None:
    known = {"iris": door.releases.get("iris"), "wine": await door.releases.register("wine", 1)}
    changed = await door.ask(SetCanary(2, 100))
    later = (await door.releases.change("rose", Register(1), etag=None, actor="ada")).release
    again = Releases(door.store, door.fleet, door.clock_ms)
    door.store.away = True
    await again.start({**known, "rose": later})
    assert again.get("iris") != changed
    assert again.served == 0, "it cannot be said that anything later is served"
    with pytest.raises(StoreFailed):
        await again.catch_up()
    door.store.away = False
    await again.catch_up()
    assert again.get("iris") == changed == door.fleet.served[-1]["iris"]
    assert again.served == later.sequence
    await again.close()


async def test_what_was_served_without_the_store_may_be_all_there_is(door: Door) -> None:
    again = Releases(door.store, door.fleet, door.clock_ms)
    door.store.away = True
    await again.start({"iris": door.releases.get("iris")})
    door.store.away = False
    served = len(door.fleet.served)
    await again.catch_up()
    assert (again.served, len(door.fleet.served)) == (1, served)
    await again.close()


async def test_a_model_is_registered_once_by_the_gateway(door: Door) -> None:
    assert door.releases.get("iris") == Release("iris", 1, Policy(stable=1), updated_ms=1_001, sequence=1)
    first = door.releases.get("iris")
    assert await door.releases.register("iris", 3) == first
    (event,) = await door.store.events(None, 10, None)
    assert (event.actor, event.verb, event.revision) == ("gateway", "register", 1)
    both = await asyncio.gather(door.releases.register("wine", 1), door.releases.register("wine", 2))
    assert both[0] == both[1] == door.releases.get("wine")


async def test_a_model_is_registered_by_hand_once_its_version_is_ready(door: Door) -> None:
    async def register(version: int) -> Release:
        return (await door.releases.change("wine", Register(version), etag=None, reason="new", actor="ada")).release

    door.fleet.broken.add(2)
    with pytest.raises(Refused, match="cannot be loaded"):
        await register(2)
    assert (await register(1)).policy.stable == 1
    assert door.fleet.prepared == [("wine", 1, False)]
    (event,) = await door.store.events("wine", 10, None)
    assert (event.actor, event.verb, event.reason) == ("ada", "register", "new")
    with pytest.raises(Refused, match="already"):
        await register(3)


async def test_unknown_models_are_not_found(door: Door) -> None:
    for ask in (door.releases.get, door.releases.subscribe):
        with pytest.raises(NotFound, match="no model wine has a release"):
            ask("wine")
    with pytest.raises(NotFound):
        await door.releases.change("wine", Flip(), etag='"1-0"', actor="ada")


async def test_a_change_is_prepared_stored_and_served_before_it_is_answered(door: Door) -> None:
    changed = await door.ask(SetCanary(2, 100), request_id="id-1")
    assert door.fleet.prepared == [("iris", 2, False)]
    assert door.fleet.served[-1] == {"iris": changed}
    assert (await door.store.releases())["iris"] == changed == door.releases.get("iris")
    event = (await door.store.events(None, 1, None))[0]
    assert (event.actor, event.reason, event.verb, event.request_id) == ("ada", "why", "set-canary", "id-1")


async def test_shadows_get_pools_of_their_own(door: Door) -> None:
    await door.ask(SetShadow(2, 1.0))
    assert door.fleet.prepared == [("iris", 2, True)]


async def test_the_answer_waits_for_the_fleet(door: Door) -> None:
    door.fleet.may_serve.clear()
    door.fleet.serving.clear()
    asking = door.begin(SetCanary(2, 100))
    await door.fleet.serving.wait()
    assert not asking.done()
    assert await door.revisions() == [1, 2]
    door.fleet.may_serve.set()
    assert (await asking).revision == 2


async def test_the_answer_names_who_came_to_serve_it(door: Door) -> None:
    door.fleet.applied = (Applied(0, 1.5),)

    async def ask(command: Command, request_id: str) -> Changed:
        current = etag(door.releases.get("iris"))
        return await door.releases.change("iris", command, etag=current, request_id=request_id, actor="ada")

    first = await ask(SetCanary(2, 100), "id-1")
    assert first.applied == (Applied(0, 1.5),)
    assert await ask(SetCanary(2, 100), "id-2") == Changed(first.release), "as before: everybody served it already"
    assert await ask(SetCanary(2, 100), "id-1") == Changed(first.release)


async def test_a_change_needs_a_current_etag(door: Door) -> None:
    with pytest.raises(InvalidRequest, match="needs the etag"):
        await door.ask(SetCanary(2, 100), given=None)
    with pytest.raises(Stale, match="read it again"):
        await door.ask(SetCanary(2, 100), given='"7-12345678"')
    assert door.fleet.prepared == []
    assert await door.revisions() == [1]


async def test_a_change_made_while_another_prepares_makes_that_one_stale(door: Door) -> None:
    await door.ask(SetCanary(3, 100))
    door.fleet.may_prepare.clear()
    door.fleet.preparing.clear()
    slow = door.begin(SetCanary(2, 100))
    await door.fleet.preparing.wait()
    await door.ask(RemoveCanary(3))
    door.fleet.may_prepare.set()
    with pytest.raises(Stale):
        await slow
    assert await door.revisions() == [1, 2, 3]


async def test_what_the_rules_refuse_is_not_even_prepared(door: Door) -> None:
    with pytest.raises(Refused, match="own canary"):
        await door.ask(SetCanary(1, 100))
    with pytest.raises(InvalidRequest, match="basis_points"):
        await door.ask(SetCanary(2, 0))
    with pytest.raises(Refused, match="already"):
        await door.ask(Register(1))
    assert door.fleet.prepared == []
    assert await door.revisions() == [1]


async def test_a_version_that_cannot_be_loaded_changes_nothing(door: Door) -> None:
    door.fleet.broken.add(2)
    for command in (SetShadow(2, 1.0), SetCanary(2, 100), PrepareStandby(2)):
        with pytest.raises(Refused, match="cannot be loaded"):
            await door.ask(command)
    with pytest.raises(NotFound, match="no version 10"):
        await door.ask(PrepareStandby(10))
    assert await door.revisions() == [1]


async def test_a_standby_that_broke_is_not_flipped_to(door: Door) -> None:
    await door.ask(PrepareStandby(2))
    door.fleet.broken.add(2)
    with pytest.raises(Refused, match="cannot be loaded"):
        await door.ask(Flip())
    assert door.releases.get("iris").policy.stable == 1


async def test_a_broken_canary_can_always_be_lowered_and_removed(door: Door) -> None:
    await door.ask(SetCanary(2, 500))
    door.fleet.broken.add(2)
    assert (await door.ask(SetCanary(2, 1))).policy.canaries[0].basis_points == 1
    assert (await door.ask(RemoveCanary(2))).policy.canaries == ()


async def test_flip_and_rollback(door: Door) -> None:
    before = (await door.ask(PrepareStandby(2))).policy
    assert (await door.ask(Flip())).policy.stable == 2
    assert (await door.ask(Rollback())).policy == before
    assert await door.revisions() == [1, 2, 3, 4]


async def test_a_rollback_to_a_revision_brings_what_the_store_has_kept(door: Door) -> None:
    before = (await door.ask(SetCanary(2, 100))).policy
    await door.ask(RemoveCanary(2))
    door.fleet.prepared.clear()
    assert (await door.ask(Rollback(2), request_id="id-1")).policy == before
    assert door.fleet.prepared == [("iris", 2, False)]
    assert (await door.ask(Rollback(2), request_id="id-1")).revision == 4
    with pytest.raises(Refused, match="iris has no revision 5; it is at revision 4"):
        await door.ask(Rollback(5))


async def test_changes_are_in_one_order_over_all_models(door: Door) -> None:
    await door.releases.register("wine", 1)
    assert (await door.ask(SetCanary(2, 100))).sequence == 3
    assert [release.sequence for release in door.releases.list()] == [3, 2]


async def test_a_preview_says_what_a_change_would_make_and_makes_nothing(door: Door) -> None:
    await door.releases.register("iris", 1)
    before = door.releases.get("iris")
    made = await door.releases.preview("iris", SetCanary(2, 100), etag=etag(before))
    assert (made.revision, made.policy.canaries[0].basis_points) == (2, 100)
    assert (door.releases.get("iris"), door.fleet.prepared) == (before, [])
    assert await door.revisions() == [1]
    assert (await door.ask(SetCanary(2, 100))).policy == made.policy


async def test_a_preview_meets_what_the_change_would(door: Door) -> None:
    await door.releases.register("iris", 1)
    seen = etag(door.releases.get("iris"))
    with pytest.raises(Refused, match="no standby"):
        await door.releases.preview("iris", Flip(), etag=seen)
    with pytest.raises(Stale):
        await door.releases.preview("iris", Flip(), etag='"9-0"')
    with pytest.raises(NotFound, match="iris has no version 10"):
        await door.releases.preview("iris", SetCanary(10, 100), etag=seen)
    with pytest.raises(Refused, match="has no revision 9"):
        await door.releases.preview("iris", Rollback(9), etag=seen)


async def test_a_sequence_past_the_newest_change_is_out_of_range(door: Door) -> None:
    await door.releases.register("iris", 1)
    await door.releases.check_sequence(1)
    with pytest.raises(OutOfRange, match="there is no change 2 yet, the newest is 1"):
        await door.releases.check_sequence(2)


async def test_what_another_gateway_has_stored_is_not_out_of_range(door: Door) -> None:
    await door.releases.register("iris", 1)
    await Releases(door.store, door.fleet, door.clock_ms).register("wine", 1)
    await door.releases.check_sequence(2)


async def test_asking_for_what_already_is_answers_without_a_revision(door: Door) -> None:
    first = await door.ask(SetCanary(2, 100))
    assert await door.ask(SetCanary(2, 100)) == first
    assert await door.revisions() == [1, 2]


async def test_the_same_request_again_gets_the_first_answer(door: Door) -> None:
    seen = etag(door.releases.get("iris"))
    first = await door.ask(SetCanary(2, 100), request_id="id-1")
    await door.ask(SetCanary(2, 200))
    assert await door.ask(SetCanary(2, 100), given=seen, request_id="id-1") == first
    assert await door.revisions() == [1, 2, 3]


async def test_the_same_request_twice_at_once_is_carried_out_once(door: Door) -> None:
    both = await asyncio.gather(door.begin(SetCanary(2, 100), "id-1"), door.begin(SetCanary(2, 100), "id-1"))
    assert both[0] == both[1]
    assert await door.revisions() == [1, 2]


async def test_a_request_id_cannot_be_used_for_another_command(door: Door) -> None:
    await door.ask(SetCanary(2, 100), request_id="id-1")
    with pytest.raises(InvalidRequest, match="request id id-1 was used for another command"):
        await door.ask(SetCanary(2, 101), request_id="id-1")


@pytest.mark.parametrize(("field", "most"), [("request_id", 128), ("reason", 1_000), ("actor", 1_000)])
async def test_texts_have_a_most(door: Door, field: str, most: int) -> None:
    texts = {"request_id": "id", "reason": "why", "actor": "ada", field: "x" * (most + 1)}
    with pytest.raises(InvalidRequest, match=f"{field} has {most + 1} characters; at most {most}"):
        await door.releases.change("iris", Flip(), etag='"1-0"', **texts)


@pytest.mark.parametrize("field", ["request_id", "reason", "actor"])
async def test_texts_have_no_zero_bytes(door: Door, field: str) -> None:
    texts = {"request_id": "id", "reason": "why", "actor": "ada", field: "a\0b"}
    with pytest.raises(InvalidRequest, match=f"{field} has a zero byte"):
        await door.releases.change("iris", Flip(), etag='"1-0"', **texts)


async def test_a_caller_that_leaves_after_its_turn_came_leaves_a_whole_change(door: Door) -> None:
    door.fleet.may_serve.clear()
    door.fleet.serving.clear()
    asking = door.begin(SetCanary(2, 100))
    await door.fleet.serving.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    door.fleet.may_serve.set()
    changed = await door.ask(SetCanary(3, 100))
    assert changed.revision == 3
    assert [served["iris"].revision for served in door.fleet.served[-2:]] == [2, 3]


async def test_a_caller_that_leaves_while_it_waits_leaves_nothing(door: Door) -> None:
    door.fleet.may_serve.clear()
    door.fleet.serving.clear()
    first = door.begin(SetCanary(2, 100))
    await door.fleet.serving.wait()
    waiting = door.begin(RemoveCanary(2))
    for _ in range(5):
        await asyncio.sleep(0)
    waiting.cancel()
    door.fleet.may_serve.set()
    await asyncio.wait([first, waiting])
    assert waiting.cancelled()
    assert await door.revisions() == [1, 2]


async def test_a_change_the_fleet_cannot_serve_is_kept_and_served_later(door: Door) -> None:
    door.fleet.failure = NotReady("proxy 1 does not answer")
    with pytest.raises(NotReady, match=r"change of iris is kept \(revision 2\) and will be served.*proxy 1 does not"):
        await door.ask(SetCanary(2, 100), request_id="id-1")
    assert door.releases.get("iris").revision == 2
    with pytest.raises(NotReady, match="an earlier change is kept"):
        await door.ask(SetCanary(2, 100), request_id="id-1")
    with pytest.raises(NotReady, match="an earlier change is kept"):
        await door.ask(SetCanary(2, 100))
    door.fleet.failure = None
    assert (await door.ask(SetCanary(2, 100), request_id="id-1")).revision == 2
    assert door.fleet.served[-1]["iris"].revision == 2


async def test_what_is_owed_is_served_without_being_asked(door: Door) -> None:
    door.fleet.failure = RuntimeError("bug")
    with pytest.raises(NotReady, match="see the log"):
        await door.ask(SetCanary(2, 100))
    door.fleet.serving.clear()
    door.fleet.has_served.clear()
    await door.fleet.serving.wait()
    door.fleet.failure = None
    await door.fleet.has_served.wait()
    assert door.fleet.served[-1]["iris"].revision == 2


async def test_a_later_change_serves_what_was_owed(door: Door) -> None:
    door.fleet.failure = NotReady("proxy 1 does not answer")
    with pytest.raises(NotReady):
        await door.ask(SetCanary(2, 100))
    door.fleet.failure = None
    assert (await door.ask(RemoveCanary(2))).revision == 3
    assert door.fleet.served[-1]["iris"].revision == 3


async def test_a_store_that_fails_changes_nothing(door: Door) -> None:
    door.store.failure = StoreFailed("disk full")
    with pytest.raises(StoreFailed, match="disk full"):
        await door.ask(SetCanary(2, 100))
    assert door.releases.get("iris").revision == 1
    door.store.failure = None
    assert (await door.ask(SetCanary(2, 100))).revision == 2


async def test_a_commit_that_was_kept_though_it_failed_is_found_again(door: Door) -> None:
    door.store.failure, door.store.keeps = StoreFailed("disk I/O error"), True
    with pytest.raises(StoreFailed):
        await door.ask(SetCanary(2, 100), request_id="id-1")
    door.store.failure = None
    assert (await door.ask(SetCanary(2, 100), request_id="id-1")).revision == 2
    assert door.fleet.served[-1]["iris"].revision == 2
    assert await door.revisions() == [1, 2]


async def test_a_commit_that_was_kept_though_it_failed_is_served_without_being_asked(door: Door) -> None:
    door.store.failure, door.store.keeps = StoreFailed("disk I/O error"), True
    with door.releases.subscribe("iris") as watch:
        assert (await anext(watch)).revision == 1
        with pytest.raises(StoreFailed):
            await door.ask(SetCanary(2, 100))
        assert (await anext(watch)).revision == 2


async def test_watches_see_the_present_and_every_change(door: Door) -> None:
    with door.releases.subscribe() as watch:
        assert (await anext(watch)).revision == 1
        await door.ask(SetCanary(2, 100))
        assert (await anext(watch)).revision == 2
        await door.releases.register("wine", 1)
        assert (await anext(watch)).model == "wine"
    await door.ask(RemoveCanary(2))
    assert [found async for found in watch] == []


async def test_close_ends_watches_and_retries(door: Door) -> None:
    watch = door.releases.subscribe()
    door.fleet.failure = NotReady("proxy 1 does not answer")
    with pytest.raises(NotReady):
        await door.ask(SetCanary(2, 100))
    await door.releases.close()
    await door.releases.close()
    assert [found.revision async for found in watch] == [2]
    assert door.releases._retry is not None
    assert door.releases._retry.done()


async def test_a_list_of_which_there_is_too_much_can_still_be_shortened(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    await door.ask(SetOverrides({"ann": "stable", "bob": "stable", "eve": "stable"}))
    monkeypatch.setattr(overrides, "MAX_ALL_OVERRIDES", 1)
    with pytest.raises(Refused, match="all models together would have 4 overrides; at most 1 are kept"):
        await door.ask(SetOverrides({"joe": "stable"}))
    await door.ask(SetOverrides({}, ("bob",)))
    with pytest.raises(Refused, match="would have 3 overrides"):
        await door.ask(Rollback(2))
    assert door.releases.get("iris").policy.overrides == {"ann": "stable", "eve": "stable"}
