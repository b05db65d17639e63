"""How long a flip takes: one gateway with four proxies, both versions warm, clients asking all the while. Then three
gateways on one PostgreSQL, a proxy each, all on this machine, without clients.

usage: python -m tests.bench.flip [--quick]

What is measured is what an operator's program sees: from sending the Flip RPC to its OK, after which no request is
answered by the old version. Each flip is followed by a rollback, which is the same way back. The store is SQLite on
this machine's disk; what one commit to it costs (`synchronous=FULL`) is measured beside it.
"""

import argparse
import asyncio
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc

from gateway.controlplane.audit import ACCESS, Draft
from gateway.controlplane.store.sqlite import SqliteStore
from loadtests.bench import aims
from loadtests.bench.aims import Aim, at_most
from loadtests.bench.machine import machine
from protos import admin_pb2 as pb
from protos.admin_pb2_grpc import AdminStub
from protos.inference_pb2_grpc import GRPCInferenceServiceStub
from tests import models
from tests.e2e.calls import open_channel, request
from tests.e2e.several import Trio
from tests.postgres import PostgresFailure, Server
from tests.serving import Gateway, ServingError, serving

PROXIES: Final = 4
MODEL: Final = "number"
NAME: Final = f"models/{MODEL}/release"
CLIENTS: Final = 4
PAUSE_S: Final = 0.005
FULL, QUICK = 400, 10
"""Flips."""
WARM_UP: Final = 5


@dataclass
class Found:
    """What was measured, in ms."""

    flip_ms: list[float] = field(default_factory=list)
    """The RPC, as its caller sees it."""
    back_ms: list[float] = field(default_factory=list)
    proxy_ms: list[float] = field(default_factory=list)
    """Of each flip: until the slowest proxy had applied it."""
    commit_ms: list[float] = field(default_factory=list)
    """One write to a store beside the gateway's."""
    several_ms: list[float] = field(default_factory=list)
    """The RPC at one of three gateways."""


@contextmanager
def asking(gateway: Gateway) -> Iterator[None]:
    """Clients that ask two hundred times a second each, while the block lasts."""
    over = threading.Event()

    def ask() -> None:
        with open_channel(gateway.target) as channel:
            stub = GRPCInferenceServiceStub(channel)
            while not over.wait(PAUSE_S):
                with suppress(grpc.RpcError):
                    stub.ModelInfer(request(MODEL), timeout=10)

    threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def measure(gateway: Gateway, flips: int) -> Found:
    """Flips and rollbacks in turns."""
    found = Found()
    with grpc.insecure_channel(f"127.0.0.1:{gateway.admin}") as channel:
        stub = AdminStub(channel)
        release = stub.GetRelease(pb.GetReleaseRequest(name=NAME), timeout=20)
        release = stub.PrepareStandby(pb.PrepareStandbyRequest(name=NAME, etag=release.etag, version=1), timeout=60)
        for number in range(-WARM_UP, flips):
            begun_s = time.perf_counter()
            release = stub.Flip(pb.FlipRequest(name=NAME, etag=release.etag, reason="bench"), timeout=20)
            flipped_s = time.perf_counter()
            proxy_ms = max(one.took_ms for one in release.applied)
            release = stub.Rollback(pb.RollbackRequest(name=NAME, etag=release.etag, reason="bench"), timeout=20)
            if number >= 0:
                found.flip_ms.append((flipped_s - begun_s) * 1000)
                found.back_ms.append((time.perf_counter() - flipped_s) * 1000)
                found.proxy_ms.append(proxy_ms)
    return found


async def commits_ms(folder: Path, count: int) -> list[float]:
    """What a store on this disk takes for one write."""
    store = SqliteStore(folder / "cutover.db")
    await store.open()
    took_ms = []
    for _ in range(count):
        begun_s = time.perf_counter()
        await store.note(Draft(0, "bench", "bench", "", 0, "", "", "", "", ACCESS))
        took_ms.append((time.perf_counter() - begun_s) * 1000)
    await store.close()
    return took_ms


def table(found: Found) -> Iterator[str]:
    """The Markdown lines."""
    rows = {
        "Flip, from the RPC to its OK": found.flip_ms,
        "Rollback, likewise": found.back_ms,
        f"of a flip: until all {PROXIES} proxies had applied it": found.proxy_ms,
        "one write to a store on this disk": found.commit_ms,
        "Flip at one of three gateways on one PostgreSQL": found.several_ms,
    }
    yield f"| ms, {len(found.flip_ms)} flips | p50 | p99 | most |"
    yield "|---|---:|---:|---:|"
    for text, values in rows.items():
        yield f"| {text} | {percentile(values, 0.5):.2f} | {percentile(values, 0.99):.2f} | {max(values):.2f} |"
    yield ""


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so many do not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def aimed(found: Found) -> list[Aim]:
    """What is promised of a flip."""
    return [at_most(f"a flip with {PROXIES} proxies, p99", percentile(found.flip_ms, 0.99), 50.0, "ms")]


def run(folder: Path, flips: int) -> Found:
    """Starts the gateways and measures. Raises ServingError and PostgresFailure."""
    for version in (1, 2):
        models.save(folder / "models", MODEL, version, models.constant(version))
    with serving(folder / "models", folder / "state", "--proxies", str(PROXIES)) as gateway, asking(gateway):
        found = measure(gateway, flips)
    found.commit_ms = asyncio.run(commits_ms(folder / "beside", flips))
    (folder / "several").mkdir()
    with Server() as server, Trio(folder / "several", server, "") as trio:
        found.several_ms = measure(trio["a"], flips // 4 + 1).flip_ms
    return found


def main() -> int:
    """Runs the bench; exit code 1 with one line when something is not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.flip", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few flips: does everything work?")
    quick = parser.parse_args().quick
    try:
        with tempfile.TemporaryDirectory(prefix="cutover-flip-") as name:
            found = run(Path(name), QUICK if quick else FULL)
    except (ServingError, PostgresFailure, grpc.RpcError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("bench: interrupted\n")
        return 130
    head = [machine(), *(["quick: the numbers mean nothing"] if quick else []), ""]
    sys.stdout.write("\n".join([*head, *table(found), *aims.table(aimed(found))]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
