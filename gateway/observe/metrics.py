"""Prometheus metrics, computed when scraped from `Statistics` and from what the control plane knows.

`METRICS` is the one list of them: name, type, labels, meaning. Everything else here fills its rows. All names
start with `cutover_`, durations are in seconds, counters end in `_total`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway import __version__
from gateway.errors import Code
from gateway.observe import histogram
from gateway.observe.statistics import ShadowTotals, Statistics
from gateway.routing.snapshot import Release


class Described(NamedTuple):
    """One row of the metrics' documentation. `kind` is `counter`, `gauge` or `histogram`."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


_SERIES = ("model", "version", "arm")
_VERSION = ("model", "version")
_POOL = ("model", "version", "shadow")

METRICS = (
    Described(
        "cutover_requests_total", "counter", (*_SERIES, "code"), "Answers by gRPC status; version 0: none chosen"
    ),
    Described(
        "cutover_request_seconds",
        "histogram",
        _SERIES,
        "Complete request to reply handed to the transport; errors included, but not what was refused on arrival",
    ),
    Described("cutover_queue_seconds", "histogram", _SERIES, "Wait in the lane's queue until sent to a worker"),
    Described("cutover_request_retries_total", "counter", (), "Requests run again because their worker died"),
    Described("cutover_in_flight_requests", "gauge", (), "Requests without an answer yet"),
    Described("cutover_queued_requests", "gauge", ("model",), "Requests waiting for a worker"),
    Described("cutover_connections", "gauge", (), "Open client connections"),
    Described("cutover_transport_held_bytes", "gauge", (), "Memory of requests and replies on their way"),
    Described(
        "cutover_transport_refusals_total", "counter", ("reason",), "How often a limit on what clients may do struck"
    ),
    Described(
        "cutover_tls_certificate_expiry_timestamp_seconds", "gauge", (), "Unix time at which the certificate ends"
    ),
    Described("cutover_tls_reloads_total", "counter", ("result",), "New certificate files by what became of them"),
    Described("cutover_batch_rows", "histogram", _POOL, "Rows per batch sent to a worker"),
    Described("cutover_batch_compute_seconds_total", "counter", _POOL, "Time inside ONNX Runtime"),
    Described(
        "cutover_shadow_copies_total",
        "counter",
        (*_VERSION, "result"),
        "Copies by what became of them: compared, incomparable (other outputs, dtypes or shapes), failed, dropped",
    ),
    Described("cutover_shadow_rows_total", "counter", _VERSION, "Rows compared with production's answer"),
    Described("cutover_shadow_agreed_rows_total", "counter", _VERSION, "Rows whose arg-max or label is production's"),
    Described("cutover_shadow_max_abs_difference", "gauge", _VERSION, "Largest absolute difference seen since start"),
    Described("cutover_shadow_seconds", "histogram", _VERSION, "Copy queued to copy compared"),
    Described("cutover_workers", "gauge", _VERSION, "Worker processes wanted; the live ones where a shadow runs, too"),
    Described("cutover_workers_ready", "gauge", _VERSION, "Of these, loaded, warmed and answering"),
    Described("cutover_worker_restarts_total", "counter", _VERSION, "Workers started again after they died"),
    Described("cutover_proxies", "gauge", (), "Proxy processes serving"),
    Described("cutover_proxy_restarts_total", "counter", (), "Proxies started again after they died or were fenced"),
    Described("cutover_proxy_connections", "gauge", ("proxy",), "Open client connections of one proxy"),
    Described("cutover_proxy_requests_total", "counter", ("proxy",), "Answers of one proxy, whatever became of it"),
    Described("cutover_proxy_in_flight_requests", "gauge", ("proxy",), "Requests in one proxy without an answer yet"),
    Described("cutover_release_revision", "gauge", ("model",), "Revision of the release being served"),
    Described("cutover_store_up", "gauge", (), "1: releases can be changed; 0: what was served is served on"),
    Described("cutover_gateways", "gauge", ("state",), "Gateways on the store that is shared: live or silent"),
    Described("cutover_build_info", "gauge", ("version",), "Always 1; the label says which Cutover this is"),
)

