"""Asking, waiting for and removing the other gateways. Those are rows here; nobody lives behind them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.controlplane import peers as module
from gateway.controlplane.audit import ACCESS
from gateway.controlplane.members import SILENT_S
from gateway.controlplane.peers import WHOLE, Peers
from gateway.controlplane.ports import Applied
from gateway.controlplane.store.members import Member, Pool, Preparation, Report
from gateway.errors import InvalidRequest, NotFound, NotReady, Refused, StoreFailed
from tests.unit.gateway.controlplane.fake_group import Clock, SharedStore

POOL = Pool("iris", 2)


class Looking:
    """The peers of gateway a, and the rows of others."""

    def __init__(self) -> None:
        self.store = SharedStore()
        self.members = self.store.members
        self.clock = Clock()
        self.peers = Peers(self.members, "a", lambda: 7, self.clock, patience_s=0.0)

    async def row(self, gateway: str, applied: int = 0, lease_ms: int = 0) -> None:
        """A gateway joins, or says something else."""
        report = Report(applied_sequence=applied, lease_ms=lease_ms, proxies=(Applied(0, 1.0), Applied(1, 2.0)))
        if not await self.members.beat(gateway, "1", report, tell=True):
            await self.members.join(gateway, "1", report)

    async def asked(self, gateway: str) -> list[Preparation]:
        """What a gateway is asked, once it is."""
        heard = asyncio.Event()
        end = self.members.subscribe(heard.set)
        while True:
            heard.clear()
            if found := await self.members.asked(gateway):
                end()
                return found
            await heard.wait()

    async def names(self) -> list[str]:
        return [member.id for member in await self.members.members()]


@pytest.fixture
async def looking(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Looking]:
    monkeypatch.setattr(module, "POLL_S", 0.001)
    made = Looking()
    await made.row("a")
    yield made
    await made.peers.close()


async def test_a_gateway_without_others_waits_for_nobody(looking: Looking) -> None:
    await looking.peers.prepare([POOL])
    assert await looking.peers.confirm(5, 1000.0) == ()


async def test_everybody_is_listed_and_who_is_silent(looking: Looking) -> None:
    await looking.row("b")
    await looking.peers.look()
    looking.clock.now_s += SILENT_S + 1
    await looking.row("a")
    assert [(member.id, silent) for member, silent in await looking.peers.everybody()] == [("a", False), ("b", True)]
    assert looking.peers.counts() == {"live": 1, "silent": 1}


async def test_others_are_asked_and_waited_for(looking: Looking) -> None:
    await looking.row("b")
    preparing = asyncio.get_running_loop().create_task(looking.peers.prepare([POOL]))
    asked = await looking.asked("b")
    assert asked[0].wanted == (POOL,)
    assert not preparing.done()
    await looking.members.answer(asked[0].id, "b", "")
    await preparing
    assert await looking.members.answers(asked[0].id) == {}, "it is withdrawn"


async def test_what_another_cannot_prepare_is_refused(looking: Looking) -> None:
    await looking.row("b")
    preparing = asyncio.get_running_loop().create_task(looking.peers.prepare([POOL]))
    asked = await looking.asked("b")
    await looking.members.answer(asked[0].id, "b", "iris has no version 2")
    with pytest.raises(Refused, match="gateway b: iris has no version 2") as caught:
        await preparing
    assert caught.value.reason == "CANNOT_BE_LOADED"


async def test_who_falls_silent_is_not_waited_for(looking: Looking) -> None:
    await looking.row("b")
    preparing = asyncio.get_running_loop().create_task(looking.peers.prepare([POOL]))
    await looking.asked("b")
    looking.clock.now_s += SILENT_S + 1
    await preparing
    await looking.peers.prepare([POOL])  # nor asked again


async def test_confirmations_are_named_with_their_times(looking: Looking) -> None:
    await looking.row("b", applied=5)
    looking.clock.now_s = 1000.25
    assert await looking.peers.confirm(5, 1000.0) == (
        Applied(0, 250.0, gateway="b"),
        Applied(1, 250.0, gateway="b"),
    )
    assert await looking.peers.confirm(4, 1000.0) == (), "it was confirmed with that"


async def test_who_does_not_confirm_is_named(looking: Looking) -> None:
    await looking.row("b", applied=4)
    await looking.row("c", applied=4)
    await looking.peers.look()
    with pytest.raises(NotReady, match=r"^gateway b has not confirmed it, gateway c has not confirmed it$"):
        await looking.peers.confirm(5, 1000.0)
    looking.clock.now_s += SILENT_S + 1
    await looking.row("c", applied=4)
    said = "^gateway b has not confirmed it and is silent, gateway c has not confirmed it; if it is dead, say so"
    with pytest.raises(NotReady, match=said):
        await looking.peers.confirm(5, 1000.0)


async def test_who_has_promised_to_stop_is_removed_after_its_lease(looking: Looking) -> None:
    await looking.row("b", applied=4, lease_ms=2_000)
    confirming = asyncio.get_running_loop().create_task(looking.peers.confirm(5, 1000.0))
    for _ in range(10):
        await asyncio.sleep(0.001)
    assert not confirming.done()
    looking.clock.now_s += 2.02
    assert await confirming == (Applied(WHOLE, 2020.0, fenced=True, gateway="b"),)
    assert await looking.names() == ["a"]
    (event,) = await looking.store.events(None, 10, None)
    assert (event.kind, event.verb, event.actor) == (ACCESS, "fence-gateway", "gateway a")
    assert event.reason == "b: silent for longer than its lease of 2 s"


async def test_who_renews_its_row_in_the_last_moment_is_waited_for(
    looking: Looking, monkeypatch: pytest.MonkeyPatch
) -> None:
    await looking.row("b", applied=4, lease_ms=2_000)
    await looking.peers.look()
    looking.clock.now_s += 3
    fence: Any = looking.members.fence

    async def renewed_first(*values: object, **named: object) -> bool:
        await looking.row("b", applied=5, lease_ms=2_000)
        return bool(await fence(*values, **named))

    monkeypatch.setattr(looking.members, "fence", renewed_first)
    applied = await looking.peers.confirm(5, 1000.0)
    assert [(one.gateway, one.fenced) for one in applied] == [("b", False), ("b", False)]
    assert await looking.names() == ["a", "b"]


async def test_a_store_that_does_not_answer_leaves_it_open(looking: Looking, monkeypatch: pytest.MonkeyPatch) -> None:
    async def down() -> list[Member]:
        raise StoreFailed("the store is down")

    monkeypatch.setattr(looking.members, "members", down)
    with pytest.raises(NotReady, match="whether the other gateways serve it is not known: the store is down"):
        await looking.peers.confirm(5, 1000.0)


async def test_an_operator_may_say_that_a_silent_gateway_is_dead(looking: Looking) -> None:
    await looking.row("b")
    await looking.peers.look()
    looking.clock.now_s += SILENT_S + 1
    await looking.peers.fence("b", "its machine is off", "ada")
    assert await looking.names() == ["a"]
    (event,) = await looking.store.events(None, 10, None)
    assert (event.actor, event.reason, event.time_ms) == ("ada", "b: its machine is off", 7)


async def test_nobody_is_fenced_by_mistake(looking: Looking) -> None:
    await looking.row("b")
    with pytest.raises(InvalidRequest, match="a reason is needed"):
        await looking.peers.fence("b", "", "ada")
    with pytest.raises(Refused, match="this is gateway a"):
        await looking.peers.fence("a", "dead", "ada")
    with pytest.raises(NotFound, match="there is no gateway c; others: b"):
        await looking.peers.fence("c", "dead", "ada")
    with pytest.raises(Refused, match="gateway b lives: it was heard") as caught:
        await looking.peers.fence("b", "dead", "ada")
    assert caught.value.reason == "GATEWAY_LIVES"
    assert await looking.names() == ["a", "b"]
