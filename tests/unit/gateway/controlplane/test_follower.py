"""A gateway keeps step: it takes over, says so, promises to stop, and comes back when it was counted out."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable

import pytest

from gateway.controlplane import follower as module
from gateway.controlplane import peers
from gateway.controlplane.commands import Pause, SetCanary
from gateway.controlplane.etag import etag
from gateway.controlplane.store.members import Pool, Preparation, Report
from gateway.errors import NotReady, StoreFailed
from gateway.routing.snapshot import Release
from tests.unit.gateway.controlplane.fake_group import OneOfThem, SharedStore, until

LEASE_S = 10.0


class Group:
    """Gateways a and b on one store; more if need be."""

    def __init__(self) -> None:
        self.store = SharedStore()
        self.all: list[OneOfThem] = []

    async def start(self, name: str, lease_s: float = 0.0, *, orphans: bool = False) -> OneOfThem:
        made = OneOfThem(self.store, name, lease_s)
        self.all.append(made)
        await made.start(orphans=orphans)
        return made

    async def rows(self) -> dict[str, Report]:
        return {member.id: member.report for member in await self.store.members.members()}

    async def eventually(self, true_now: Callable[[], bool]) -> None:
        """Hints go round until it is so."""
        async with asyncio.timeout(20):
            while not true_now():
                self.store.members._tell()
                await asyncio.sleep(0)


@pytest.fixture
async def group(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Group]:
    monkeypatch.setattr(module, "BEAT_S", 0.0)
    monkeypatch.setattr(peers, "POLL_S", 0.001)
    monkeypatch.setattr(module, "BEATS_OF_A_LEASE", math.inf)
    made = Group()
    yield made
    for one in made.all:
        await one.stop()


async def change(gateway: OneOfThem, command: Pause | SetCanary, request_id: str = "") -> Release:
    """A change at that gateway, which the others are given time to confirm."""
    gateway.peers._patience_s = 20.0
    current = etag(gateway.releases.get("iris"))
    changed = await gateway.releases.change("iris", command, etag=current, request_id=request_id, actor="ada")
    return changed.release


async def test_a_change_at_one_is_prepared_served_and_confirmed_by_all(group: Group) -> None:
    first, second = await group.start("a"), await group.start("b")
    await first.releases.register("iris", 1)
    changed = await change(first, SetCanary(2, 100))
    assert second.fleet.prepared == [("iris", 2, False)]
    assert second.releases.get("iris") == changed
    assert second.fleet.served[-1] == {"iris": changed}
    assert (await group.rows())["b"].applied_sequence == changed.sequence
    assert (await change(second, SetCanary(2, 200))).revision == changed.revision + 1


async def test_what_others_cannot_load_is_refused_before_anything_is_changed(group: Group) -> None:
    first, second = await group.start("a"), await group.start("b")
    await first.releases.register("iris", 1)
    second.fleet.broken.add(2)
    with pytest.raises(Exception, match="gateway b: version 2 of iris cannot be loaded"):
        await change(first, SetCanary(2, 100))
    assert (await group.store.releases())["iris"].revision == 1


async def test_the_same_request_at_another_gateway_gets_the_first_answer(group: Group) -> None:
    first, second = await group.start("a"), await group.start("b")
    await first.releases.register("iris", 1)
    seen = etag(first.releases.get("iris"))
    changed = await change(first, SetCanary(2, 100), "id-1")
    again = await second.releases.change("iris", SetCanary(2, 100), etag=seen, request_id="id-1", actor="ada")
    assert again.release == changed
    assert len(await group.store.events("iris", 10, None)) == 2


async def test_a_gateway_that_starts_takes_over_what_is_there(group: Group) -> None:
    first = await group.start("a")
    await first.releases.register("iris", 1)
    changed = await change(first, SetCanary(2, 100))
    second = await group.start("b")
    assert second.releases.get("iris") == changed
    await until(group.store, "b", changed.sequence)


async def test_nothing_is_said_to_be_served_while_an_earlier_life_answers(group: Group) -> None:
    first = await group.start("a")
    await first.releases.register("iris", 1)
    second = await group.start("b", orphans=True)
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert (await group.rows())["b"].applied_sequence == 0
    second.follower.only_ours_answer()
    await until(group.store, "b", 1)


async def test_a_gateway_that_is_alone_never_stops(group: Group) -> None:
    only = await group.start("a", LEASE_S)
    await group.eventually(lambda: len(only.proxies.leases) > 3)
    assert set(only.proxies.leases) == {None}
    assert (await group.rows())["a"].lease_ms == 0


async def test_one_of_several_promises_to_stop_once_its_proxies_do(group: Group) -> None:
    first, second = await group.start("a", LEASE_S), await group.start("b", LEASE_S)
    first.proxies.failure = NotReady("a proxy has not heard of it")
    await group.eventually(lambda: first.proxies.surveys > 2)
    assert (await group.rows())["a"].lease_ms == 0, "not all of its proxies do"
    first.proxies.failure = None
    surveys = first.proxies.surveys
    await group.eventually(lambda: first.proxies.surveys > surveys)
    await group.eventually(lambda: first.follower._pledge.promised_s == LEASE_S)
    leases = len(first.proxies.leases)
    await group.eventually(lambda: len(first.proxies.leases) > leases + 2)
    assert (await group.rows())["a"].lease_ms == 10_000
    assert first.proxies.leases[-1] == first.clock.now_s + LEASE_S
    await second.stop()
    group.all.remove(second)
    await group.eventually(lambda: first.proxies.leases[-1] is None)
    assert (await group.rows())["a"].lease_ms == 0


async def test_who_was_counted_out_answers_nobody_until_it_has_caught_up(group: Group) -> None:
    first, second = await group.start("a"), await group.start("b")
    await first.releases.register("iris", 1)
    await until(group.store, "b", 1)
    await group.store.members.fence("b", second.follower._incarnation)
    await group.eventually(lambda: len(second.proxies.leases) > 0)
    second.fleet.may_serve.clear()
    second.fleet.serving.clear()
    changing = asyncio.get_running_loop().create_task(change(first, SetCanary(2, 100)))
    await second.fleet.serving.wait()
    assert not changing.done(), "it is back, and waited for"
    second.fleet.may_serve.set()
    changed = await changing
    assert second.proxies.leases[0] == second.clock.now_s, "requests were refused at once"
    await group.eventually(lambda: second.proxies.leases[-1] is None)
    await until(group.store, "b", changed.sequence)


async def test_a_join_that_was_kept_though_it_failed_is_found(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    await group.start("a")
    second = await group.start("b")
    join = group.store.members.join

    async def kept(gateway: str, incarnation: str, report: Report) -> None:
        monkeypatch.setattr(group.store.members, "join", join)
        await join(gateway, incarnation, report)
        raise StoreFailed("the connection broke")

    monkeypatch.setattr(group.store.members, "join", kept)
    await group.store.members.fence("b", second.follower._incarnation)
    await group.eventually(lambda: len(second.proxies.leases) > 1)
    assert second.proxies.leases == [second.clock.now_s, None]
    assert set(await group.rows()) == {"a", "b"}


async def test_two_gateways_of_one_name_do_not_take_turns(group: Group) -> None:
    first = await group.start("a")
    await group.start("a")
    await group.eventually(lambda: not first.follower._in_step)
    assert first.proxies.leases[-1] == first.clock.now_s
    leases = len(first.proxies.leases)
    await group.eventually(lambda: len(first.proxies.leases) > leases + 2)
    assert set(first.proxies.leases[leases:]) == {first.clock.now_s}


async def test_a_question_is_answered_with_what_is_wrong(group: Group) -> None:
    one = await group.start("a")
    one.fleet.broken.add(3)
    await group.store.members.ask(Preparation("p", (Pool("iris", 2), Pool("iris", 3, True))), ["a"])
    answers: dict[str, str | None] = {"a": None}
    async with asyncio.timeout(20):
        while answers["a"] is None:
            await asyncio.sleep(0.001)
            answers = await group.store.members.answers("p")
    assert answers == {"a": "version 3 of iris cannot be loaded: it is broken"}
    assert one.fleet.prepared == [("iris", 2, False)]


async def test_a_store_that_is_gone_is_waited_for(group: Group) -> None:
    first, second = await group.start("a"), await group.start("b")
    await first.releases.register("iris", 1)
    await until(group.store, "b", 1)
    group.store.down = True
    await group.eventually(lambda: not second.follower._in_step)
    with pytest.raises(StoreFailed):
        await change(first, Pause())
    group.store.down = False
    await group.eventually(lambda: second.follower._in_step and first.follower._in_step)
    assert (await change(first, SetCanary(2, 100))).revision == 2


async def test_what_one_round_meets_does_not_end_all_following(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = await group.start("a"), await group.start("b")
    await first.releases.register("iris", 1)
    real, failed = second.releases.catch_up, asyncio.Event()

    async def broken_once() -> None:
        monkeypatch.setattr(second.releases, "catch_up", real)
        failed.set()
        raise RuntimeError("bug")

    monkeypatch.setattr(second.releases, "catch_up", broken_once)
    await group.eventually(failed.is_set)
    assert (await change(first, SetCanary(2, 100))).revision == 2


async def test_it_leaves_when_its_proxies_have_ended(group: Group) -> None:
    first, second = await group.start("a"), await group.start("b")
    await second.stop()
    group.all.remove(second)
    assert set(await group.rows()) == {"a"}
    await first.die()
    assert set(await group.rows()) == {"a"}


async def test_it_does_not_leave_while_an_earlier_life_answers(group: Group) -> None:
    await group.start("a")
    second = await group.start("b", orphans=True)
    await second.stop()
    group.all.remove(second)
    assert (await group.rows())["b"].applied_sequence == 0, "its start was broken off: changes wait for what is left"


async def test_without_a_store_it_stays_apart_and_joins_later(group: Group) -> None:
    await group.start("a")
    apart = OneOfThem(group.store, "b", LEASE_S)
    group.all.append(apart)
    await apart.releases.start()
    apart.follower.stay_apart()
    assert apart.proxies.leases == [apart.clock.now_s]
    apart.follower.only_ours_answer()
    await group.eventually(lambda: apart.follower._incarnation != "")
    await group.eventually(lambda: apart.proxies.leases[-1] == apart.clock.now_s + LEASE_S)
