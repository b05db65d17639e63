"""What the control plane costs with one model and with 1,000 models of five versions each.

usage: python -m tests.bench.control [--quick]

What is real: the models directory (of tiny files), the store (SQLite, on disk), the control plane and the proxies.
What is not: 1,000 worker processes. Stand-ins in the bench's process take the proxies' connections and answer nobody;
where a whole gateway is started, it is told to release no model by itself.
"""

import argparse
import asyncio
import gc
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from gateway.controlplane.commands import PrepareStandby, RemoveCanary, SetCanary
from gateway.controlplane.etag import etag
from gateway.controlplane.fleet import LocalFleet
from gateway.controlplane.guarded import GuardedStore
from gateway.controlplane.instance import WorkerHost
from gateway.controlplane.listener import reserved_port
from gateway.controlplane.processes import Launcher, held_bytes, python_module
from gateway.controlplane.proxies import Proxies
from gateway.controlplane.registry import Registry
from gateway.controlplane.releases import Releases
from gateway.controlplane.served import SERVED_FILE, Served
from gateway.controlplane.settings import FleetSettings, ProxySettings
from gateway.controlplane.store.choice import STORE_FILE
from gateway.controlplane.store.sqlite import SqliteStore
from gateway.observe.statistics import Statistics
from gateway.routing.snapshot import BUCKETS, Canary, Policy, Pool, Range, Release, Snapshot
from loadtests.bench import aims, processes
from loadtests.bench.aims import Aim, at_most
from loadtests.bench.errors import BenchError
from loadtests.bench.machine import machine
from tests.bench.driven import proxy
from tests.bench.standins import STATUS, StandIns

VERSIONS: Final = 5
BUSY: Final = "model-0"
"""Whose release is changed."""


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    models: int
    changes: int
    rounds: int
    """In each, so many changes go to one world and as many to the other."""


FULL, QUICK = Scale(1_000, 100, 5), Scale(50, 10, 1)


@dataclass
class Found:
    """What was measured of one world."""

    models: int
    start_s: float = 0.0
    """From nothing: the directory is read, models are released, proxies serve. Without what stand-ins replace."""
    restart_s: float = 0.0
    """The same with a store that has the releases."""
    change_ms: list[float] = field(default_factory=list)
    control_ms: list[float] = field(default_factory=list)
    """CPU of the control process per change, one value a round."""
    proxy_ms: list[float] = field(default_factory=list)
    look_ms: list[float] = field(default_factory=list)
    """One look at the models directory in which nothing has changed."""
    proxy_bytes: int = 0
    """Memory of the proxy, connected to the stand-ins, with nothing but a stable version of each model."""
    full_bytes: int = 0
    """Of one without workers, with a canary and a standby of each as well."""


def put_models(folder: Path, models: int) -> None:
    """A models directory. To the registry a version is its files, whatever is in them."""
    for number in range(models):
        for version in range(1, VERSIONS + 1):
            path = folder / f"model-{number}" / str(version) / "model.onnx"
            path.parent.mkdir(parents=True)
            path.write_bytes(b"%d/%d" % (number, version))


class Book:
    """Knows the proxy."""

    def __init__(self) -> None:
        self.pid = 0

    def started(self, role: str, pid: int) -> None:
        self.pid = pid

    def ended(self, pid: int) -> None:
        pass