_ROUND_US = (
    *(50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000),
    *(1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000),
)


def _next_edge_us(value_us: int) -> int:
    bucket = histogram.index(value_us)
    low = histogram.lower_bound_us(bucket)
    return low if low == value_us else histogram.upper_bound_us(bucket)


BOUNDS_US = tuple(_next_edge_us(value) for value in _ROUND_US)
"""Upper bounds of the duration histograms: for each round value from 50 µs to 60 s the next edge of the log-linear
buckets, so that counts are exact and not estimated (52 µs for 50 µs, 10.24 ms for 10 ms)."""

BATCH_BITS = 12
"""Batches up to 2**12 - 1 rows get a bucket of their own size class."""


class WorkerFacts(Protocol):
    """What the metrics say of the workers of one version; `gateway.controlplane.ports.VersionStatus` has this shape."""

    @property
    def model(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def instances(self) -> int: ...
    @property
    def instances_ready(self) -> int: ...
    @property
    def restarts(self) -> int: ...


class ProxyFacts(NamedTuple):
    """Proxies that serve now, and how often one had to be started again."""

    up: int
    restarts: int


Families = Mapping[str, Metric]


class Metrics(Collector):
    """A prometheus_client collector: reads everything anew at each scrape, keeps nothing."""

    def __init__(
        self,
        statistics: Statistics,
        *,
        releases: Callable[[], Iterable[Release]],
        workers: Callable[[], Iterable[WorkerFacts]],
        proxies: Callable[[], ProxyFacts],
        store_up: Callable[[], bool] = lambda: True,
        gateways: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        """`gateways`: how many share the store, by state; none where it is not shared."""
        self._statistics = statistics
        self._releases = releases
        self._workers = workers
        self._proxies = proxies
        self._store_up = store_up
        self._gateways = gateways

    def collect(self) -> Iterable[Metric]:
        """Every family of METRICS, in that order, with the samples of this moment."""
        families = {row.name: _family(row) for row in METRICS}
        self._collect_series(families)
        self._collect_batches(families)
        self._collect_shadows(families)
        self._collect_facts(families)
        return families.values()

    def _collect_series(self, families: Families) -> None:
        for (model, version, arm), totals in sorted(self._statistics.series.items()):
            labels = (model, str(version), arm)
            for code, count in sorted(totals.codes.items()):
                _add(families, "cutover_requests_total", (*labels, Code(code).name), count)
            _add_durations(families, "cutover_request_seconds", labels, totals.latency, totals.latency_sum_us)
            _add_durations(families, "cutover_queue_seconds", labels, totals.queue, totals.queue_sum_us)
        _add(families, "cutover_request_retries_total", (), self._statistics.retries)
        _add(families, "cutover_in_flight_requests", (), self._statistics.in_flight)
        _add(families, "cutover_connections", (), self._statistics.connections)
        _add(families, "cutover_transport_held_bytes", (), self._statistics.held_bytes)
        for reason, count in sorted(self._statistics.refusals.items()):
            _add(families, "cutover_transport_refusals_total", (reason,), count)
        if self._statistics.tls_not_after_s:
            _add(families, "cutover_tls_certificate_expiry_timestamp_seconds", (), self._statistics.tls_not_after_s)
            for result in ("failed", "ok"):  # from 0 on: `increase()` does not see a series that begins with 1
                _add(families, "cutover_tls_reloads_total", (result,), self._statistics.tls_reloads.get(result, 0))

    def _collect_batches(self, families: Families) -> None:
        for (model, version, shadow), totals in sorted(self._statistics.batches.items()):
            labels = (model, str(version), str(shadow).lower())
            # {bit_length(rows): batches}: a batch of class b has at most 2**b - 1 rows.
            bounds = [(float((1 << bits) - 1), bits) for bits in range(1, BATCH_BITS + 1)]
            _add_histogram(families, "cutover_batch_rows", labels, _cumulative(totals.sizes, bounds), totals.rows)
            _add(families, "cutover_batch_compute_seconds_total", labels, totals.compute_us / 1e6)

    def _collect_shadows(self, families: Families) -> None:
        for (model, version), totals in sorted(self._statistics.shadows.items()):
            labels = (model, str(version))
            for result, count in _results(totals).items():
                _add(families, "cutover_shadow_copies_total", (*labels, result), count)
            _add(families, "cutover_shadow_rows_total", labels, totals.compared)
            _add(families, "cutover_shadow_agreed_rows_total", labels, totals.agreed)
            _add(families, "cutover_shadow_max_abs_difference", labels, totals.max_abs_difference)
            _add_durations(families, "cutover_shadow_seconds", labels, totals.latency, totals.latency_sum_us)

    def _collect_facts(self, families: Families) -> None:
        queued = self._statistics.queued
        for release in self._releases():
            _add(families, "cutover_release_revision", (release.model,), release.revision)
            queued.setdefault(release.model, 0)
        for model, count in sorted(queued.items()):
            _add(families, "cutover_queued_requests", (model,), count)
        for facts in self._workers():
            labels = (facts.model, str(facts.version))
            _add(families, "cutover_workers", labels, facts.instances)
            _add(families, "cutover_workers_ready", labels, facts.instances_ready)
            _add(families, "cutover_worker_restarts_total", labels, facts.restarts)
        proxies = self._proxies()
        _add(families, "cutover_proxies", (), proxies.up)
        _add(families, "cutover_proxy_restarts_total", (), proxies.restarts)
        _add(families, "cutover_store_up", (), int(self._store_up()))
        for state, count in self._gateways().items():
            _add(families, "cutover_gateways", (state,), count)
        for one in self._statistics.proxies:
            proxy = (str(one.index),)
            _add(families, "cutover_proxy_connections", proxy, one.connections)
            _add(families, "cutover_proxy_requests_total", proxy, one.requests)
            _add(families, "cutover_proxy_in_flight_requests", proxy, one.in_flight)
        _add(families, "cutover_build_info", (__version__,), 1)


def _family(row: Described) -> Metric:
    if row.kind == "histogram":
        return HistogramMetricFamily(row.name, row.meaning, labels=row.labels)
    if row.kind == "counter":
        return CounterMetricFamily(row.name, row.meaning, labels=row.labels)
    return GaugeMetricFamily(row.name, row.meaning, labels=row.labels)


def _results(totals: ShadowTotals) -> dict[str, int]:
    # Every copy that was answered and compared has exactly one latency; rows are counted elsewhere.
    compared = sum(totals.latency.values())
    return {
        "compared": compared,
        "incomparable": totals.incomparable,
        "failed": totals.failed,
        "dropped": totals.dropped,
    }


def _add(families: Families, name: str, labels: Sequence[str], value: float) -> None:
    family = families[name]
    assert isinstance(family, CounterMetricFamily | GaugeMetricFamily)  # noqa: S101 - for the type checker: METRICS says so
    family.add_metric(labels, value)


def _add_durations(
    families: Families, name: str, labels: Sequence[str], counts: Mapping[int, int], sum_us: int
) -> None:
    bounds = [(edge_us / 1e6, histogram.index(edge_us) - 1) for edge_us in BOUNDS_US]
    _add_histogram(families, name, labels, _cumulative(counts, bounds), sum_us / 1e6)


def _add_histogram(
    families: Families, name: str, labels: Sequence[str], buckets: list[tuple[str, float]], total: float
) -> None:
    family = families[name]
    assert isinstance(family, HistogramMetricFamily)  # noqa: S101 - for the type checker: METRICS says so
    family.add_metric(labels, buckets, total)


def _cumulative(counts: Mapping[int, int], bounds: Sequence[tuple[float, int]]) -> list[tuple[str, float]]:
    """Prometheus buckets from sparse counts; `bounds` are (le, last key that still counts)."""
    keys = sorted(counts)
    found: list[tuple[str, float]] = []
    at = total = 0
    for le, last in bounds:
        while at < len(keys) and keys[at] <= last:
            total += counts[keys[at]]
            at += 1
        found.append((str(le), total))
    return [*found, ("+Inf", sum(counts.values()))]
