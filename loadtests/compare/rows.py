"""What was found about each peer, and the tables and aims made of it. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Final

from loadtests import units
from loadtests.bench.aims import Aim, at_least, at_most, ratio
from loadtests.bench.openloop import LIMIT_PER_S, Found
from loadtests.bench.workload import NETWORKS
from loadtests.compare.peers import CUTOVER, MLSERVER, TRITON

P99_BOUND: Final = 0.5


@dataclass(frozen=True)
class Row:
    """One peer serving the small classifier.

    own: open loop, by the share of its own capacity; None: more than the generator can send.
    common: open loop at the rate that all peers met. common_cpu_us: CPU per request, then.
    """

    name: str
    version: str
    rate: float
    single_p50_us: float
    cpu_us: float
    memory_bytes: int
    own: Mapping[float, Found | None] = field(default_factory=dict)
    common: Found | None = None
    common_cpu_us: float | None = None


@dataclass(frozen=True)
class Part:
    """CPU in µs per request of the one process that splits; requests/s."""

    cpu_us: float
    rate: float


@dataclass(frozen=True)
class Split:
    """Splitting by user id, 4 × 16, by nginx's worker and by Cutover's proxy.

    kept: nginx keeps its connections to Cutover; plain: it opens one for each request.
    """

    plain: Part
    kept: Part
    proxy: Part


@dataclass(frozen=True)
class Large:
    """Rows per second of one network that takes ResNet-sized rows."""

    in_process: float
    rates: Mapping[str, float]


@dataclass
class Results:
    """Everything, with what could not be measured and why."""

    rows: dict[str, Row] = field(default_factory=dict)
    common_rate: float | None = None
    split: Split | None = None
    large: dict[str, Large] = field(default_factory=dict)
    """By network."""
    problems: dict[str, str] = field(default_factory=dict)


def tables(results: Results) -> Iterator[str]:
    """All Markdown lines but the aims."""
    yield from _closed(results)
    yield from _open(results)
    if results.split:
        yield from _split(results.split)
    if results.large:
        yield from _large(results.large)
    for name, problem in results.problems.items():
        yield f"{name}: not measured: {problem}"
        yield ""


def _closed(results: Results) -> Iterator[str]:
    if not results.rows:
        return
    triton = results.rows.get(TRITON)
    yield "| 30 floats | version | 4×16 req/s | × Triton | 1×1 p50 | CPU µs/request | memory MB |"
    yield "|---|---|---:|---:|---:|---:|---:|"
    for row in results.rows.values():
        share = f"{row.rate / triton.rate:.2f}" if triton else ""
        yield (
            f"| {row.name} | {row.version} | {row.rate:,.0f} | {share} | {units.format_us(row.single_p50_us)} "
            f"| {row.cpu_us:.1f} | {row.memory_bytes / 1e6:,.0f} |"
        )
    yield ""


def _open(results: Results) -> Iterator[str]:
    rows = [row for row in results.rows.values() if row.own]
    if not rows:
        return
    shares = list(rows[0].own)
    rate = results.common_rate
    heads = [f"at {share:.0%} of its own" for share in shares]
    heads += [f"at {rate:,.0f}/s, 70% of Triton's", "CPU µs/request then"] if rate else []
    yield f"| open loop, p50 / p99 | {' | '.join(heads)} |"
    yield f"|---|{'---:|' * len(heads)}"
    for row in rows:
        cells = [quantiles(row.own[share]) for share in shares]
        if rate:
            cells += [quantiles(row.common), "" if row.common_cpu_us is None else f"{row.common_cpu_us:.1f}"]
        yield f"| {row.name} | {' | '.join(cells)} |"
    yield ""


def quantiles(found: Found | None) -> str:
    """p50 and p99 of OK answers, with whatever keeps them from being the whole truth."""
    if found is None:
        return f"over {LIMIT_PER_S:,}/s"
    text = f"{units.format_us(found.quantile_us(0.5))} / {units.format_us(found.quantile_us(0.99))}"
    missing = found.intended - found.ok
    if missing:
        text += f", {units.format_percent(missing / found.intended)} not OK"
    return text + (", generator late" if found.spoiled else "")


def _split(split: Split) -> Iterator[str]:
    yield "| splitting by user id, 4×16 | req/s | its CPU µs/request |"
    yield "|---|---:|---:|"
    for name, part in (
        ("nginx's worker, in front of Cutover, as it comes: a connection for each request", split.plain),
        ("nginx's worker, in front of Cutover, told to keep its connections", split.kept),
        ("Cutover's proxy, which also reads, batches and answers", split.proxy),
    ):
        yield f"| {name} | {part.rate:,.0f} | {part.cpu_us:.1f} |"
    yield ""


def _large(large: Mapping[str, Large]) -> Iterator[str]:
    yield f"| FP32 [1,3,224,224], 4×2 | {' | | '.join(f'{network}, rows/s' for network in large)} | |"
    yield f"|---|{'---:|' * 2 * len(large)}"
    yield _large_row("ONNX Runtime in a loop in one process", [(each.in_process, each) for each in large.values()])
    for name in {name: None for each in large.values() for name in each.rates}:
        yield _large_row(name, [(each.rates.get(name), each) for each in large.values()])
    yield ""


def _large_row(name: str, found: list[tuple[float | None, Large]]) -> str:
    cells = [" | " if rate is None else f"{rate:,.1f} | × {rate / each.in_process:.2f}" for rate, each in found]
    return f"| {name} | {' | '.join(cells)} |"


def aims(results: Results) -> list[Aim]:
    """What the comparison is to show."""
    rates = {name: row.rate for name, row in results.rows.items()}
    singles_us = {name: row.single_p50_us for name, row in results.rows.items()}
    split = results.split
    by_plain, by_kept = (
        (ratio(split.proxy.cpu_us, part.cpu_us) for part in (split.plain, split.kept)) if split else (None, None)
    )
    return [
        at_least("throughput, by Triton's", ratio(rates.get(CUTOVER), rates.get(TRITON)), 8),
        at_least("throughput, by MLServer's", ratio(rates.get(CUTOVER), rates.get(MLSERVER)), 50),
        at_most("p99 at 70 % of Triton's capacity, by Triton's", _p99_ratio(results.rows), P99_BOUND),
        at_most("p50 one at a time, by Triton's", ratio(singles_us.get(CUTOVER), singles_us.get(TRITON)), 0.5),
        at_most("the gateway's CPU per request, by nginx's when it only splits, as it comes", by_plain, 0.35),
        at_most("the same, by nginx's when it is told to keep its connections", by_kept, 0.35),
        *[aim for network in NETWORKS for aim in _large_aims(network, results.large.get(network))],
    ]


def _large_aims(network: str, large: Large | None) -> Iterator[Aim]:
    rates = large.rates if large else {}
    alone = large.in_process if large else None
    yield at_least(f"{network}: rows/s, by the in-process loop's", ratio(rates.get(CUTOVER), alone), 0.9)
    yield at_least(f"{network}: rows/s, by Triton's", ratio(rates.get(CUTOVER), rates.get(TRITON)), 1.5)


def _p99_ratio(rows: Mapping[str, Row]) -> float | None:
    """Cutover's p99 at the common rate by Triton's; None when it says nothing; infinite when Cutover failed requests.

    A generator that was late made the latencies longer: then they can be short enough, but not too long. And what it
    did not send it may not have sent for that reason.
    """
    ours, triton = (rows[name].common if name in rows else None for name in (CUTOVER, TRITON))
    if not ours or not triton or triton.spoiled or triton.ok < triton.intended:
        return None
    if ours.ok < ours.intended:
        return None if ours.spoiled and ours.ok + ours.unsent == ours.intended else inf
    found = ratio(ours.quantile_us(0.99), triton.quantile_us(0.99))
    return None if found is None or (ours.spoiled and found > P99_BOUND) else found