class World:
    """A control plane with one proxy."""

    def __init__(self, folder: Path, run_dir: Path, port: int) -> None:
        self.book = Book()
        self.registry = Registry(folder / "models")
        limits = ProxySettings("127.0.0.1", port, ack_timeout_s=60.0)
        launcher = Launcher(self.book)
        self.proxies = Proxies(limits, launcher, python_module("gateway.dataplane"), run_dir, Statistics())
        host = WorkerHost(StandIns(), python_module("workers"), run_dir)
        state = folder / "state"
        served = Served(state / SERVED_FILE)
        self.fleet = LocalFleet(self.registry, self.proxies, host, FleetSettings(), served)
        self.store = GuardedStore(SqliteStore(state / STORE_FILE), served)
        self.releases = Releases(self.store, self.fleet, lambda: time.time_ns() // 1_000_000)

    async def start(self) -> None:
        """As `gateway.app` does."""
        await self.store.open()
        await self.registry.settle()
        self.fleet.start()
        await self.releases.start()
        await self.registry.announce(self.releases.register_all)
        await self.proxies.start(60.0)
        await self.fleet.until_settled()
        await self.proxies.survey()

    async def stop(self) -> None:
        await self.releases.close()
        await self.proxies.close()
        await self.fleet.close()
        await self.store.close()

    async def change(self, number: int) -> None:
        """A canary comes or goes, or changes its share."""
        current = self.releases.get(BUSY)
        command = SetCanary(4, 100 + number % 7) if number % 8 else RemoveCanary(4)
        if number % 8 == 0 and not current.policy.canaries:
            command = SetCanary(4, 50)
        await self.releases.change(BUSY, command, etag=etag(current), reason="bench", actor="bench")


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[tuple[World, float]]:
    """A running world, and how long its start took in s."""
    with tempfile.TemporaryDirectory() as run_dir, reserved_port("127.0.0.1", 0, "--grpc-port") as port:
        made = World(folder, Path(run_dir), port)
        begun_s = time.perf_counter()
        try:
            await made.start()
            yield made, time.perf_counter() - begun_s
        finally:
            await made.stop()


async def measure_changes(worlds: Mapping[int, World], found: Mapping[int, Found], scale: Scale) -> None:
    """The same changes in each world, in turns; whoever came first comes last in the next round."""
    for made in worlds.values():
        for version in (3, 4):  # their workers are there, as they are when a release is under way
            current = made.releases.get(BUSY)
            command = PrepareStandby(3) if version == 3 else SetCanary(4, 10)
            await made.releases.change(BUSY, command, etag=etag(current), reason="bench", actor="bench")
    for turn in range(-1, scale.rounds):
        for models, made in sorted(worlds.items(), reverse=bool(turn % 2)):
            took_ms, own_s, proxy_s = [], time.process_time(), processes.cpu_s([made.book.pid])
            for number in range(scale.changes):
                begun_s = time.perf_counter()
                await made.change(number + 1)
                took_ms.append((time.perf_counter() - begun_s) * 1000)
            if turn >= 0:  # the first round only warms up
                found[models].change_ms += took_ms
                found[models].control_ms.append((time.process_time() - own_s) * 1000 / scale.changes)
                spent_s = processes.cpu_s([made.book.pid]) - proxy_s
                found[models].proxy_ms.append(spent_s * 1000 / scale.changes)
        say(f"changes: round {turn + 1} of {scale.rounds}")


async def measure_worlds(folder: Path, scale: Scale) -> dict[int, Found]:
    """Both worlds, one after another from nothing, then side by side from their stores."""
    found = {models: Found(models) for models in (1, scale.models)}
    for models in found:
        put_models(folder / str(models) / "models", models)
    for models, one in found.items():
        async with world(folder / str(models)) as (_, start_s):
            one.start_s = start_s
        gc.collect()
    say("both have been started once")
    async with AsyncExitStack() as stack:
        worlds = {}
        for models, one in found.items():
            worlds[models], one.restart_s = await stack.enter_async_context(world(folder / str(models)))
        for models, made in worlds.items():
            for _ in range(3):
                begun_s = time.perf_counter()
                await made.registry.poll()
                found[models].look_ms.append((time.perf_counter() - begun_s) * 1000)
            found[models].proxy_bytes = held_bytes(made.book.pid)
        await measure_changes(worlds, found, scale)
    return found


def snapshot(models: int) -> Snapshot:
    """Every model with three versions in its release."""
    releases, pools = [], []
    for number in range(models):
        name = f"model-{number}"
        canary = Canary(4, (Range(0, BUCKETS // 10),))
        releases.append(Release(name, 3, Policy(5, canaries=(canary,), standby=3, salt=f"{name}/4")))
        pools += [
            Pool(
                *(name, version, False, "ready"),
                inputs=STATUS.inputs,
                outputs=STATUS.outputs,
                batched=True,
                max_batch_size=64,
                costs=STATUS.costs,
            )
            for version in (3, 4, 5)
        ]
    return Snapshot(1, tuple(releases), {}, tuple(pools))


def measure_full(folder: Path, found: Mapping[int, Found]) -> None:
    """A proxy with each snapshot and nothing else to do."""
    for models, one in found.items():
        with proxy(snapshot(models), folder / f"control-{models}") as running:
            one.full_bytes = held_bytes(running.pid)


def start_gateway(models: Path, state: Path) -> float:
    """How long `cutover serve` takes until it is ready when it releases nothing by itself, in s."""
    command = [sys.executable, "-c", "from gateway.cli import main; main()", "serve"]
    folders = ["--models", str(models), "--state", str(state)]
    ports = ["--grpc-port", "0", "--http-port", "0", "--admin-port", "0"]
    begun_s = time.perf_counter()
    environment = {**os.environ, "CUTOVER_SERVER_RELEASE_NEW_MODELS": "false"}
    with subprocess.Popen([*command, *folders, *ports], stderr=subprocess.DEVNULL, env=environment) as process:
        try:
            while not (state / "ready.json").exists():
                if process.poll() is not None:
                    raise BenchError(f"the gateway ended with {process.returncode}")
                time.sleep(0.01)
            return time.perf_counter() - begun_s
        finally:
            process.terminate()


def starts(folder: Path, scale: Scale) -> dict[int, list[float]]:
    """Starts of a whole gateway that releases nothing, by how many models lie there, in s."""
    found: dict[int, list[float]] = {1: [], scale.models: []}
    for turn in range(max(1, scale.rounds // 2 + 1)):
        for models, times_s in found.items():
            times_s.append(start_gateway(folder / str(models) / "models", folder / f"unreleased-{models}-{turn}"))
    return found


def table(found: Sequence[Found], starts_s: Mapping[int, Sequence[float]]) -> Iterator[str]:
    """The Markdown lines."""
    rows: list[tuple[str, Callable[[Found], float], str]] = [
        ("`cutover serve`, nothing released, to ready, s", lambda one: min(starts_s[one.models]), ".2f"),
        ("first start, all released, workers stand-ins, s", lambda one: one.start_s, ".2f"),
        ("next start, likewise, s", lambda one: one.restart_s, ".2f"),
        ("change of one release, p50, ms", lambda one: percentile(one.change_ms, 0.5), ".2f"),
        ("change of one release, p99, ms", lambda one: percentile(one.change_ms, 0.99), ".2f"),
        ("CPU of the control process per change, ms", lambda one: statistics.median(one.control_ms), ".2f"),
        ("CPU of the proxy per change, ms", lambda one: statistics.fmean(one.proxy_ms), ".2f"),
        ("a look at the models directory, ms", lambda one: min(one.look_ms), ".2f"),
        ("proxy, a stable version of each and its worker, MB", lambda one: one.proxy_bytes / 1e6, ".1f"),
        ("proxy, with canary and standby, no workers, MB", lambda one: one.full_bytes / 1e6, ".1f"),
    ]
    yield "| | " + " | ".join(f"{one.models:,} × {VERSIONS}" for one in found) + " |"
    yield "|---|" + "---:|" * len(found)
    for text, value, form in rows:
        yield f"| {text} | " + " | ".join(format(value(one), form) for one in found) + " |"
    yield ""


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def aimed(found: Sequence[Found], starts_s: Mapping[int, Sequence[float]]) -> list[Aim]:
    """What the control plane promises of many models."""
    one, many = found
    return [
        at_most("start beyond loading what is released", min(starts_s[many.models]), 5.0, "s"),
        at_most(
            "a change, by one with one model, p50",
            aims.ratio(percentile(many.change_ms, 0.5), percentile(one.change_ms, 0.5)),
            1.15,
        ),
        at_most(
            "CPU of a change in the control process, by one with one model",
            aims.ratio(statistics.median(many.control_ms), statistics.median(one.control_ms)),
            1.15,
        ),
        at_most("snapshot in a proxy, connected", (many.proxy_bytes - one.proxy_bytes) / 1e6, 20.0, "MB"),
        at_most("snapshot with canary and standby in a proxy", (many.full_bytes - one.full_bytes) / 1e6, 20.0, "MB"),
    ]


def say(text: str) -> None:
    """Progress on stderr; the table goes to stdout."""
    sys.stderr.write(f"{text}\n")


def main() -> int:
    """Runs the bench; exit code 1 with one line when something is not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.control", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few models, one short round: does everything work?")
    quick = parser.parse_args().quick
    scale = QUICK if quick else FULL
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    started_s = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="cutover-control-") as name:
            worlds = asyncio.run(measure_worlds(Path(name), scale))
            measure_full(Path(name), worlds)
            found = list(worlds.values())
            starts_s = starts(Path(name), scale)
    except BenchError as error:
        say(f"bench: {error}")
        return 1
    except KeyboardInterrupt:
        say("bench: interrupted")
        return 130
    head = [machine(), *(["quick: the numbers mean nothing"] if quick else []), ""]
    sys.stdout.write("\n".join([*head, *table(found, starts_s), *aims.table(aimed(found, starts_s))]) + "\n")
    say(f"took {time.monotonic() - started_s:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
