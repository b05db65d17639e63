"""What a request costs the proxy when there are many models, or many overrides, that it has nothing to do with.

usage: python -m tests.bench.growth [--quick]

A proxy is given its snapshot by the bench: 1 model, 1,000 models of which 999 are idle, and 10,000 overridden units.
The same load goes to each in turns. An idle model has no worker here: to the proxy it is its place in the snapshot.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gateway.routing.snapshot import BUCKETS, STABLE, Canary, Policy, Pool, Range, Release, Snapshot
from loadtests.bench import aims, h2load, processes, workload
from loadtests.bench.aims import Aim, at_most
from loadtests.bench.errors import BenchError
from loadtests.bench.machine import machine
from loadtests.bench.truth import Truth, check
from loadtests.bench.workload import CANDIDATE, Workload
from tests.bench.driven import DrivenProxy, proxy, worker

BASE, MODELS, OVERRIDES = "1 model", "1,000 models", "10,000 overrides"
MANY_MODELS = 1_000
MANY_OVERRIDES = 10_000
BOUND = 1.1
ROUNDS, REQUESTS = 9, 150_000
QUICK_ROUNDS, QUICK_REQUESTS = 1, 20_000


@dataclass(frozen=True)
class Side:
    """One proxy, and its CPU in µs per request, round by round."""

    name: str
    running: DrivenProxy
    costs_us: list[float]


def snapshot(pools: Sequence[Pool], models: int = 1, overrides: int = 0) -> Snapshot:
    """One model with a canary and its real pools, then idle ones like it."""
    model, stable = pools[0].model, max(pool.version for pool in pools)
    policy = Policy(stable, canaries=(Canary(int(CANDIDATE), (Range(0, BUCKETS // 10),)),), salt=f"{model}/{CANDIDATE}")
    if overrides:
        policy = msgspec.structs.replace(policy, overrides={f"user-{number}": STABLE for number in range(overrides)})
    idle = [f"{model}-{number}" for number in range(1, models)]
    releases = [Release(name, 1, policy if name == model else Policy(1)) for name in (model, *idle)]
    bare = [msgspec.structs.replace(pools[0], model=name, version=1, addresses=()) for name in idle]
    return Snapshot(epoch=1, releases=tuple(releases), pools=(*pools, *bare))


def sides(pools: Sequence[Pool]) -> dict[str, Snapshot]:
    """The snapshots to compare, the yardstick first."""
    return {
        BASE: snapshot(pools),
        MODELS: snapshot(pools, models=MANY_MODELS),
        OVERRIDES: snapshot(pools, overrides=MANY_OVERRIDES),
    }


def measure(running: Sequence[Side], model: Workload, rounds: int, requests: int) -> None:
    """The same load on each side, in turns; whoever came first comes last in the next round."""
    expected = Truth(model).outputs()
    shape = h2load.Shape(requests, connections=4, streams=16, latencies=False)
    sizes = {side.name: check(side.running.port, model, expected) for side in running}
    for number in range(-1, rounds):
        turn = max(0, number) % len(running)
        for side in [*running[turn:], *running[:turn]]:
            before_s = processes.cpu_s([side.running.pid])
            h2load.run(side.running.port, model.payload, sizes[side.name], shape)
            if number >= 0:  # the first round only warms up
                side.costs_us.append((processes.cpu_s([side.running.pid]) - before_s) / requests * 1e6)
        say(f"round {number + 1} of {rounds}")


def table(costs_us: Mapping[str, Sequence[float]]) -> Iterator[str]:
    """The Markdown lines: the median of the rounds, and of the rounds' ratios."""
    yield "| what the proxy knows | proxy µs CPU per request | ratio |"
    yield "|---|---:|---:|"
    for name, costs in costs_us.items():
        ratio = growth(costs_us, name)
        yield f"| {name} | {statistics.median(costs):.2f} | {'' if ratio is None else f'{ratio:.3f}'} |"
    yield ""


def growth(costs_us: Mapping[str, Sequence[float]], name: str) -> float | None:
    """The median of the rounds' ratios to the yardstick; None when it was not measured."""
    pairs = zip(costs_us.get(name, ()), costs_us[BASE], strict=False)
    ratios = [cost / base for cost, base in pairs if base]
    return statistics.median(ratios) if ratios else None


def aimed(costs_us: Mapping[str, Sequence[float]]) -> list[Aim]:
    """Others cost a request next to nothing."""
    return [
        at_most(f"CPU per request with {name}, by that with one model", growth(costs_us, name), BOUND)
        for name in (MODELS, OVERRIDES)
    ]


def run(folder: Path, rounds: int, requests: int) -> dict[str, list[float]]:
    """CPU in µs per request of every side, round by round. Raises BenchError."""
    model = workload.classifier(folder)
    with ExitStack() as stack:
        versions = sorted((model.models / model.name).iterdir())
        pools = [
            stack.enter_context(worker(model.name, int(each.name), each / "model.onnx", folder / f"w{each.name}"))
            for each in versions
        ]
        running = [
            Side(name, stack.enter_context(proxy(given, folder / f"c{number}")), [])
            for number, (name, given) in enumerate(sides(pools).items())
        ]
        measure(running, model, rounds, requests)
    return {side.name: side.costs_us for side in running}


def say(text: str) -> None:
    """Progress on stderr; the table goes to stdout."""
    sys.stderr.write(f"{text}\n")


def main() -> int:
    """Runs the bench; exit code 1 with one line when something is not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.growth", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one short round: does everything work?")
    quick = parser.parse_args().quick
    started_s = time.monotonic()
    try:
        h2load.require_h2load()
        with tempfile.TemporaryDirectory(prefix="cutover-growth-") as folder:
            costs_us = run(Path(folder), *((QUICK_ROUNDS, QUICK_REQUESTS) if quick else (ROUNDS, REQUESTS)))
    except BenchError as error:
        say(f"bench: {error}")
        return 1
    except KeyboardInterrupt:
        say("bench: interrupted")
        return 130
    head = [machine(), *(["quick: the numbers mean nothing"] if quick else []), ""]
    sys.stdout.write("\n".join([*head, *table(costs_us), *aims.table(aimed(costs_us))]) + "\n")
    say(f"took {time.monotonic() - started_s:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
