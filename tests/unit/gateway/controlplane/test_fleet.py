"""What the fleet tells proxies, without any process: tests/integration/test_fleet.py has some."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import cast

import pytest

from gateway.controlplane.fleet import LocalFleet
from gateway.controlplane.pools import GONE
from gateway.controlplane.ports import Applied
from gateway.controlplane.proxies import Proxies
from gateway.controlplane.registry import Registry
from gateway.controlplane.settings import FleetSettings
from gateway.routing.holding import Holding, numbered
from gateway.routing.snapshot import Assignment, Canary, Pool, Range, Shadow
from gateway.routing.update import Update
from tests.children.world import Book, put, release, worker_host

APPLIED = (Applied(0, 1.0),)


class FakeProxies:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.holding = Holding()
        self.sent: list[Update] = []
        self.all_listening = True
        self.swallows = False
        """A cancellation, as `asyncio.wait_for` may before Python 3.12."""

    def send(self, update: Update) -> int:
        self.sent.append(update)
        epoch = self.holding.epoch + 1
        self.holding.apply(numbered(update, epoch - 1, epoch))
        return epoch

    async def publish(self, update: Update) -> tuple[Applied, ...]:
        self.send(update)
        if self.swallows:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
        return APPLIED


@pytest.fixture
def proxies() -> FakeProxies:
    return FakeProxies()


@pytest.fixture
def fleet(tmp_path: Path, run_dir: Path, book: Book, proxies: FakeProxies) -> LocalFleet:
    """Of an empty models directory, so that what is released is gone."""
    settings = FleetSettings(assignments={"a": Assignment(allow_forced=False)})
    return LocalFleet(Registry(tmp_path), cast("Proxies", proxies), worker_host(run_dir, book), settings)


def gone(model: str, version: int, *, shadow: bool = False) -> Pool:
    return Pool(model, version, shadow, state="failed", error=GONE)


async def test_proxies_are_told_of_the_models_that_have_changed_and_no_others(
    fleet: LocalFleet, proxies: FakeProxies
) -> None:
    first = {model: release(model) for model in "abc"}
    assert await fleet.serve(first) == APPLIED
    assert {one.model for one in proxies.sent[0].releases} == {"a", "b", "c"}
    assert proxies.sent[0].assignments is not None
    changed = release("b", stable=2, revision=2, shadows=(Shadow(1, 1.0),))
    await fleet.serve({"b": changed})
    update = proxies.sent[1]
    assert (update.releases, update.pools_gone) == ((changed,), (("b", 1, False),))
    assert sorted(update.pools, key=lambda pool: pool.key) == [gone("b", 1, shadow=True), gone("b", 2)]
    assert (update.models(), update.assignments) == ({"b"}, None)
    assert proxies.holding.releases == first | {"b": changed}


async def test_what_is_served_already_is_sent_as_an_empty_update_that_is_acknowledged(
    fleet: LocalFleet, proxies: FakeProxies
) -> None:
    await fleet.serve({"a": release("a")})
    assert await fleet.serve({"a": release("a")}) == APPLIED
    assert proxies.sent[1].empty


async def test_a_model_that_is_unloaded_is_closed_for_itself(fleet: LocalFleet, proxies: FakeProxies) -> None:
    await fleet.serve({model: release(model) for model in "ab"})
    await fleet.unload("a")
    (pool,) = proxies.sent[1].pools
    assert (pool.model, pool.state) == ("a", "unloaded")
    assert fleet.ready is False, "nobody answers for b"
    await fleet.unload("b")
    assert fleet.ready


async def test_a_pool_that_is_wanted_again_stays_though_its_leaving_does_not_hear_of_it(
    tmp_path: Path, run_dir: Path, book: Book, proxies: FakeProxies
) -> None:
    for version in (1, 2):
        put(tmp_path, "a", version)
    registry = Registry(tmp_path)
    for _ in range(2):
        await registry.poll()
    fleet = LocalFleet(registry, cast("Proxies", proxies), worker_host(run_dir, book), FleetSettings(linger_s=0.0))
    with_canary = release("a", canaries=(Canary(2, (Range(0, 1),)),))
    await fleet.serve({"a": with_canary})
    proxies.swallows = True
    await fleet.serve({"a": release("a", revision=2)})
    (leaving,) = fleet._leaving.values()
    await fleet.serve({"a": with_canary})
    await leaving
    assert set(fleet._pools.of("a")) == {("a", 1, False), ("a", 2, False)}
    await fleet.close()
