"""The data plane's state: routes, lanes and channels, made to match each snapshot."""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import Final

import structlog

from gateway.dataplane.channel import SLOW_US, Channel
from gateway.dataplane.cores import Cores
from gateway.dataplane.job import Load
from gateway.dataplane.lane import Lane
from gateway.dataplane.mirror import SLOW_COPY_US, Mirror, ShadowLane
from gateway.dataplane.pipeline import Pipeline
from gateway.dataplane.pressure import Pressure
from gateway.dataplane.regions import Regions
from gateway.dataplane.route import NO_ARM, Route
from gateway.dataplane.slots import DEFAULT_THRESHOLD_BYTES, Sharing
from gateway.dataplane.tap import Series
from gateway.dataplane.tracer import Tracer
from gateway.routing.link import Tracing
from gateway.routing.outcome import Report
from gateway.routing.snapshot import Assignment, Pool, PoolKey, Release, Snapshot

log = structlog.get_logger(__name__)

CONNECT_S: Final = 1.0
"""How long somebody waits for calls to workers; a socket that is there answers at once."""
UNLOADED: Final = "unloaded"
DEFAULT: Final = Assignment()
"""Of a model that the configuration does not name."""
RECONNECT_S: Final = 1.0
"""Pause before a worker is called again whose connection ended while the snapshot still names it."""
TIDY_S: Final = 10.0
"""Shared memory that no batch has needed for so long is given back."""
TELL_HELD_EVERY_S: Final = 60.0
"""The log is told that copies are held, but not each time."""


@dataclass(frozen=True)
class Settings:
    """Limits of one proxy."""

    max_in_flight: int = 8192
    max_queue: int = 1024
    max_shadow_queue: int = 4096
    worker_wait_s: float = 10.0
    worker_timeout_s: float = 60.0
    """How long a worker may take for one batch; 0: for ever."""
    shared_tensors_above_bytes: int = DEFAULT_THRESHOLD_BYTES
    """Larger batches and answers lie in memory shared with the worker; 0: none."""
    shared_memory: bool = False
    """Whether clients may register regions."""


