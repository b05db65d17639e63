"""The control process put together: what is started, in which order, and how it stops.

Order matters. Cheap checks come first. Workers start before proxies, so that processes an earlier gateway left behind
answer until ours can. The admin port opens last, when nobody but our proxies answers clients: a flip acknowledged there
is a flip for every request.
"""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

import structlog

from gateway import __version__, logs
from gateway.config import Config
from gateway.controlplane.access.door import Door, certificates
from gateway.controlplane.access.guard import Guard
from gateway.controlplane.access.keeper import Keeper
from gateway.controlplane.admin import AdminService, start_admin
from gateway.controlplane.api.gateways import Gateways
from gateway.controlplane.api.tokens import Tokens
from gateway.controlplane.clientsocket import ClientSocket
from gateway.controlplane.errands import Errands
from gateway.controlplane.fleet import LocalFleet
from gateway.controlplane.follower import Follower
from gateway.controlplane.guarded import GuardedStore
from gateway.controlplane.instance import WorkerHost
from gateway.controlplane.lifetime import Lifetime
from gateway.controlplane.listener import is_loopback, require_free, reserved_port
from gateway.controlplane.peers import Peers
from gateway.controlplane.processes import Launcher, python_module
from gateway.controlplane.proxies import Proxies
from gateway.controlplane.registry import NewModels, Registry
from gateway.controlplane.releases import Releases
from gateway.controlplane.served import SERVED_FILE, Served
from gateway.controlplane.store import Store
from gateway.controlplane.store.choice import choose
from gateway.controlplane.tasks import Tasks
from gateway.controlplane.triton.logsettings import LogSettings
from gateway.controlplane.triton.models import Models
from gateway.controlplane.triton.regions import Regions
from gateway.controlplane.triton.statistics import StatisticsErrand
from gateway.controlplane.triton.tracing import Tracer
from gateway.dataplane.entrance import tls_files
from gateway.errors import StartupError, StoreFailed
from gateway.observe.aliases import Aliases
from gateway.observe.http import create_app, start_http
from gateway.observe.metrics import Metrics, ProxyFacts
from gateway.observe.statistics import Statistics
from gateway.transport.tls import TlsProblem
from gateway.transport.tls import load as load_certificates

log = structlog.get_logger()

PROXY_START_S: Final = 60.0
TAKE_OVER_WAIT_S: Final = 120.0
"""How long an earlier gateway's processes may go on answering while our workers load."""
ADMIN_GRACE_S: Final = 2.0
SAME_SIGNAL_S: Final = 0.5
"""Signals so close behind the first are the same word: `timeout` and supervisors tell the process, then its group."""
TOKENS_FILE: Final = "tokens.json"


def run(config: Config) -> int:
    """Serves until SIGINT or SIGTERM; returns the exit code. Raises StartupError."""
    logs.configure(config.log.format, config.log.level)
    return asyncio.run(serve(config))


async def serve(config: Config) -> int:
    """Serves until SIGINT or SIGTERM, then drains; a second signal ends everything at once. Raises StartupError."""
    stop, at_once = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    first_s = 0.0

    def on_signal(name: str) -> None:
        nonlocal first_s
        if not stop.is_set():
            first_s = loop.time()
        elif loop.time() - first_s < SAME_SIGNAL_S:
            return
        log.info("stopping at once" if stop.is_set() else "stopping", signal=name)
        (at_once if stop.is_set() else stop).set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number.name)
    gateway = Gateway(config)
    try:
        await _unless(stop, gateway.start())
        await stop.wait()
    finally:
        stop.set()
        await _unless(at_once, gateway.stop(), on_event=gateway.kill_children)
    log.info("cutover has stopped")
    return 0


