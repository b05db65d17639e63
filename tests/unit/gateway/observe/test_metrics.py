from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from gateway import __version__
from gateway.controlplane.ports import VersionStatus
from gateway.observe import histogram
from gateway.observe.metrics import BOUNDS_US, METRICS, Metrics, ProxyFacts, WorkerFacts
from gateway.observe.statistics import Statistics
from gateway.routing.outcome import BatchReport, Report, SeriesReport, ShadowReport
from gateway.routing.snapshot import Policy, Release


@dataclass
class Scraped:
    values: dict[tuple[str, tuple[tuple[str, str], ...]], float]

    def __call__(self, name: str, **labels: str) -> float:
        return self.values[name, tuple(sorted(labels.items()))]


def collector(statistics: Statistics) -> Metrics:
    def workers() -> Iterable[WorkerFacts]:
        return [VersionStatus("digits", 1, "ab", "ready", instances=2, instances_ready=1, restarts=3)]

    return Metrics(
        statistics,
        releases=lambda: [Release("digits", 7, Policy(stable=1))],
        workers=workers,
        proxies=lambda: ProxyFacts(up=2, restarts=1),
        gateways=lambda: {"live": 2, "silent": 1},
    )


def scrape(statistics: Statistics) -> Scraped:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector(statistics))
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return Scraped(
        {(one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples}
    )


def busy() -> Statistics:
    statistics = Statistics()
    latency = {histogram.index(us): 1 for us in (40, 300, 9_000, 70_000_000)}
    requests = SeriesReport(
        *("digits", 1, "stable"), codes={0: 3, 8: 1}, latency=latency, latency_sum_us=70_009_340, queue={0: 4}
    )
    shadow = ShadowReport(
        *("digits", 2), copies=9, compared=12, agreed=11, dropped=3, failed=2, incomparable=1, latency={100: 3}
    )
    batch = BatchReport("digits", 1, False, batches=3, rows=10, sizes={1: 2, 4: 1}, compute_us=2_500_000)
    gauges: dict[str, Any] = {"in_flight": 4, "connections": 2, "held_bytes": 5000}
    statistics.fold(1, Report(tls_not_after_s=1_800_000_000, tls_reloads={"ok": 2, "failed": 1}))
    statistics.fold(
        0, Report((requests,), (batch,), (shadow,), retries=6, queued={"digits": 5}, transport={"chatter": 2}, **gauges)
    )
    return statistics


def test_requests_are_counted_by_arm_and_code() -> None:
    value = scrape(busy())
    arm = {"model": "digits", "version": "1", "arm": "stable"}
    assert value("cutover_requests_total", **arm, code="OK") == 3
    assert value("cutover_requests_total", **arm, code="RESOURCE_EXHAUSTED") == 1
    assert value("cutover_request_seconds_count", **arm) == 4
    assert value("cutover_request_seconds_sum", **arm) == pytest.approx(70.00934)
    assert value("cutover_request_seconds_bucket", **arm, le="5.2e-05") == 1
    assert value("cutover_request_seconds_bucket", **arm, le="0.000512") == 2
    assert value("cutover_request_seconds_bucket", **arm, le="0.01024") == 3
    assert value("cutover_request_seconds_bucket", **arm, le="62.91456") == 3
    assert value("cutover_request_seconds_bucket", **arm, le="+Inf") == 4
    assert value("cutover_queue_seconds_count", **arm) == 4


def test_batches_are_a_histogram_of_rows() -> None:
    value = scrape(busy())
    pool = {"model": "digits", "version": "1", "shadow": "false"}
    assert value("cutover_batch_rows_bucket", **pool, le="1.0") == 2
    assert value("cutover_batch_rows_bucket", **pool, le="7.0") == 2
    assert value("cutover_batch_rows_bucket", **pool, le="15.0") == 3
    assert value("cutover_batch_rows_count", **pool) == 3
    assert value("cutover_batch_rows_sum", **pool) == 10
    assert value("cutover_batch_compute_seconds_total", **pool) == 2.5


def test_copies_are_counted_by_what_became_of_them() -> None:
    value = scrape(busy())
    version = {"model": "digits", "version": "2"}
    results = {
        result: value("cutover_shadow_copies_total", **version, result=result)
        for result in ("compared", "incomparable", "failed", "dropped")
    }
    assert results == {"compared": 3, "incomparable": 1, "failed": 2, "dropped": 3}
    assert value("cutover_shadow_rows_total", **version) == 12
    assert value("cutover_shadow_agreed_rows_total", **version) == 11
    assert value("cutover_shadow_max_abs_difference", **version) == 0
    assert value("cutover_shadow_seconds_count", **version) == 3


def test_facts_and_gauges() -> None:
    value = scrape(busy())
    version = {"model": "digits", "version": "1"}
    assert value("cutover_workers", **version) == 2
    assert value("cutover_workers_ready", **version) == 1
    assert value("cutover_worker_restarts_total", **version) == 3
    assert (value("cutover_proxies"), value("cutover_proxy_restarts_total")) == (2, 1)
    assert [value("cutover_proxy_connections", proxy=one) for one in "01"] == [2, 0]
    assert [value("cutover_proxy_in_flight_requests", proxy=one) for one in "01"] == [4, 0]
    assert [value("cutover_proxy_requests_total", proxy=one) for one in "01"] == [4, 0]
    assert value("cutover_release_revision", model="digits") == 7
    assert value("cutover_queued_requests", model="digits") == 5
    assert (value("cutover_in_flight_requests"), value("cutover_connections")) == (4, 2)
    assert value("cutover_transport_held_bytes") == 5000
    assert value("cutover_tls_certificate_expiry_timestamp_seconds") == 1_800_000_000
    assert [value("cutover_tls_reloads_total", result=result) for result in ("ok", "failed")] == [2, 1]
    assert value("cutover_request_retries_total") == 6
    assert value("cutover_transport_refusals_total", reason="chatter") == 2
    assert value("cutover_build_info", version=__version__) == 1


def test_reloads_of_certificates_are_counted_from_zero() -> None:
    """The first failure must be an increase, not a new series."""
    statistics = Statistics()
    statistics.fold(0, Report(tls_not_after_s=1_800_000_000))
    value = scrape(statistics)
    assert [value("cutover_tls_reloads_total", result=result) for result in ("ok", "failed")] == [0, 0]


def test_a_released_model_with_an_empty_queue_shows_zero() -> None:
    assert scrape(Statistics())("cutover_queued_requests", model="digits") == 0


def test_the_table_describes_exactly_what_is_exposed() -> None:
    exposed = {family.name: family for family in collector(busy()).collect()}
    assert [row.name.removesuffix("_total") for row in METRICS] == list(exposed)
    for row in METRICS:
        family = exposed[row.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (row.kind, row.meaning)
        assert family.samples, row.name
        assert all(tuple(key for key in one.labels if key != "le") == row.labels for one in family.samples), row.name
        assert row.name.startswith("cutover_")
        assert row.name.endswith("_total") == (row.kind == "counter")


def test_openmetrics_accepts_it() -> None:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector(busy()))
    text = generate_openmetrics(registry).decode()  # type: ignore[no-untyped-call] # prometheus_client has no types here
    names = {family.name for family in parse_openmetrics(text)}  # type: ignore[no-untyped-call] # nor here
    assert {"cutover_requests", "cutover_batch_rows"} <= names


def test_bounds_are_edges_of_the_buckets() -> None:
    assert (BOUNDS_US[0], BOUNDS_US[-1], len(BOUNDS_US)) == (52, 62_914_560, 19)
    assert all(histogram.lower_bound_us(histogram.index(bound)) == bound for bound in BOUNDS_US)


@given(st.lists(st.integers(0, 100_000_000), max_size=100))
def test_bucket_counts_are_exact(durations_us: list[int]) -> None:
    latency: dict[int, int] = {}
    for duration in durations_us:
        latency[histogram.index(duration)] = latency.get(histogram.index(duration), 0) + 1
    statistics = Statistics()
    statistics.fold(0, Report(series=(SeriesReport("m", 1, "stable", codes={0: 1}, latency=latency),)))
    value = scrape(statistics)
    for bound in BOUNDS_US:
        found = value("cutover_request_seconds_bucket", model="m", version="1", arm="stable", le=str(bound / 1e6))
        assert found == sum(duration < bound for duration in durations_us)


def test_gateways_on_the_store_are_counted_where_it_is_shared() -> None:
    assert scrape(Statistics())("cutover_gateways", state="silent") == 1
    alone = Metrics(Statistics(), releases=list, workers=list, proxies=lambda: ProxyFacts(1, 0))
    (family,) = [family for family in alone.collect() if family.name == "cutover_gateways"]
    assert family.samples == []
