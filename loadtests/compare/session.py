"""One comparison: every peer started, checked, measured and stopped in turn; what was found is said at once."""

import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from loadtests import units
from loadtests.bench import openloop, processes, workload
from loadtests.bench.errors import BenchError
from loadtests.bench.truth import Truth, check
from loadtests.bench.workload import CANDIDATE, Workload
from loadtests.compare import nginx
from loadtests.compare.measure import SHARES, Door, Effort, closed, one_at_a_time_us, opened
from loadtests.compare.nginx import NGINX
from loadtests.compare.peers import CUTOVER, STARTS, TRITON, Running, Site, gateway, running
from loadtests.compare.rows import Large, Part, Results, Row, Split, quantiles

RESNET: Final = "resnet"
PROXY: Final = "gateway.dataplane"
LARGE_STREAMS: Final = 2
NAMES: Final = (*STARTS, NGINX, RESNET)


class Session:
    """Collects results while it runs. A peer that cannot be measured is a problem, not the end."""

    def __init__(self, site: Site, effort: Effort) -> None:
        self.results = Results()
        self._site = site
        self._effort = effort

    def run(self, names: Sequence[str]) -> None:
        """All of the named, in the order that the comparison needs."""
        peers = [name for name in STARTS if name in names]
        if peers or NGINX in names:
            small = workload.classifier(self._site.folder)
            for name in peers:
                self._try(name, partial(self._peer, name, small))
            if NGINX in names:
                self._try(NGINX, partial(self._split, small))
        if RESNET in names:
            for network in workload.NETWORKS:
                self._try(f"{RESNET} {network}", partial(self._large, network))

    def _try(self, name: str, measure: Callable[[], None]) -> None:
        say(f"== {name}")
        try:
            measure()
        except BenchError as error:
            self.results.problems[name] = str(error)
            say(f"{name} is not measured: {error}")

    def _peer(self, name: str, small: Workload) -> None:
        with STARTS[name](self._site, small) as peer:
            door = Door(peer.port, small.payload, check(peer.port, small, Truth(small).outputs()))
            row = self._measured(peer, door)
        self.results.rows[name] = row

    def _measured(self, peer: Running, door: Door) -> Row:
        effort, results = self._effort, self.results
        most = closed(door, effort, peer.processes)
        say(f"4×16: {most.rate:,.0f} req/s, p99 {most.p99_ms:.2f} ms, {most.cpu_us:.1f} µs CPU per request")
        single_us = one_at_a_time_us(door, effort)
        say(f"1×1: p50 {units.format_us(single_us)}")
        own = {}
        for share in SHARES:
            own[share] = opened(door, share * most.rate, effort)
            say(f"open loop at {share:.0%}, {share * most.rate:,.0f}/s: {quantiles(own[share])}")
        if peer.name == TRITON:
            results.common_rate = 0.7 * most.rate
        common, common_us = None, None
        if results.common_rate:
            before_s = processes.cpu_s(peer.processes())
            common = opened(door, results.common_rate, effort)
            spent_s = processes.cpu_s(peer.processes()) - before_s
            if common and common.ok == common.intended:  # else nobody knows how much work was done
                common_us = spent_s / (common.intended * (1 + openloop.WARM_UP)) * 1e6
            say(f"open loop at {results.common_rate:,.0f}/s: {quantiles(common)}")
        memory_bytes = processes.resident_bytes(peer.processes())
        return Row(peer.name, peer.version, most.rate, single_us, most.cpu_us, memory_bytes, own, common, common_us)

    def _split(self, small: Workload) -> None:
        """Cutover splitting by itself, and behind nginx that splits: the same load on both."""
        with gateway(self._site, small) as commanded:
            served, expected = running(commanded), Truth(small).outputs()
            own = Door(served.port, small.payload, check(served.port, small, expected))
            found = {}
            for kept in (True, False):
                with nginx.splitting(self._site, served.port, kept=kept) as front:
                    through = Door(front.port, small.payload, check(front.port, small, expected))
                    found[kept] = closed(through, self._effort, partial(nginx.workers, front))
            # Only now: until here any answer by another version would have been a wrong one.
            commanded.run("canary", "set", small.name, CANDIDATE, "--percent", "10", "--reason", "bench")
            proxies = processes.with_argument(served.processes(), PROXY)
            alone = closed(own, self._effort, lambda: proxies)
        self.results.split = Split(*(Part(each.cpu_us, each.rate) for each in (found[False], found[True], alone)))
        say(f"nginx {found[False].cpu_us:.1f} µs per request, {found[True].cpu_us:.1f} µs with connections kept")
        say(f"Cutover's proxy {alone.cpu_us:.1f} µs")

    def _large(self, network: str) -> None:
        large = workload.convnet(self._site.folder, network)
        truth = Truth(large)
        alone = [truth.rows_per_s(self._effort.closed_s)]
        rates: dict[str, float] = {}

        def measure(name: str) -> None:
            with STARTS[name](self._site, large) as peer:
                door = Door(peer.port, large.payload, check(peer.port, large, truth.outputs()))
                rates[name] = closed(door, self._effort, peer.processes, LARGE_STREAMS).rate
            say(f"{name}: {rates[name]:,.1f} rows/s")

        for name in (TRITON, CUTOVER):
            self._try(f"{RESNET} {network} {name}", partial(measure, name))
            alone.append(truth.rows_per_s(self._effort.closed_s))
        say(f"in process, before, between and after: {', '.join(f'{rate:,.1f}' for rate in alone)} rows/s")
        self.results.large[network] = Large(statistics.median(alone), rates)


def say(text: str) -> None:
    """Progress on stderr; the tables go to stdout."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