class Gateway:
    """The parts of one gateway. `stop` undoes whatever `start` has done so far, last first."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._parts = AsyncExitStack()
        self._tasks = Tasks()
        self._launcher: Launcher | None = None
        self._client_socket: ClientSocket | None = None
        self._told_problems: set[str] = set()
        self._stopping = False

    async def start(self) -> None:
        """Returns when every released model is ready or has failed, and says so in the log and in `ready.json`."""
        config, server = self._config, self._config.server
        if server.models is None:
            raise StartupError(
                "no models directory; give the folder that holds <model>/<version>/model.onnx with --models"
            )
        registry = Registry(server.models, config.fleet_settings())
        lifetime = self._parts.enter_context(Lifetime(server.state))
        _check_files(config)
        grpc_port = self._reserve_ports(lifetime)
        chosen, members = choose(server.state, config.store.url, config.store.password_file)
        served = Served(server.state.resolve() / SERVED_FILE)
        store = GuardedStore(chosen, served)
        self._parts.push_async_callback(store.close)
        await store.open()
        await registry.settle()

        statistics = Statistics()
        self._launcher = launcher = Launcher(lifetime)
        proxies = Proxies(
            config.proxy_settings(grpc_port), launcher, python_module("gateway.dataplane"), lifetime.run_dir, statistics
        )
        if self._client_socket is not None:
            proxies.client_socket = self._client_socket.fileno()
        host = WorkerHost(launcher, python_module("workers"), lifetime.run_dir)
        fleet = LocalFleet(registry, proxies, host, config.fleet_settings(), served)
        fleet.also_wrong = store.problems
        peers = Peers(members, config.store.gateway or _name(grpc_port), _now_ms) if members is not None else None
        releases = Releases(store, fleet, _now_ms, peers)
        follower = None
        if members is not None and peers is not None:
            follower = Follower(members, peers, releases, fleet, proxies, config.store.lease_s)
        counts = peers.counts if peers is not None else dict[str, int]
        http_port = await self._start_http(statistics, releases, fleet, proxies, store, counts)
        models = Models(registry, releases, fleet, may_control=config.triton.model_control == "explicit")
        regions = Regions(fleet.share, allowed=config.triton.shared_memory)
        self._answer_errands(models, regions, statistics, releases, proxies)
        self._start_fleet(fleet, proxies, follower)
        await releases.start(None if store.up else served.releases)
        self._parts.push_async_callback(releases.close)
        store.watch()
        new_models = releases.register_all if server.release_new_models else None
        if new_models is not None:
            await registry.announce(new_models)
        await self._open(lifetime, fleet, proxies, follower, store)
        keeper = await self._keep_rights(store)
        rooms = Gateways(peers), Tokens(keeper, _now_ms)
        admin_port = await self._start_admin(AdminService(releases, store, fleet, statistics, *rooms), releases, keeper)
        self._watch(registry, fleet, new_models)
        await fleet.until_settled()
        self._say_ready(fleet, releases)
        self._say_settings_of_nobody(registry)
        lifetime.announce(grpc=grpc_port, http=http_port, admin=admin_port)
        log.info("cutover is ready", grpc=grpc_port, http=http_port, admin=admin_port, version=__version__)

    async def stop(self) -> None:
        """Not ready any more; requests in flight are answered; then everything ends."""
        self._stopping = True
        await self._tasks.close()
        await self._parts.aclose()

    def kill_children(self) -> None:
        """SIGKILL to all proxies and workers, so that `stop` has nothing to wait for."""
        if self._launcher:
            self._launcher.kill_all()

    def _reserve_ports(self, lifetime: Lifetime) -> int:
        """Fails early when a port is taken; holds the one the proxies share."""
        server = self._config.server
        for host, port, option in (
            (server.http_host, server.http_port, "--http-port"),
            *([(server.admin_host, server.admin_port, "--admin-port")] if self._config.admin.tcp else []),
        ):
            require_free(host, port, option)
        ours = server.grpc_port in lifetime.orphan_ports
        grpc_port = self._parts.enter_context(
            reserved_port(server.host, server.grpc_port, "--grpc-port", shared_with_orphans=ours)
        )
        path = server.grpc_socket and server.grpc_socket.absolute()
        lifetime.listens_on(grpc_port, str(path or ""))
        if path is not None:
            shared, mode = str(path) in lifetime.orphan_sockets, int(server.grpc_socket_mode, 8)
            self._client_socket = self._parts.enter_context(ClientSocket(path, mode, shared_with_orphans=shared))
        encrypted = self._config.tls.certificate is not None
        clients = "127.0.0.1" if encrypted else server.host
        for what, host in (("clients", clients), ("HTTP", server.http_host)):
            if not is_loopback(host):
                log.warning("reachable from other machines without TLS", what=what, host=host)
        return grpc_port

    async def _start_http(
        self,
        statistics: Statistics,
        releases: Releases,
        fleet: LocalFleet,
        proxies: Proxies,
        store: GuardedStore,
        gateways: Callable[[], dict[str, int]],
    ) -> int:
        server = self._config.server
        metrics = Metrics(
            statistics,
            releases=releases.list,
            workers=fleet.statuses,
            proxies=lambda: ProxyFacts(proxies.listening, proxies.restarts),
            store_up=lambda: store.up,
            gateways=gateways,
        )
        collectors = [metrics, Aliases(statistics)] if self._config.triton.metric_aliases else [metrics]
        http = await start_http(
            create_app(collectors, lambda: fleet.ready and not self._stopping), server.http_host, server.http_port
        )
        self._parts.push_async_callback(http.stop)
        log.info("http listening", host=server.http_host, port=http.port)
        return http.port

    async def _keep_rights(self, store: Store) -> Keeper:
        keeper = Keeper(store, self._config.access(), _now_ms, self._config.server.state / TOKENS_FILE)
        await keeper.start()
        self._parts.push_async_callback(keeper.close)
        return keeper

    async def _start_admin(self, service: AdminService, releases: Releases, keeper: Keeper) -> int:
        server, settings = self._config.server, self._config.admin
        known = certificates(self._config.admin_files())
        door = Door(Guard(keeper, service.target_of), known, settings.socket, int(settings.socket_mode, 8))
        self._parts.callback(door.close)
        admin, port = await start_admin(service, server.admin_host, server.admin_port if settings.tcp else None, door)

        async def stop() -> None:
            # Closed releases end the watches, a closed service ends what callers wait for.
            await asyncio.gather(admin.stop(ADMIN_GRACE_S), releases.close(), service.close())

        self._parts.push_async_callback(stop)
        if known is not None:
            self._tasks.start(known.watch(self._config.tls.reload_every), "certificates of the admin API")
        log.info(
            "admin listening",
            host=server.admin_host if settings.tcp else "",
            port=port,
            tls=known is not None,
            socket=str(settings.socket or ""),
        )
        return port

    def _answer_errands(
        self, models: Models, regions: Regions, statistics: Statistics, releases: Releases, proxies: Proxies
    ) -> None:
        """What clients ask of the data port that only this process knows."""
        triton = self._config.triton_settings()
        tracer = Tracer(triton.trace_file, proxies, releases.models, may_change=triton.change_settings)
        proxies.on_traces = tracer.heard
        errands = Errands()
        proxies.on_errand = errands.take
        errands.add("ModelStatistics", StatisticsErrand(statistics, releases.list, proxies.survey))
        errands.add("RepositoryIndex", models.index)
        errands.add("RepositoryModelLoad", models.load)
        errands.add("RepositoryModelUnload", models.unload)
        errands.add("SystemSharedMemoryRegister", regions.register)
        errands.add("SystemSharedMemoryUnregister", regions.unregister)
        errands.add("SystemSharedMemoryStatus", regions.status)
        errands.add("TraceSetting", tracer.errand)
        errands.add("LogSettings", LogSettings(logs.lines, may_change=triton.change_settings))
        for close in (errands.close, tracer.close):
            self._parts.push_async_callback(close)

    def _start_fleet(self, fleet: LocalFleet, proxies: Proxies, follower: Follower | None) -> None:
        fleet.start()
        self._parts.push_async_callback(fleet.close)
        if follower is not None:
            self._parts.push_async_callback(follower.close)
        self._parts.push_async_callback(proxies.drain)

    async def _open(
        self,
        lifetime: Lifetime,
        fleet: LocalFleet,
        proxies: Proxies,
        follower: Follower | None,
        store: GuardedStore,
    ) -> None:
        """From here on our proxies answer clients, and afterwards nobody else does."""
        if lifetime.has_orphans:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(fleet.until_settled(), TAKE_OVER_WAIT_S)
        if follower is not None:
            try:
                await follower.join(orphans=lifetime.has_orphans)
            except StoreFailed:
                if store.up:
                    raise
                follower.stay_apart()
        await proxies.start(PROXY_START_S)
        if self._client_socket is not None:
            self._client_socket.publish()
        await lifetime.end_orphans(self._config.server.drain_grace)
        if follower is not None:
            follower.only_ours_answer()

    def _watch(self, registry: Registry, fleet: LocalFleet, new_models: NewModels | None) -> None:
        def looked() -> None:
            fleet.registry_changed()
            self._say_problems(fleet.problems())

        self._say_problems(fleet.problems())
        self._tasks.start(registry.watch(looked, new_models), "models directory")

    def _say_problems(self, problems: Sequence[str]) -> None:
        """Each problem once, until it is gone and comes back."""
        for problem in problems:
            if problem not in self._told_problems:
                log.warning("problem in the models directory", problem=problem)
        self._told_problems = set(problems)

    def _say_ready(self, fleet: LocalFleet, releases: Releases) -> None:
        statuses = {(status.model, status.version): status for status in fleet.statuses()}
        for release in releases.list():
            status = statuses[release.model, release.policy.stable]
            if status.state == "ready":
                log.info("model ready", model=status.model, version=status.version)
            else:
                log.error("model failed", model=status.model, version=status.version, error=status.error)

    def _say_settings_of_nobody(self, registry: Registry) -> None:
        """A name with a slip of the pen in it would change nothing, and nobody would know."""
        for model in sorted(self._config.models.keys() - {model for model, _ in registry.versions}):
            log.warning("settings for a model that is not in the models directory", setting=f"models.{model}")


def _now_ms() -> int:
    """Since the epoch."""
    return time.time_ns() // 1_000_000


def _name(grpc_port: int) -> str:
    """What the other gateways call this one, unless the configuration names it."""
    return f"{socket.gethostname()}:{grpc_port}"


def _check_files(config: Config) -> None:
    """Raises StartupError when a file that will be needed cannot be used."""
    _check_certificates(config)
    certificates(config.admin_files())
    _check_trace_file(config)


def _check_certificates(config: Config) -> None:
    """Raises StartupError when the proxies could not use them, or no client would accept them."""
    files = tls_files(config.entrance())
    try:
        if files is not None:
            load_certificates(files).check_date(time.time())
    except TlsProblem as problem:
        raise StartupError(f"{problem} (--tls-cert, --tls-key, --tls-client-ca)") from None


def _check_trace_file(config: Config) -> None:
    """Raises StartupError when it could never be written."""
    file = config.triton.trace_file
    if file is not None and not os.access(file.absolute().parent, os.W_OK):
        raise StartupError(
            f"the folder of trace_file {file} does not exist or cannot be written to; create it, or correct [triton]"
        )


async def _unless(
    event: asyncio.Event, work: Coroutine[Any, Any, None], on_event: Callable[[], None] | None = None
) -> None:
    """Does the work. When the event comes first, calls `on_event` and still finishes, or else cancels the work."""
    working = asyncio.get_running_loop().create_task(work)
    waiting = asyncio.get_running_loop().create_task(event.wait())
    await asyncio.wait((working, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not working.done():
        if on_event:
            on_event()
        else:
            working.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await working
