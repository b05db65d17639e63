"""Worker pools and proxies of one gateway: `ports.Fleet` with local processes."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
import structlog

from gateway.controlplane.instance import WorkerHost
from gateway.controlplane.pools import CHANGED_FILES, GONE, PoolKey, WorkerPool
from gateway.controlplane.ports import Applied, VersionStatus
from gateway.controlplane.proxies import Proxies
from gateway.controlplane.registry import Registry
from gateway.controlplane.repository import Key
from gateway.controlplane.settings import FleetSettings
from gateway.controlplane.tasks import Tasks
from gateway.controlplane.version import Version
from gateway.errors import NotFound, NotReady, Refusal, Refused
from gateway.routing.snapshot import Pool, Region, Release, Snapshot

log = structlog.get_logger()

TEND_S: Final = 1.0
UNLOADED: Final = "unloaded by a client; load it"


def pools_named(releases: Iterable[Release]) -> set[PoolKey]:
    """The warm set: live pools of both the policy and the one to roll back to, shadow pools of the policy."""
    named: set[PoolKey] = set()
    for release in releases:
        for policy in filter(None, (release.policy, release.rollback)):
            named |= {(release.model, version, False) for version in policy.live}
        named |= {(release.model, shadow.version, True) for shadow in release.policy.shadows}
    return named


class LocalFleet:
    """Runs what the releases name and tells the proxies. See `ports.Fleet` for the promises."""

    def __init__(self, registry: Registry, proxies: Proxies, host: WorkerHost, settings: FleetSettings) -> None:
        self._registry = registry
        self._proxies = proxies
        self._host = host
        self._settings = settings
        self._releases: dict[str, Release] = {}
        self._regions: tuple[Region, ...] = ()
        self._pools: dict[PoolKey, WorkerPool] = {}
        self._leaving: dict[PoolKey, asyncio.Task[None]] = {}
        self._ending: set[WorkerPool] = set()
        self._unloaded: set[str] = set()
        """Models that a client has taken out of service."""
        self._reloading: set[str] = set()
        """Models that a client wants ready: their pools run, unloaded or not."""
        self._stale = False
        self._started = False
        """What was released at the start has loaded or failed."""
        self._tasks = Tasks()
        proxies.on_hung = self._replace_hung

    def start(self) -> None:
        """Begins to look after the pools."""
        self._tasks.start(self._tend(), "fleet")

    async def close(self) -> None:
        """Ends every worker after the frame it works on."""
        await self._tasks.close()
        pools = {*self._pools.values(), *self._ending}
        self._pools.clear()
        await asyncio.gather(*(pool.stop() for pool in pools))

    async def prepare(self, model: str, version: int, *, shadow: bool) -> None:
        self._check_in_service(model)
        await self._bring_up(model, version, shadow=shadow)

    async def check(self, model: str, version: int, *, shadow: bool) -> None:
        self._check_in_service(model)
        await self._startable(model, version, shadow=shadow)

    def _check_in_service(self, model: str) -> None:
        if model in self._unloaded:
            raise Refused(f"{model} is {UNLOADED}", Refusal.CANNOT_BE_LOADED)

    def keep(self, model: str, version: int, keep_s: float) -> None:
        if pool := self._pools.get((model, version, False)):
            pool.keep(keep_s)

    async def load(self, model: str) -> None:
        """Returns when every live version of a released model is ready and in service. Raises Refused or NotFound; what
        served before serves on then, and what did not does not.
        """
        self._reloading.add(model)
        try:
            self._reconcile()
            for version in self._releases[model].policy.live:
                await self._bring_up(model, version, shadow=False)
            self._unloaded.discard(model)
        finally:
            self._reloading.discard(model)
            self._reconcile()
        await self._publish()
        await self._proxies.survey()  # their connections to the workers are up, too

    async def unload(self, model: str) -> None:
        """Returns when no proxy admits requests for the model. Its workers end once what was admitted is answered."""
        self._unloaded.add(model)
        self._reconcile()
        await self._publish()

    async def _bring_up(self, model: str, version: int, *, shadow: bool) -> None:
        if found := await self._startable(model, version, shadow=shadow):
            await self._ensure(found, shadow=shadow).prepare(self._settings.keep_prepared_s)

    async def _startable(self, model: str, version: int, *, shadow: bool) -> Version | None:
        """The version as it is found; None: it is running for a release. Raises NotFound, or Refused if what is found
        cannot be loaded.
        """
        running = self._pools.get((model, version, shadow))
        if running and running.healthy and (model, version, shadow) in pools_named(self._releases.values()):
            return None  # a way back must not depend on what has become of its folder since
        if not self._registry.find(model, version):
            await self._registry.settle()  # it may have been put there a moment ago
        found = self._require(model, version)
        if found.error:
            raise Refused(f"{model} version {version} cannot be loaded: {found.error}", Refusal.CANNOT_BE_LOADED)
        return found

    async def serve(self, releases: Mapping[str, Release]) -> tuple[Applied, ...]:
        self._releases = dict(releases)
        self._reconcile()
        return await self._publish()

    async def share(self, regions: tuple[Region, ...]) -> None:
        """Makes these the regions of shared memory. Returns when every proxy knows these and no others.

        Raises NotReady when one does not answer in time; then it is not killed, as it would be for a release, because
        it is clients who ask for this, and the regions are those of before.
        """
        before, self._regions = self._regions, regions
        self._send()
        try:
            await self._proxies.survey()
        except NotReady:
            self._regions = before
            self._send()
            raise

    def _replace_hung(self, address: str) -> None:
        for pool in (*self._pools.values(), *self._ending):
            for instance in pool.instances:
                if instance.address == address:
                    self._tasks.start(instance.kill_hung(), f"end of {address}")

    def _replace_heavy(self) -> None:
        """Looks at what every worker holds, and replaces those that hold more than they may."""
        for pool in self._pools.values():
            for instance in pool.instances:
                if held := instance.excess_bytes:
                    self._tasks.start(instance.replace_heavy(held), f"end of {instance.address}")

    def registry_changed(self) -> None:
        """The models directory holds something else than before."""
        self._reconcile()
        self._publish_soon()

    async def until_settled(self) -> None:
        """Returns when every pool is ready or has failed."""
        await asyncio.gather(*(pool.until_settled() for pool in list(self._pools.values())))

    @property
    def ready(self) -> bool:
        """Whether to send requests here.

        Every proxy listens, what was released at the start has loaded or failed, and, if anything is released, at least
        one stable version can answer. A model that failed or comes later must not take the others out of service.
        `Plane.settled` says the same of one proxy.
        """
        if not self._proxies.all_listening or not (self._started or self._loaded):
            return False
        wanted = [release for release in self._releases.values() if release.model not in self._unloaded]
        stable = [self._live_pool(release.model, release.policy.stable) for release in wanted]
        return not stable or any(pool and pool.addresses for pool in stable)

    def _released(self) -> set[Key]:
        """Versions that may answer."""
        releases = self._releases.items()
        return {(model, version) for model, release in releases for version in release.policy.live}

    def _live_pool(self, model: str, version: int) -> WorkerPool | None:
        return self._pools.get((model, version, False))

    def problems(self) -> list[str]:
        changed = [
            f"{model}/{version}: {CHANGED_FILES}"
            for (model, version, _), pool in self._pools.items()
            if (found := self._registry.find(model, version)) and found.digest != pool.digest
        ]
        gone = [
            f"{model}/{version}: a release names it, but its folder is gone or is no version; put it back"
            for model, version, _ in pools_named(self._releases.values())
            if not self._registry.find(model, version)
        ]
        return sorted({*self._registry.problems, *changed, *gone})

    def statuses(self) -> list[VersionStatus]:
        named = {(model, version) for model, version, _ in pools_named(self._releases.values())}
        return [self._status(key) for key in sorted(named | set(self._registry.versions))]

    def _status(self, key: Key) -> VersionStatus:
        """A version with two pools, live and shadow, is described by the live one; only restarts are added up."""
        found = self._registry.find(*key)
        pools = [pool for shadow in (False, True) if (pool := self._pools.get((*key, shadow)))]
        if not pools:
            if found is None:
                return VersionStatus(*key, digest="", state="missing", error=GONE)
            if self._is_unloaded(key):
                return VersionStatus(*key, found.digest, "unloaded", UNLOADED)
            return VersionStatus(*key, found.digest, "failed" if found.error else "found", found.error)
        public = pools[0].snapshot()
        if self._is_unloaded(key):
            state, error = ("loading", public.error) if key[0] in self._reloading else ("unloading", UNLOADED)
            public = msgspec.structs.replace(public, state=state, error=error)
        as_shadow = pools[-1].error if pools[-1] is self._pools.get((*key, True)) else ""
        return VersionStatus(
            *(*key, pools[0].digest),
            state="missing" if found is None and not public.addresses else public.state,
            error=f"as a shadow: {as_shadow}" if as_shadow else public.error,
            inputs=public.inputs,
            outputs=public.outputs,
            batched=public.batched,
            instances_ready=len(public.addresses),
            instances=len(pools[0].instances),
            restarts=sum(pool.restarts for pool in pools),
        )

    def _require(self, model: str, version: int) -> Version:
        if found := self._registry.find(model, version):
            return found
        if versions := self._registry.versions_of(model):
            known = ", ".join(map(str, versions))
            raise NotFound(f"model {model} has no version {version}; it has {known}")
        models = ", ".join(sorted({name for name, _ in self._registry.versions})) or "none"
        raise NotFound(f"there is no model {model}; models: {models}")

    def _ensure(self, found: Version, *, shadow: bool) -> WorkerPool:
        """The running pool of a version; one that never managed to load starts over when its files are others now."""
        key = (*found.key, shadow)
        self._stay(key)
        pool = self._pools.get(key)
        if pool and (pool.was_ready or pool.digest == found.digest):
            return pool
        if pool:
            self._tasks.start(self._end(pool), f"end {key}")
        settings = self._settings.workers_of(found.model, found.settings)
        log.info(
            "starting workers", model=found.model, version=found.version, shadow=shadow, instances=settings.instances
        )
        self._pools[key] = WorkerPool(found, settings, self._host, self._publish_soon, shadow=shadow)
        return self._pools[key]

    def _reconcile(self) -> None:
        """Starts what is named and can start; lets go what is not named and was not prepared lately."""
        named = self._wanted()
        for key in named:
            found = self._registry.find(key[0], key[1])
            if found and not found.error:
                self._ensure(found, shadow=key[2])
            else:
                self._stay(key)
        for key, pool in self._pools.items():
            pool.found(self._registry.find(key[0], key[1]))
            kept = pool.kept and key[0] not in self._unloaded
            if key not in named and not kept and key not in self._leaving:
                self._leaving[key] = self._tasks.start(self._leave(key), f"let go {key}")

    def _wanted(self) -> set[PoolKey]:
        """The pools that are to run: those named, but for models that are unloaded."""
        away = self._unloaded - self._reloading
        return pools_named(release for release in self._releases.values() if release.model not in away)

    def _is_unloaded(self, key: Key) -> bool:
        """A release names the version, and a client has unloaded its model."""
        model, version = key
        release = self._releases.get(model)
        return model in self._unloaded and release is not None and version in release.policy.live

    def _stay(self, key: PoolKey) -> None:
        """A pool that was about to go is wanted again."""
        if leaving := self._leaving.pop(key, None):
            leaving.cancel()
            self._publish_soon()

    async def _leave(self, key: PoolKey) -> None:
        """Once no proxy knows the pool, waits for requests in flight, then ends its workers."""
        await self._publish()
        await asyncio.sleep(self._settings.linger_s)
        pool = self._pools.pop(key)
        del self._leaving[key]
        log.info("stopping workers", model=key[0], version=key[1], shadow=key[2])
        self._publish_soon()
        await self._end(pool)

    async def _end(self, pool: WorkerPool) -> None:
        self._ending.add(pool)
        await pool.stop()
        self._ending.discard(pool)

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(TEND_S)
            self._reconcile()
            self._replace_heavy()

    def _publish_soon(self) -> None:
        """Sends what pools are now once, however many changes this turn of the loop brings."""
        if not self._stale:
            self._stale = True
            asyncio.get_running_loop().call_soon(self._send_if_stale)

    def _send_if_stale(self) -> None:
        """Unless somebody published meanwhile, or nothing that proxies see has changed."""
        self._note_start()
        newest = self._proxies.snapshot
        if self._stale and msgspec.structs.replace(self._snapshot(), epoch=newest.epoch) != newest:
            self._proxies.send(self._snapshot())
        self._stale = False

    def _note_start(self) -> None:
        """Called after every change of a pool or release."""
        self._started = self._started or self._loaded

    @property
    def _loaded(self) -> bool:
        """No released version is loading for the first time."""
        released = [self._live_pool(model, version) for model, version in self._released()]
        return not any(pool and pool.starting for pool in released)

    async def _publish(self) -> tuple[Applied, ...]:
        self._note_start()
        self._stale = False
        return await self._proxies.publish(self._snapshot())

    def _send(self) -> None:
        self._note_start()
        self._stale = False
        self._proxies.send(self._snapshot())

    def _snapshot(self) -> Snapshot:
        pools = [pool.snapshot() for key, pool in self._pools.items() if key not in self._leaving]
        pools = [pool for pool in pools if pool.model not in self._unloaded]
        pools += [_closed(pool) for key, pool in self._pools.items() if key[0] in self._unloaded]
        known = {(pool.model, pool.version, pool.shadow) for pool in pools}
        pools += [self._absent(key) for key in pools_named(self._releases.values()) - known]
        return Snapshot(
            epoch=0,
            releases=tuple(self._releases.values()),
            assignments=self._settings.assignments,
            pools=tuple(sorted(pools, key=lambda pool: (pool.model, pool.version, pool.shadow))),
            regions=self._regions,
        )

    def _absent(self, key: PoolKey) -> Pool:
        """A pool that is not there, as proxies see it."""
        if key[0] in self._unloaded:
            return Pool(*key, state="unloaded", error=UNLOADED)
        found = self._registry.find(key[0], key[1])
        return Pool(*key, state="failed", error=found.error if found else GONE)


def _closed(pool: WorkerPool) -> Pool:
    """A pool of a model that is unloaded, as proxies see it: workers are there for what was admitted before."""
    return msgspec.structs.replace(pool.snapshot(), state="unloaded", error=UNLOADED)
