"""Worker pools and proxies of one gateway: `ports.Fleet` with local processes.

Everything is done model by model, for those of which something has changed: what a change costs does not depend on how
many models there are.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec
import structlog

from gateway.controlplane.instance import WorkerHost
from gateway.controlplane.pools import CHANGED_FILES, GONE, PoolKey, WorkerPool
from gateway.controlplane.ports import Applied, VersionStatus
from gateway.controlplane.proxies import Proxies
from gateway.controlplane.registry import Registry
from gateway.controlplane.repository import Key
from gateway.controlplane.roster import Roster, pools_named
from gateway.controlplane.served import Served
from gateway.controlplane.settings import FleetSettings
from gateway.controlplane.tasks import Tasks
from gateway.controlplane.version import Version
from gateway.errors import NotFound, NotReady, Refusal, Refused
from gateway.routing.holding import Part
from gateway.routing.snapshot import Pool, Region, Release
from gateway.routing.update import Update

log = structlog.get_logger()

TEND_S: Final = 1.0
UNLOADED: Final = "unloaded by a client; load it"


class LocalFleet:
    """Runs what the releases name and tells the proxies. See `ports.Fleet` for the promises."""

    def __init__(
        self,
        registry: Registry,
        proxies: Proxies,
        host: WorkerHost,
        settings: FleetSettings,
        served: Served | None = None,
    ) -> None:
        """`served` notes which releases came to be served."""
        self._registry = registry
        self._proxies = proxies
        self._host = host
        self._settings = settings
        self._served = served
        self._releases: dict[str, Release] = {}
        self._regions: tuple[Region, ...] = ()
        self._pools = Roster()
        self._leaving: dict[PoolKey, asyncio.Task[None]] = {}
        self._ending: set[WorkerPool] = set()
        self._unloaded: set[str] = set()
        """Models that a client has taken out of service."""
        self._reloading: set[str] = set()
        """Models that a client wants ready: their pools run, unloaded or not."""
        self._spare: set[str] = set()
        """Models with pools that no release names and that may be let go one day."""
        self._stale: set[str] = set()
        """Models of which proxies may not know what has changed."""
        self._soon = False
        """They will be told in this turn of the loop."""
        self._awaited: set[str] = set()
        """Until everything has: models of which something may not have loaded or failed yet."""
        self._started = False
        """What was released at the start has loaded or failed."""
        self._tasks = Tasks()
        self.also_wrong: Callable[[], Iterable[str]] = tuple
        """Problems of others, for those who ask for all."""
        proxies.on_hung = self._replace_hung

    def start(self) -> None:
        """Begins to look after the pools."""
        self._tasks.start(self._tend(), "fleet")

    async def close(self) -> None:
        """Ends every worker after the frame it works on."""
        await self._tasks.close()
        pools = {*self._pools.clear(), *self._ending}
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
            self._reconcile(model)
            for version in self._releases[model].policy.live:
                await self._bring_up(model, version, shadow=False)
            self._unloaded.discard(model)
        finally:
            self._reloading.discard(model)
            self._reconcile(model)
        await self._publish()
        await self._proxies.survey()  # their connections to the workers are up, too

    async def unload(self, model: str) -> None:
        """Returns when no proxy admits requests for the model. Its workers end once what was admitted is answered."""
        self._unloaded.add(model)
        self._reconcile(model)
        await self._publish()

    async def _bring_up(self, model: str, version: int, *, shadow: bool) -> None:
        if found := await self._startable(model, version, shadow=shadow):
            pool = self._ensure(found, shadow=shadow)
            self._spare.add(model)
            await pool.prepare(self._settings.keep_prepared_s)

    async def _startable(self, model: str, version: int, *, shadow: bool) -> Version | None:
        """The version as it is found; None: it is running for a release. Raises NotFound, or Refused if what is found
        cannot be loaded.
        """
        running = self._pools.get((model, version, shadow))
        if running and running.healthy and (model, version, shadow) in self._named(model):
            return None  # a way back must not depend on what has become of its folder since
        if not self._registry.find(model, version):
            await self._registry.settle()  # it may have been put there a moment ago
        found = self._require(model, version)
        if found.error:
            raise Refused(f"{model} version {version} cannot be loaded: {found.error}", Refusal.CANNOT_BE_LOADED)
        return found

    async def serve(self, releases: Mapping[str, Release]) -> tuple[Applied, ...]:
        self._releases |= releases
        for model in releases:
            self._reconcile(model)
        applied = await self._publish()
        if self._served is not None:
            await self._served.keep(releases.values())
        return applied

    async def share(self, regions: tuple[Region, ...]) -> None:
        """Makes these the regions of shared memory. Returns when every proxy knows these and no others.

        Raises NotReady when one does not answer in time; then it is not killed, as it would be for a release, because
        it is clients who ask for this, and the regions are those of before.
        """
        before, self._regions = self._regions, regions
        self._proxies.send(self._update())
        try:
            await self._proxies.survey()
        except NotReady:
            self._regions = before
            self._proxies.send(self._update())
            raise

    def _replace_hung(self, address: str) -> None:
        for pool in (*self._pools, *self._ending):
            for instance in pool.instances:
                if instance.address == address:
                    self._tasks.start(instance.kill_hung(), f"end of {address}")

    def _replace_heavy(self) -> None:
        """Looks at what every worker holds, and replaces those that hold more than they may."""
        for pool in self._pools:
            for instance in pool.instances:
                if held := instance.excess_bytes:
                    self._tasks.start(instance.replace_heavy(held), f"end of {instance.address}")

    def registry_changed(self) -> None:
        """The models directory may hold something else than before."""
        for model in self._registry.take_changed():
            if model in self._releases or self._pools.of(model):
                self._reconcile(model)
        self._publish_soon()

    async def until_settled(self) -> None:
        """Returns when every pool is ready or has failed."""
        await asyncio.gather(*(pool.until_settled() for pool in self._pools))

    @property
    def ready(self) -> bool:
        """Whether to send requests here.

        Every proxy listens, what was released at the start has loaded or failed, and, if anything is released, at least
        one stable version can answer. A model that failed or comes later must not take the others out of service.
        `Plane.settled` says the same of one proxy.
        """
        if not self._proxies.all_listening or not (self._started or self._loaded):
            return False
        wanted = False
        for model, release in self._releases.items():
            if model not in self._unloaded:
                wanted = True
                stable = self._pools.get((model, release.policy.stable, False))
                if stable is not None and stable.addresses:
                    return True
        return not wanted

    def _named(self, model: str) -> set[PoolKey]:
        """The pools that the release of a model names, if it has one."""
        release = self._releases.get(model)
        return set() if release is None else pools_named(release)

    def _all_named(self) -> set[PoolKey]:
        return {key for release in self._releases.values() for key in pools_named(release)}

    def problems(self) -> list[str]:
        changed = [
            f"{model}/{version}: {CHANGED_FILES}"
            for pool in self._pools
            for model, version, _ in [pool.key]
            if (found := self._registry.find(model, version)) and found.digest != pool.digest
        ]
        gone = [
            f"{model}/{version}: a release names it, but its folder is gone or is no version; put it back"
            for model, version, _ in self._all_named()
            if not self._registry.find(model, version)
        ]
        return sorted({*self._registry.problems, *changed, *gone, *self.also_wrong()})

    def statuses(self) -> list[VersionStatus]:
        named = {(model, version) for model, version, _ in self._all_named()}
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
        if not self._started:
            self._awaited.add(found.model)
        pool = WorkerPool(found, settings, self._host, lambda: self._publish_soon(found.model), shadow=shadow)
        self._pools.put(key, pool)
        return pool

    def _reconcile(self, model: str) -> None:
        """Starts what is named and can start; lets go what is not named and was not prepared lately."""
        self._stale.add(model)
        away = model in self._unloaded and model not in self._reloading
        wanted = set() if away else self._named(model)
        for key in wanted:
            found = self._registry.find(key[0], key[1])
            if found and not found.error:
                self._ensure(found, shadow=key[2])
            else:
                self._stay(key)
        self._spare.discard(model)
        for key, pool in self._pools.of(model).items():
            pool.found(self._registry.find(key[0], key[1]))
            if key in wanted or key in self._leaving:
                continue
            if pool.kept and model not in self._unloaded:
                self._spare.add(model)
            else:
                self._leaving[key] = self._tasks.start(self._leave(key), f"let go {key}")

    def _is_unloaded(self, key: Key) -> bool:
        """A release names the version, and a client has unloaded its model."""
        model, version = key
        release = self._releases.get(model)
        return model in self._unloaded and release is not None and version in release.policy.live

    def _stay(self, key: PoolKey) -> None:
        """A pool that was about to go is wanted again."""
        if leaving := self._leaving.pop(key, None):
            leaving.cancel()
            self._publish_soon(key[0])

    async def _leave(self, key: PoolKey) -> None:
        """Once no proxy knows the pool, waits for requests in flight, then ends its workers."""
        self._stale.add(key[0])
        await self._publish()
        await asyncio.sleep(self._settings.linger_s)
        if self._leaving.get(key) is not asyncio.current_task():
            return  # it is wanted again: before Python 3.12 `wait_for`, in `_publish`, may swallow a cancellation
        pool = self._pools.pop(key)
        del self._leaving[key]
        log.info("stopping workers", model=key[0], version=key[1], shadow=key[2])
        self._publish_soon(key[0])
        await self._end(pool)

    async def _end(self, pool: WorkerPool) -> None:
        self._ending.add(pool)
        await pool.stop()
        self._ending.discard(pool)

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(TEND_S)
            for model in sorted(self._spare):
                self._reconcile(model)
            if self._stale:
                self._publish_soon()
            self._replace_heavy()

    def _publish_soon(self, *models: str) -> None:
        """Sends what pools are now once, however many changes this turn of the loop brings."""
        self._stale.update(models)
        if not self._soon:
            self._soon = True
            asyncio.get_running_loop().call_soon(self._send_if_stale)

    def _send_if_stale(self) -> None:
        """Unless somebody published meanwhile, or nothing that proxies see has changed."""
        self._soon = False
        update = self._update()
        if not update.empty:
            self._proxies.send(update)

    @property
    def _loaded(self) -> bool:
        """No released version is loading for the first time. Who has loaded is not looked at again."""
        while self._awaited:
            model = next(iter(self._awaited))
            release = self._releases.get(model)
            live = release.policy.live if release is not None else ()
            pools = [self._pools.get((model, version, False)) for version in live]
            if any(pool and pool.starting for pool in pools):
                return False
            self._awaited.discard(model)
        return True

    async def _publish(self) -> tuple[Applied, ...]:
        return await self._proxies.publish(self._update())

    def _update(self) -> Update:
        """What proxies do not know yet, which whoever asks sends in the same breath."""
        self._started = self._started or self._loaded
        stale, self._stale = self._stale, set()
        parts = {model: self._part(model) for model in stale}
        return self._proxies.holding.difference(parts, self._settings.assignments, self._regions)

    def _part(self, model: str) -> Part:
        """A model as proxies see it."""
        pools = {key: pool for key, pool in self._pools.of(model).items() if key not in self._leaving}
        if model in self._unloaded:
            shown = {key: _closed(pool) for key, pool in self._pools.of(model).items()}
        else:
            shown = {key: pool.snapshot() for key, pool in pools.items()}
        shown |= {key: self._absent(key) for key in self._named(model) - shown.keys()}
        return Part(self._releases.get(model), tuple(shown.values()))

    def _absent(self, key: PoolKey) -> Pool:
        """A pool that is not there, as proxies see it."""
        if key[0] in self._unloaded:
            return Pool(*key, state="unloaded", error=UNLOADED)
        found = self._registry.find(key[0], key[1])
        return Pool(*key, state="failed", error=found.error if found else GONE)


def _closed(pool: WorkerPool) -> Pool:
    """A pool of a model that is unloaded, as proxies see it: workers are there for what was admitted before."""
    return msgspec.structs.replace(pool.snapshot(), state="unloaded", error=UNLOADED)