class Plane:
    """Owns every lane and channel of the proxy. `apply` is the one place where routing changes."""

    def __init__(
        self, settings: Settings, loop: asyncio.AbstractEventLoop, on_hung: Callable[[str], None] = lambda _: None
    ) -> None:
        """`on_hung` hears the address of a worker that takes batches and does not answer."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when what is ready may have changed."""
        self._settings = settings
        self._on_hung = on_hung
        self._loop = loop
        self._load = Load(settings.max_in_flight)
        self._regions = Regions(allowed=settings.shared_memory)
        self._series: dict[tuple[str, int, str], Series] = {}
        self._lanes: dict[PoolKey, Lane] = {}
        self._shadows: dict[PoolKey, ShadowLane] = {}
        self._channels: dict[PoolKey, dict[str, Channel]] = {}
        self._sharing = Sharing(settings.shared_tensors_above_bytes)
        self._tidied_s = monotonic()
        self._connecting: set[asyncio.Task[None]] = set()
        self._tracing = Tracing()
        self._tracers: dict[str, Tracer] = {}
        self._cores = Cores()
        self._pressure = Pressure()
        self._tell_held_s = 0.0
        self.snapshot = Snapshot(epoch=0)
        self._mirrored: list[Lane] = []
        self._tidy = True
        """There are no lanes but those the snapshot names."""
        self._lapsed = False
        """As it was told last."""
        self._started = False
        """What was released at the start has loaded or failed. A model that comes later makes nobody unready."""
        self.pipeline = Pipeline(self._load, self._series_of("", 0, NO_ARM))

    def apply(self, snapshot: Snapshot) -> None:
        """Every request admitted after the return sees this snapshot."""
        self._regions.update(snapshot.regions)
        for pool in snapshot.pools:
            lane = self._lane(pool.key)
            if lane is None or (lane.pool is not pool and lane.pool != pool):
                self._update_pool(pool.key, pool)
        copied = {pool.key for pool in snapshot.pools if pool.shadow}
        for key, shadow in self._shadows.items():
            if key not in copied:
                shadow.abandon()
        routes = {}
        for release in snapshot.releases:
            name, assignment = release.model.encode(), snapshot.assignments.get(release.model, DEFAULT)
            route = self.pipeline.routes.get(name)
            unchanged = route is not None and route.compiled_from(release, assignment) and self._leads_on(route)
            routes[name] = route if route is not None and unchanged else self._route(release, assignment)
        self._mirror_all(snapshot.releases)
        self.pipeline.routes = routes
        self.snapshot = snapshot
        self._tidy = False
        self._started = self._started or not self._loading
        self.on_change()

    def _route(self, release: Release, assignment: Assignment) -> Route:
        model = release.model
        for version in release.policy.live:
            key = (model, version, False)
            if key not in self._lanes:  # named by a release, but its pool is not known yet
                self._update_pool(key, Pool(model, version, shadow=False, state="loading"))
            self._lanes[key].minor = version != release.policy.stable
        return Route(
            release,
            assignment,
            lambda version: self._open_lane(model, version),
            lambda version, arm: self._series_of(model, version, arm),
        )

    def _open_lane(self, model: str, version: int) -> Lane:
        """The lane for new requests. That of an unloaded model answers what it holds; a closed one takes its place."""
        lane = self._lanes[model, version, False]
        if lane.pool.state != UNLOADED:
            return lane
        closed = Pool(model, version, shadow=False, state=UNLOADED, error=lane.pool.error)
        return Lane(closed, self._load, self._loop, self._settings.max_queue, self._settings.worker_wait_s)

    def _leads_on(self, route: Route) -> bool:
        """Whether its lanes are still those for new requests."""
        lanes = self._lanes
        return all(
            lanes.get((route.model, arm.version, False)) is arm.lane and arm.lane.pool.state != UNLOADED
            for arm in route.arms.values()
        )

    def _mirror_all(self, releases: tuple[Release, ...]) -> None:
        for lane in self._mirrored:
            lane.mirror = None
        self._mirrored.clear()
        for release in releases:
            mirror = self._mirror(release) if release.policy.shadows else None
            if mirror is not None:
                lane = self._lanes[release.model, release.policy.stable, False]
                lane.mirror = mirror
                self._mirrored.append(lane)

    def _mirror(self, release: Release) -> Mirror | None:
        targets = []
        for shadow in release.policy.shadows:
            lane = self._shadows.get((release.model, shadow.version, True))
            if lane is not None:
                targets.append((lane, shadow.rate))
        return Mirror(tuple(targets)) if targets else None

    def _lane(self, key: PoolKey) -> Lane | ShadowLane | None:
        return self._shadows.get(key) if key[2] else self._lanes.get(key)

    def _series_of(self, model: str, version: int, arm: str) -> Series:
        key = (model, version, arm)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = Series(model, version, arm)
        return series

    def _update_pool(self, key: PoolKey, pool: Pool) -> None:
        settings = self._settings
        lane: Lane | ShadowLane | None
        if pool.shadow:
            lane = self._shadows.get(key)
            if lane is None:
                lane = self._shadows[key] = ShadowLane(pool, self._loop, settings.max_shadow_queue, self._held)
        else:
            lane = self._lanes.get(key)
            if lane is None:
                lane = Lane(pool, self._load, self._loop, settings.max_queue, settings.worker_wait_s)
                lane.tracer = self._tracer_of(pool.model)
                self._lanes[key] = lane
        channels = self._channels.setdefault(key, {})
        for address, channel in channels.items():
            if address not in pool.addresses:
                channel.retire()  # it stays in the lane's sight until nothing is in flight
        for address in pool.addresses:
            if address not in channels:
                channels[address] = self._open(key, lane, address)
        lane.update(pool, tuple(channels.values()))
        if isinstance(lane, Lane):
            lane.plans.regions = self._regions

    def _open(self, key: PoolKey, lane: Lane | ShadowLane, address: str) -> Channel:
        slow_us = SLOW_COPY_US if key[2] else SLOW_US
        channel = Channel(address, lane.schedule, lambda gone: self._forget(key, gone), slow_us)
        task = self._loop.create_task(self._connect(channel))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        return channel

    async def _connect(self, channel: Channel) -> None:
        sock = None
        try:
            sock = socket.socket(socket.AF_UNIX)
            sock.setblocking(False)
            await self._loop.sock_connect(sock, channel.address)
            channel.slots = self._sharing.offer(sock)
            await self._loop.create_unix_connection(lambda: channel, sock=sock)
        except Exception as error:  # noqa: BLE001 - a channel left on its way would never be opened again
            if sock is not None:
                sock.close()
            # The worker died meanwhile, and the control process will publish its successor; or files are short.
            log.warning("cannot reach a worker", address=channel.address, error=str(error))
            channel.connection_lost(error)
        else:
            self.on_change()

    async def until_connected(self) -> None:
        """Returns when the workers that were named have been called, or soon."""
        if self._connecting:
            await asyncio.wait(self._connecting, timeout=CONNECT_S)

    def _forget(self, key: PoolKey, channel: Channel) -> None:
        channels = self._channels.get(key, {})
        if channels.get(channel.address) is channel:
            del channels[channel.address]
            lane = self._lane(key)
            if lane is not None:
                lane.update(lane.pool, tuple(channels.values()))
                if channel.address in lane.pool.addresses:
                    self._loop.call_later(RECONNECT_S, self._reopen, key, channel.address)
                self.on_change()

    def _reopen(self, key: PoolKey, address: str) -> None:
        """The worker may live on after its connection ended, e.g. when it had sent garbage."""
        lane = self._lane(key)
        if lane is not None and address in lane.pool.addresses and address not in self._channels[key]:
            self._update_pool(key, lane.pool)

    def _retire(self) -> None:
        """Drops lanes that the snapshot does not name any more, once they are idle and counted."""
        if self._tidy:
            return
        keep = {pool.key for pool in self.snapshot.pools}
        keep |= {(r.model, version, False) for r in self.snapshot.releases for version in r.policy.live}
        self._tidy = True
        for lanes in (self._lanes, self._shadows):
            for key in [key for key in lanes if key not in keep]:
                if not lanes[key].idle:
                    self._tidy = False
                    continue
                del lanes[key]
                for channel in self._channels.pop(key, {}).values():
                    channel.retire()

    def trace(self, tracing: Tracing) -> None:
        """Requests answered from now on are traced at these rates."""
        self._tracing = tracing
        for (model, _, _), lane in self._lanes.items():
            lane.tracer = self._tracer_of(model)

    def lease(self, until_s: float | None) -> None:
        """Requests that arrive at that time of the monotonic clock, or later, are refused; None: none are."""
        self.pipeline.lease_until_s = inf if until_s is None else until_s
        self._watch_lease(monotonic())

    def _watch_lease(self, now_s: float) -> None:
        """Tells when the lease has lapsed, or is good again."""
        lapsed = now_s >= self.pipeline.lease_until_s
        if lapsed != self._lapsed:
            self._lapsed = lapsed
            log.warning("requests are refused: the store is lost" if lapsed else "requests are answered again")
            self.on_change()

    @property
    def lapsed(self) -> bool:
        """Requests are refused, as they might be answered by what is out of date."""
        return monotonic() >= self.pipeline.lease_until_s

    def _tracer_of(self, model: str) -> Tracer | None:
        rate = self._tracing.models.get(model, self._tracing.rate)
        if not rate:
            return None
        tracer = self._tracers.get(model)
        if tracer is None:
            tracer = self._tracers[model] = Tracer(rate)
        elif tracer.rate != rate:
            tracer.restart(rate)
        return tracer

    def ready(self, model: str, version: int) -> bool:
        """Whether a worker of the live version is connected."""
        lane = self._lanes.get((model, version, False))
        return lane is not None and _serves(lane)

    def pool(self, model: str, version: int) -> Pool | None:
        """What is known of a live version."""
        lane = self._lanes.get((model, version, False))
        return lane.pool if lane is not None else None

    @property
    def max_queue(self) -> int:
        """How many requests may wait for one version."""
        return self._settings.max_queue

    @property
    def settled(self) -> bool:
        """What was released at the start has loaded or failed; if anything is released, a stable version can answer.

        Says of this proxy what `/health/ready` says of the gateway.
        """
        if not self._started:
            return False
        lanes = [self._lanes[r.model, r.policy.stable, False] for r in self.snapshot.releases]
        lanes = [lane for lane in lanes if lane.pool.state != UNLOADED]
        return not lanes or any(lane.ready for lane in lanes)

    @property
    def _loading(self) -> bool:
        """A released version loads for the first time: its outputs are known once a worker was ready."""
        releases = self.snapshot.releases
        pools = [self._lanes[r.model, version, False].pool for r in releases for version in r.policy.live]
        return any(pool.state == "loading" and not pool.outputs for pool in pools)

    @property
    def in_flight(self) -> int:
        """Requests without an answer."""
        return self._load.in_flight

    def sweep(self) -> None:
        """The coarse sweep for deadlines; called a few times a second. Lanes without work cost nothing."""
        now_s = monotonic()
        self._watch_lease(now_s)
        busy = self._load.busy
        for lane in tuple(busy):
            lane.sweep(now_s)
            if lane.idle:
                busy.discard(lane)
            else:  # not for shadows: at idle priority their workers may rightly wait for their turn
                self._give_up_hung(list(self._channels.get(lane.pool.key, {}).values()), now_s)
        if self._shadows:
            self._weigh_pressure(now_s)
        if now_s - self._tidied_s >= TIDY_S:
            self._tidied_s = now_s
            for channels in self._channels.values():
                for channel in channels.values():
                    channel.tidy()

    @property
    def _queued(self) -> bool:
        """A request waits for a worker."""
        return any(lane.queued for lane in self._load.busy)

    def _held(self) -> bool:
        """Production needs the CPU: copies are held."""
        return self._pressure.high or self._queued

    def _weigh_pressure(self, now_s: float) -> None:
        """Looks whether copies are to be held."""
        sample = self._cores.look(queued=self._queued)
        changed = sample is not None and self._pressure.add(sample, now_s)
        if changed and self._pressure.high and now_s >= self._tell_held_s:
            self._tell_held_s = now_s + TELL_HELD_EVERY_S
            log.info("copies are held: production needs the CPU", why=str(self._pressure))
        for lane in self._shadows.values():
            lane.sweep()

    def _give_up_hung(self, channels: list[Channel], now_s: float) -> None:
        for channel in channels:
            if channel.hangs(now_s, self._settings.worker_timeout_s) and not channel.retiring:
                log.error("a worker gives no answer; its requests go elsewhere", address=channel.address)
                channel.abort()
                self._on_hung(channel.address)

    def report(self, connections: int, refusals: dict[str, int] | None = None, held_bytes: int = 0) -> Report:
        """The increments since the last report; what it is given is the transport's."""
        taps = [lane.tap for lane in self._lanes.values() if lane.tap.batches]
        taps += [lane.batches for lane in self._shadows.values()]
        queued: dict[str, int] = {}
        waiting: dict[str, dict[int, int]] = {}
        for lane in self._load.busy:
            model = lane.pool.model
            queued[model] = queued.get(model, 0) + lane.queued
            waiting.setdefault(model, {})[lane.pool.version] = lane.queued
        retries, self._load.retries = self._load.retries, 0
        shadows = [lane.tap.take() for lane in self._shadows.values()]
        self._retire()
        return Report(
            series=tuple(series for tap in self._series.values() if (tap.ok or tap.codes) and (series := tap.take())),
            batches=tuple(batches for tap in taps if (batches := tap.take())),
            shadows=tuple(shadow for shadow in shadows if shadow),
            retries=retries,
            in_flight=self._load.in_flight,
            queued=queued,
            waiting=waiting,
            connections=connections,
            transport=refusals or {},
            held_bytes=held_bytes,
            traces=tuple(trace for tracer in self._tracers.values() for trace in tracer.take()),
        )


def _serves(lane: Lane) -> bool:
    return lane.ready and lane.pool.state != UNLOADED
