"""`make bench-isolation`: what a shadow fifty times slower than production costs production when everything is copied.

usage: python -m tests.bench.isolation [--quick]

One gateway, rounds without and with the shadow in turns: paced, so that a core stays free, and as fast as it goes. The
rounds meet the same noise, but whatever else wants the CPU makes copies be held: only a quiet machine shows what a free
core is worth.
"""

import argparse
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc

from loadtests.openloop.payload import framed
from protos.inference_pb2_grpc import GRPCInferenceServiceStub
from tests.bench import load, slowness
from tests.bench.load import BenchError, Load
from tests.bench.machine import machine
from tests.bench.slowness import MODEL, SLOW
from tests.serving import Gateway, ServingError, serving

CONNECTIONS: Final = 4
STREAMS: Final = 16
PACED_RATE: Final = 2_000
PACED_AIM: Final = 1.05
RATE_AIM: Final = 0.95
SATURATED_AIM: Final = 1.5


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int
    paced_s: float
    saturated_s: float
    warm_up_s: float = 0.5


FULL: Final = Plan(rounds=7, paced_s=3.0, saturated_s=2.0)
QUICK: Final = Plan(rounds=2, paced_s=0.5, saturated_s=0.2, warm_up_s=0.1)


@dataclass
class Rounds:
    """What was measured of one kind of load, in turns; copies: result -> how many."""

    without: list[Load] = field(default_factory=list)
    shadowed: list[Load] = field(default_factory=list)
    copies: dict[str, float] = field(default_factory=dict)

    def ratio(self, figure: Callable[[Load], float]) -> float:
        """With the shadow by without: the median of the rounds' ratios, as both of a round meet the same noise."""
        pairs = zip(self.shadowed, self.without, strict=True)
        return statistics.median(figure(one) / figure(other) for one, other in pairs)


def p99_ms(run: Load) -> float:
    """The run's p99."""
    return run.quantile_ms(0.99)


class Bench:
    """Runs rounds against one gateway."""

    def __init__(self, gateway: Gateway, folder: Path, plan: Plan) -> None:
        self._gateway = gateway
        self._plan = plan
        self._shadowed = False
        self._payload = folder / "payload"
        asked = slowness.request()
        self._payload.write_bytes(framed(asked.SerializeToString()))
        with grpc.insecure_channel(gateway.target) as channel:
            self._reply_bytes = GRPCInferenceServiceStub(channel).ModelInfer(asked, timeout=30).ByteSize()

    def paced(self) -> Rounds:
        """At a rate that leaves a core free."""
        return self._rounds(self._plan.paced_s, PACED_RATE, PACED_RATE)

    def saturated(self) -> Rounds:
        """As fast as it goes."""
        rate = self._run(5_000, 0).rate
        return self._rounds(self._plan.saturated_s, rate, 0)

    def _rounds(self, length_s: float, expected: float, pace: int) -> Rounds:
        """Rounds of as many requests as come in `length_s` at the expected rate; without a pace, as fast as they go."""
        found = Rounds()
        sides = ((found.without, False), (found.shadowed, True))
        before = self._copies()
        for number in range(self._plan.rounds):
            for runs, shadowed in sides if number % 2 else reversed(sides):
                self._shadow(wanted=shadowed)
                self._run(round(self._plan.warm_up_s * expected), pace)
                runs.append(self._run(round(length_s * expected), pace))
        self._shadow(wanted=False)
        time.sleep(1.5)  # proxies report once a second
        found.copies = {result: count - before[result] for result, count in self._copies().items()}
        return found

    def _shadow(self, *, wanted: bool) -> None:
        if wanted != self._shadowed:
            verb = ("set", "--rate", "1.0") if wanted else ("remove",)
            self._gateway.cutover("shadow", verb[0], MODEL, str(SLOW), *verb[1:], "--reason", "bench")
            self._shadowed = wanted

    def _run(self, requests: int, pace: int) -> Load:
        return load.run(
            self._gateway.grpc,
            self._payload,
            self._reply_bytes,
            requests=requests,
            connections=CONNECTIONS,
            streams=STREAMS,
            rate=pace,
        )

    def _copies(self) -> dict[str, float]:
        results = ("compared", "incomparable", "failed", "dropped")
        return {result: self._gateway.metric("cutover_shadow_copies_total", result=result) for result in results}


def table(paced: Rounds, saturated: Rounds) -> Iterator[str]:
    """The Markdown lines of the result."""
    yield "| load | | without shadow | 100 % shadow | ratio | aim |"
    yield "|---|---|---:|---:|---:|---|"
    for name, rounds, rows in (
        (f"paced at {PACED_RATE:,} requests/s", paced, PACED_ROWS),
        (f"{CONNECTIONS} × {STREAMS} in flight", saturated, SATURATED_ROWS),
    ):
        for what, figure, pattern, aim in rows:
            cells = [
                format(statistics.median(map(figure, runs)), pattern) for runs in (rounds.without, rounds.shadowed)
            ]
            yield f"| {name} | {what} | {' | '.join(cells)} | × {rounds.ratio(figure):.3f} | {aim} |"
    yield ""
    yield "| load | n without | n with | compared | incomparable | failed | dropped |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for name, rounds in (("paced", paced), ("in flight", saturated)):
        counts = [sum(run.requests for run in runs) for runs in (rounds.without, rounds.shadowed)]
        yield f"| {name} | {' | '.join(f'{count:,.0f}' for count in [*counts, *rounds.copies.values()])} |"


Figure = tuple[str, Callable[[Load], float], str, str]
PACED_ROWS: Final[Sequence[Figure]] = (
    ("p50 ms", lambda run: run.quantile_ms(0.5), ".3f", ""),
    ("p99 ms", p99_ms, ".3f", f"≤ {PACED_AIM}"),
)
SATURATED_ROWS: Final[Sequence[Figure]] = (
    ("requests/s", lambda run: run.rate, ",.0f", f"≥ {RATE_AIM}"),
    ("p99 ms", p99_ms, ".3f", f"≤ {SATURATED_AIM}"),
)


def _lines(folder: Path, plan: Plan) -> Iterator[str]:
    models, times = slowness.make_models(folder / "models")
    yield machine()
    yield f"the shadow takes {times:.0f} times as long as production"
    yield ""
    with serving(models, folder / "state", "--proxies", "1") as gateway:
        bench = Bench(gateway, folder, plan)
        yield from table(bench.paced(), bench.saturated())


def main() -> int:
    """Runs everything; exit code 1 with one line when something is not as it should be, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.isolation", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short rounds: does everything work?")
    plan = QUICK if parser.parse_args().quick else FULL
    # Ends by an exception, so that the gateway is stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()
    try:
        load.require_h2load()
        with tempfile.TemporaryDirectory(prefix="cutover-bench-") as folder:
            for line in _lines(Path(folder), plan):
                sys.stdout.write(f"{line}\n")
                sys.stdout.flush()
    except (BenchError, ServingError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("bench: interrupted\n")
        return 130
    sys.stderr.write(f"took {time.monotonic() - started:.0f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
