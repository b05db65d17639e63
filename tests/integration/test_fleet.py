"""The fleet with real processes: stand-in workers and proxies that speak the real protocols."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from gateway.controlplane import fleet as module
from gateway.controlplane.fleet import UNLOADED, LocalFleet
from gateway.controlplane.lifetime import WORKER
from gateway.controlplane.listener import reserved_port
from gateway.controlplane.pools import CHANGED_FILES, GONE
from gateway.controlplane.processes import Launcher
from gateway.controlplane.proxies import Proxies
from gateway.controlplane.registry import Registry
from gateway.controlplane.settings import FleetSettings, ProxySettings
from gateway.errors import NotFound, NotReady, Refused
from gateway.routing.snapshot import Assignment, Canary, Pool, Range, Region, Shadow
from gateway.routing.update import Update
from tests.children.world import Book, Reported, proxy, put, release, worker_host


class World:
    """A fleet over a models directory."""

    def __init__(self, models: Path, run_dir: Path, port: int) -> None:
        self.models = models
        self.book = Book()
        self.registry = Registry(models)
        settings = ProxySettings("127.0.0.1", port, drain_grace_s=5, ack_timeout_s=30)
        self.proxies = Proxies(settings, Launcher(self.book), proxy(), run_dir, Reported())
        fleet = FleetSettings(linger_s=0.0, keep_prepared_s=0.0, assignments={"digits": Assignment(no_unit="stable")})
        self.fleet = LocalFleet(self.registry, self.proxies, worker_host(run_dir, self.book), fleet)

    async def put(self, version: int, told: str = "ok") -> None:
        """A version, found by the registry."""
        put(self.models, "digits", version, told)
        await self.look()

    async def look(self) -> None:
        """Two looks at the models directory."""
        await self.registry.poll()
        await self.registry.poll()
        self.fleet.registry_changed()

    def pool(self, version: int, *, shadow: bool = False) -> Pool | None:
        """The pool as the newest snapshot has it."""
        pools = self.proxies.snapshot.pools
        return next((pool for pool in pools if (pool.version, pool.shadow) == (version, shadow)), None)

    def ready(self) -> bool:
        return self.fleet.ready

    def states(self) -> dict[int, str]:
        return {status.version: status.state for status in self.fleet.statuses()}


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(module, "TEND_S", 0.02)
    with TemporaryDirectory(prefix="cutover-test-") as run_dir, reserved_port("127.0.0.1", 0, "-") as port:
        world = World(tmp_path, Path(run_dir), port)
        world.fleet.start()
        yield world
        await world.proxies.close()
        await world.fleet.close()
    assert world.book.alive == {}


async def until(holds: Callable[[], bool]) -> None:
    """Waits for what other processes bring about."""
    while not holds():  # noqa: ASYNC110 - many causes, no one event
        await asyncio.sleep(0.01)


async def test_a_release_is_served_by_a_pool_that_is_published_when_ready(world: World) -> None:
    await world.put(1)
    await world.proxies.start(60)
    assert [one.proxy for one in await world.fleet.serve({"digits": release()})] == [0]
    assert world.proxies.snapshot.releases == (release(),)
    assert world.proxies.snapshot.assignments["digits"].no_unit == "stable"
    await world.fleet.until_settled()
    await until(lambda: (pool := world.pool(1)) is not None and bool(pool.addresses))
    (status,) = world.fleet.statuses()
    assert (status.state, status.instances, status.instances_ready, status.batched) == ("ready", 1, 1, True)


async def test_it_is_ready_when_one_model_can_answer_and_none_is_loading(world: World) -> None:
    assert not world.ready(), "no proxy listens"
    await world.proxies.start(60)
    assert world.ready(), "nothing is released"
    await world.put(1)
    await world.put(2, "fail truncated")
    put(world.models, "other", 1, "fail truncated")
    await world.look()
    await world.fleet.serve({"other": release("other")})
    assert not world.ready(), "it is loading"
    await world.fleet.until_settled()
    assert not world.ready(), "nobody can answer"
    canary = Canary(2, (Range(0, 1),))
    await world.fleet.serve({"digits": release(canaries=(canary,)), "other": release("other")})
    await world.fleet.until_settled()
    assert world.ready(), "what failed does not take the others out of service"
    await world.fleet.serve({"digits": release(stable=9), "other": release("other")})
    assert not world.ready(), "the stable version of one failed, that of the other is gone"


async def test_a_killed_worker_is_restarted_and_its_new_address_published(world: World) -> None:
    await world.put(1)
    await world.proxies.start(60)
    await world.fleet.prepare("digits", 1, shadow=False)
    await world.fleet.serve({"digits": release()})
    before = world.pool(1)
    assert before
    assert before.addresses
    os.kill(await world.book.pid(WORKER), signal.SIGKILL)
    await until(lambda: (pool := world.pool(1)) is not None and pool.addresses not in ((), before.addresses))
    assert world.fleet.statuses()[0].restarts == 1
    slot = world.proxies._slots[0]
    await until(lambda: slot.applied == world.proxies.snapshot.epoch)


async def test_prepare_refuses_what_cannot_be_loaded_and_knows_what_there_is(world: World) -> None:
    with pytest.raises(NotFound, match="there is no model digits; models: none"):
        await world.fleet.prepare("digits", 1, shadow=False)
    await world.put(1, "fail no such operator")
    await world.put(2)
    (world.models / "digits" / "2" / "model.toml").write_text("instancez = 1")
    await world.look()
    with pytest.raises(NotFound, match="model digits has no version 3; it has 1, 2"):
        await world.fleet.prepare("digits", 3, shadow=False)
    with pytest.raises(Refused, match="no such operator"):
        await world.fleet.prepare("digits", 1, shadow=False)
    with pytest.raises(Refused, match="instancez: unknown setting"):
        await world.fleet.prepare("digits", 2, shadow=True)
    assert "instancez" in world.fleet.problems()[0]
    assert world.states()[2] == "failed"


async def test_a_version_put_there_a_moment_ago_can_be_prepared(world: World) -> None:
    put(world.models, "digits", 7)
    await world.fleet.prepare("digits", 7, shadow=False)
    assert world.states() == {7: "ready"}


async def test_a_version_is_checked_without_loading_it(world: World) -> None:
    put(world.models, "digits", 7)
    await world.fleet.check("digits", 7, shadow=False)
    assert world.states() == {7: "found"}
    with pytest.raises(NotFound, match="has no version 8"):
        await world.fleet.check("digits", 8, shadow=False)
    await world.fleet.unload("digits")
    with pytest.raises(Refused, match="unloaded by a client"):
        await world.fleet.check("digits", 7, shadow=False)


async def test_a_version_that_is_live_and_a_shadow_counts_its_live_workers(world: World) -> None:
    await world.put(1)
    await world.fleet.prepare("digits", 1, shadow=True)
    shadow = await world.book.pid(WORKER)
    shadows = (Shadow(1, 1.0),)
    await world.fleet.serve({"digits": release(stable=2, shadows=shadows)})
    alone = world.fleet.statuses()[0]
    await world.fleet.serve({"digits": release(shadows=shadows)})
    await world.fleet.until_settled()
    both = world.fleet.statuses()[0]
    assert (alone.instances_ready, alone.instances) == (both.instances_ready, both.instances) == (1, 1)
    await until(lambda: len(world.book.pids(WORKER)) == 2)
    os.kill(shadow, signal.SIGKILL)
    await until(lambda: world.fleet.statuses()[0].restarts == 1)
    assert (world.fleet.statuses()[0].instances_ready, world.fleet.statuses()[0].instances) == (1, 1)


async def test_a_shadow_that_cannot_load_is_told_with_its_version(world: World) -> None:
    await world.put(1)
    await world.put(2, "fail truncated")
    await world.fleet.serve({"digits": release(shadows=(Shadow(2, 1.0),))})
    await world.fleet.until_settled()
    status = world.fleet.statuses()[1]
    assert (status.state, status.error) == ("failed", "as a shadow: truncated")


async def test_candidates_get_pools_and_what_nobody_names_is_let_go(world: World) -> None:
    for version in (1, 2, 3):
        await world.put(version)
    await world.proxies.start(60)
    canary = Canary(2, (Range(0, 1000),))
    await world.fleet.serve({"digits": release(canaries=(canary,), shadows=(Shadow(3, 1.0),))})
    await world.fleet.until_settled()
    assert world.states() == {1: "ready", 2: "ready", 3: "ready"}
    assert len(world.book.pids(WORKER)) == 3
    await until(lambda: (pool := world.pool(3, shadow=True)) is not None and pool.state == "ready")
    await world.fleet.serve({"digits": release(revision=2)})
    await until(lambda: len(world.book.pids(WORKER)) == 1)
    assert [pool.version for pool in world.proxies.snapshot.pools] == [1]
    assert world.states() == {1: "ready", 2: "found", 3: "found"}


async def test_a_pool_wanted_again_before_it_went_stays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.fleet, "_settings", FleetSettings(linger_s=3600.0, keep_prepared_s=0.0))
    for version in (1, 2):
        await world.put(version)
    with_canary = release(canaries=(Canary(2, (Range(0, 1),)),))
    await world.fleet.serve({"digits": with_canary})
    await world.fleet.until_settled()
    await world.fleet.serve({"digits": release(revision=2)})
    await until(lambda: world.pool(2) is None)
    workers = world.book.pids(WORKER)
    await world.fleet.serve({"digits": with_canary})
    assert world.pool(2)
    assert world.book.pids(WORKER) == workers


async def test_a_prepared_pool_is_kept_for_a_while_without_a_release(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.fleet, "_settings", FleetSettings(linger_s=0.0, keep_prepared_s=0.3))
    await world.put(1)
    await world.fleet.prepare("digits", 1, shadow=True)
    assert world.pool(1, shadow=True) or await published(world)
    await until(lambda: world.book.pids(WORKER) == [])
    assert world.pool(1, shadow=True) is None


async def published(world: World) -> bool:
    await until(lambda: world.pool(1, shadow=True) is not None)
    return True


async def test_a_version_whose_folder_is_gone_is_missing_until_it_is_back(world: World) -> None:
    await world.fleet.serve({"digits": release()})
    assert world.states() == {1: "missing"}
    pool = world.pool(1)
    assert pool
    assert (pool.state, pool.error) == ("failed", GONE)
    assert world.fleet.statuses()[0].error == GONE
    assert "a release names it, but its folder is gone" in world.fleet.problems()[0]
    await world.put(1)
    await until(lambda: world.states() == {1: "ready"})
    assert world.fleet.problems() == []


async def test_a_version_that_never_loaded_and_is_gone_says_that_it_is_gone(world: World) -> None:
    await world.put(1, "fail truncated")
    await world.fleet.serve({"digits": release()})
    await until(lambda: world.states() == {1: "failed"})
    shutil.rmtree(world.models / "digits")
    await world.look()
    (status,) = world.fleet.statuses()
    assert (status.state, status.error) == ("missing", GONE)


async def test_a_version_that_is_ready_can_be_prepared_although_its_folder_is_gone(world: World) -> None:
    await world.put(1)
    await world.proxies.start(60)
    await world.fleet.serve({"digits": release()})
    await world.fleet.until_settled()
    shutil.rmtree(world.models / "digits")
    await world.look()
    await world.fleet.prepare("digits", 1, shadow=False)
    with pytest.raises(NotFound):
        await world.fleet.prepare("digits", 1, shadow=True)
    await world.fleet.serve({"digits": release(stable=2)})
    with pytest.raises(NotFound):
        await world.fleet.prepare("digits", 1, shadow=False)


async def test_a_version_that_is_kept_stays_although_no_release_names_it(world: World) -> None:
    for number in (1, 2, 3):
        await world.put(number)
    await world.proxies.start(60)
    await world.fleet.prepare("digits", 2, shadow=False)
    world.fleet.keep("digits", 2, 3_600)
    world.fleet.keep("digits", 9, 3_600)
    await world.fleet.prepare("digits", 3, shadow=False)
    await world.fleet.serve({"digits": release()})
    assert [world.pool(number) is not None for number in (1, 2, 3)] == [True, True, False]


async def test_changed_files_are_a_problem_and_what_is_loaded_goes_on(world: World) -> None:
    await world.put(1)
    await world.fleet.serve({"digits": release()})
    await world.fleet.until_settled()
    await world.put(1, "ok and different")
    assert world.fleet.problems() == [f"digits/1: {CHANGED_FILES}"]
    assert world.states() == {1: "ready"}
    shutil.rmtree(world.models / "digits")
    await world.look()
    assert world.states() == {1: "ready"}


async def test_a_version_that_never_loaded_starts_over_with_other_files(world: World) -> None:
    await world.put(1, "fail truncated")
    await world.fleet.serve({"digits": release()})
    await until(lambda: world.states() == {1: "failed"})
    assert world.fleet.statuses()[0].error == "truncated"
    await world.put(1, "ok")
    await until(lambda: world.states() == {1: "ready"})


async def test_an_unloaded_model_is_out_of_service_until_it_is_loaded(world: World) -> None:
    for number in (1, 2):
        await world.put(number)
    await world.proxies.start(60)
    await world.fleet.serve({"digits": release(shadows=(Shadow(2, 1.0),))})
    await world.fleet.until_settled()
    await world.fleet.unload("digits")
    pool = world.pool(1)
    assert pool
    assert (pool.state, pool.error) == ("unloaded", UNLOADED)
    assert pool.addresses, "what was admitted before is still to be answered"
    assert world.states()[1] == "unloading"
    await until(lambda: world.book.pids(WORKER) == [])
    assert world.states() == {1: "unloaded", 2: "found"}
    assert world.ready(), "nobody wants anything else than what is"
    with pytest.raises(Refused, match="unloaded by a client"):
        await world.fleet.prepare("digits", 2, shadow=False)
    await world.fleet.load("digits")
    pool = world.pool(1)
    assert pool
    assert (pool.state, len(pool.addresses)) == ("ready", 1)
    await until(lambda: world.states() == {1: "ready", 2: "ready"})


async def test_a_load_that_fails_leaves_everything_as_it_was(world: World) -> None:
    await world.put(1)
    await world.fleet.serve({"digits": release()})
    await world.fleet.until_settled()
    await world.fleet.load("digits")
    assert world.states() == {1: "ready"}
    await world.fleet.unload("digits")
    await until(lambda: world.states() == {1: "unloaded"})
    await world.put(1, "fail truncated")
    with pytest.raises(Refused, match="truncated"):
        await world.fleet.load("digits")
    await until(lambda: world.states() == {1: "unloaded"})
    assert (pool := world.pool(1))
    assert pool.state == "unloaded"
    await world.put(1, "ok")
    await world.fleet.load("digits")
    assert world.states() == {1: "ready"}


async def test_regions_of_shared_memory_stay_in_every_snapshot(world: World) -> None:
    await world.put(1)
    region = Region("r", "/object", 0, 8, 1, 2)
    await world.fleet.share((region,))
    assert list(world.proxies.snapshot.regions) == [region]
    await world.fleet.serve({"digits": release()})
    assert list(world.proxies.snapshot.regions) == [region]
    await world.fleet.share(())
    assert list(world.proxies.snapshot.regions) == []


async def test_no_proxy_is_killed_for_a_region_that_a_client_wants(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (Region(name, "/object", 0, 8, 1, 2) for name in "ab")
    await world.fleet.share((first,))

    async def late() -> None:
        assert list(world.proxies.snapshot.regions) == [first, second], "it was sent before it is asked for"
        raise NotReady("proxy 0 does not report in time")

    async def publish(_: Update) -> None:
        pytest.fail("who is late for this would be killed")

    monkeypatch.setattr(world.proxies, "survey", late)
    monkeypatch.setattr(world.proxies, "publish", publish)
    with pytest.raises(NotReady):
        await world.fleet.share((first, second))
    assert list(world.proxies.snapshot.regions) == [first]
