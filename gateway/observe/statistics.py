"""What every proxy reported, added up since the control process started.

Proxies report increments (`gateway.routing.outcome`), so totals survive a proxy that dies; gauges are kept per
proxy and leave with it.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.routing.outcome import BatchReport, Report, SeriesReport, ShadowReport, SizeReport

MAX_UNKNOWN_MODELS = 100
"""Callers choose the names of models that do not exist; from this many on they are counted together, under ""."""


@dataclass(slots=True)
class SeriesTotals:
    """Requests of one (model, version, arm); fields as in `SeriesReport`."""

    codes: dict[int, int] = field(default_factory=dict)
    latency: dict[int, int] = field(default_factory=dict)
    latency_sum_us: int = 0
    latency_max_us: int = 0
    failed_sum_us: int = 0
    queue: dict[int, int] = field(default_factory=dict)
    queue_sum_us: int = 0
    queue_max_us: int = 0


@dataclass(slots=True)
class ShadowTotals:
    """Copies to one shadow version; fields as in `ShadowReport`."""

    copies: int = 0
    compared: int = 0
    agreed: int = 0
    dropped: int = 0
    failed: int = 0
    incomparable: int = 0
    max_abs_difference: float = 0.0
    latency: dict[int, int] = field(default_factory=dict)
    latency_sum_us: int = 0
    latency_max_us: int = 0


@dataclass(slots=True)
class BatchTotals:
    """Batches of one pool; fields as in `BatchReport`."""

    batches: int = 0
    rows: int = 0
    sizes: dict[int, int] = field(default_factory=dict)
    compute_us: int = 0
    by_rows: dict[int, SizeReport] = field(default_factory=dict)
    shared_compute_us: int = 0
    shared_carried_us: int = 0
    last_ms: int = 0


@dataclass(frozen=True, slots=True)
class ProxyNow:
    """One proxy: what it is doing now, and how many requests it has answered since the control process started."""

    index: int
    up: bool
    """It has reported and not ended since; else the gauges are 0."""
    connections: int
    in_flight: int
    requests: int
    """Of every process that has been this proxy; what one counted after its last report died with it."""


@dataclass(frozen=True, slots=True)
class _Gauges:
    in_flight: int
    connections: int
    held_bytes: int
    queued: Mapping[str, int]
    waiting: Mapping[str, Mapping[int, int]]
    tls_not_after_s: int


class Statistics:
    """Totals by series, shadow and pool, and the gauges of the proxies that are alive."""

    def __init__(self) -> None:
        self.series: dict[tuple[str, int, str], SeriesTotals] = {}
        """By (model, version, arm); version 0: refused before one was chosen."""
        self.shadows: dict[tuple[str, int], ShadowTotals] = {}
        """By (model, version)."""
        self.batches: dict[tuple[str, int, bool], BatchTotals] = {}
        """By (model, version, shadow)."""
        self.retries = 0
        self.refusals: dict[str, int] = {}
        """How often a limit of the transport struck, by reason."""
        self.tls_reloads: dict[str, int] = {}
        """New certificate files, by what became of them."""
        self._unknown: set[str] = set()
        self._gauges: dict[int, _Gauges] = {}
        self._answered: dict[int, int] = {}
        """Requests by proxy."""

    def fold(self, proxy: int, report: Report) -> None:
        """Adds the increments of one report and replaces the gauges of that proxy."""
        for series in report.series:
            self._fold_series(series)
        answered = sum(sum(series.codes.values()) for series in report.series)
        self._answered[proxy] = self._answered.get(proxy, 0) + answered
        for shadow in report.shadows:
            _fold_shadow(self.shadows.setdefault((shadow.model, shadow.version), ShadowTotals()), shadow)
        for batch in report.batches:
            key = (batch.model, batch.version, batch.shadow)
            _fold_batch(self.batches.setdefault(key, BatchTotals()), batch)
        self.retries += report.retries
        for reason, count in report.transport.items():
            self.refusals[reason] = self.refusals.get(reason, 0) + count
        for result, count in report.tls_reloads.items():
            self.tls_reloads[result] = self.tls_reloads.get(result, 0) + count
        self._gauges[proxy] = _Gauges(
            report.in_flight,
            report.connections,
            report.held_bytes,
            report.queued,
            report.waiting,
            report.tls_not_after_s,
        )

    def proxy_gone(self, proxy: int) -> None:
        """Forgets the gauges of a proxy that no longer lives; what it counted stays."""
        self._gauges.pop(proxy, None)

    @property
    def proxies(self) -> list[ProxyNow]:
        """Every proxy that has ever reported, by index."""
        nothing = _Gauges(in_flight=0, connections=0, held_bytes=0, queued={}, waiting={}, tls_not_after_s=0)
        found = []
        for proxy, answered in sorted(self._answered.items()):
            now = self._gauges.get(proxy, nothing)
            found.append(ProxyNow(proxy, now is not nothing, now.connections, now.in_flight, answered))
        return found

    @property
    def in_flight(self) -> int:
        """Requests without an answer yet, over all proxies."""
        return sum(gauges.in_flight for gauges in self._gauges.values())

    @property
    def connections(self) -> int:
        """Open client connections, over all proxies."""
        return sum(gauges.connections for gauges in self._gauges.values())

    @property
    def held_bytes(self) -> int:
        """Requests and replies on their way, in memory of the transports of all proxies."""
        return sum(gauges.held_bytes for gauges in self._gauges.values())

    @property
    def tls_not_after_s(self) -> int:
        """When the first certificate of a proxy ends, in Unix seconds; 0: none has any."""
        return min((gauges.tls_not_after_s for gauges in self._gauges.values() if gauges.tls_not_after_s), default=0)

    @property
    def queued(self) -> dict[str, int]:
        """Requests waiting for a worker, by model, over all proxies."""
        total: Counter[str] = Counter()
        for gauges in self._gauges.values():
            total.update(gauges.queued)
        return dict(total)

    @property
    def waiting(self) -> dict[tuple[str, int], int]:
        """Requests waiting for a worker, by model and version, over all proxies."""
        total: Counter[tuple[str, int]] = Counter()
        for gauges in self._gauges.values():
            total.update({(model, v): count for model, found in gauges.waiting.items() for v, count in found.items()})
        return dict(total)

    def _fold_series(self, report: SeriesReport) -> None:
        model = report.model if report.version else self._bounded(report.model)
        totals = self.series.setdefault((model, report.version, report.arm), SeriesTotals())
        _add(totals.codes, report.codes)
        _add(totals.latency, report.latency)
        totals.latency_sum_us += report.latency_sum_us
        totals.latency_max_us = max(totals.latency_max_us, report.latency_max_us)
        totals.failed_sum_us += report.failed_sum_us
        _add(totals.queue, report.queue)
        totals.queue_sum_us += report.queue_sum_us
        totals.queue_max_us = max(totals.queue_max_us, report.queue_max_us)

    def _bounded(self, model: str) -> str:
        if model not in self._unknown:
            if len(self._unknown) >= MAX_UNKNOWN_MODELS:
                return ""
            self._unknown.add(model)
        return model


def _fold_shadow(totals: ShadowTotals, report: ShadowReport) -> None:
    totals.copies += report.copies
    totals.compared += report.compared
    totals.agreed += report.agreed
    totals.dropped += report.dropped
    totals.failed += report.failed
    totals.incomparable += report.incomparable
    totals.max_abs_difference = max(totals.max_abs_difference, report.max_abs_difference)
    _add(totals.latency, report.latency)
    totals.latency_sum_us += report.latency_sum_us
    totals.latency_max_us = max(totals.latency_max_us, report.latency_max_us)


def _fold_batch(totals: BatchTotals, report: BatchReport) -> None:
    totals.batches += report.batches
    totals.rows += report.rows
    _add(totals.sizes, report.sizes)
    totals.compute_us += report.compute_us
    for size, more in report.by_rows.items():
        known = totals.by_rows.get(size, SizeReport(0, 0, 0))
        totals.by_rows[size] = SizeReport(
            known.batches + more.batches, known.compute_us + more.compute_us, known.carried_us + more.carried_us
        )
    totals.shared_compute_us += report.shared_compute_us
    totals.shared_carried_us += report.shared_carried_us
    totals.last_ms = max(totals.last_ms, report.last_ms)


def _add(totals: dict[int, int], increments: Mapping[int, int]) -> None:
    for key, count in increments.items():
        totals[key] = totals.get(key, 0) + count
