from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from gateway.errors import Code
from gateway.observe.aliases import ALIASES, Aliases
from gateway.observe.statistics import Statistics
from gateway.routing.outcome import BatchReport, Report, SeriesReport


def scrape(statistics: Statistics) -> dict[tuple[str, ...], float]:
    """By name without its prefix, then the labels' values."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Aliases(statistics))
    return {
        (one.name.removeprefix("nv_inference_"), *(value for _, value in sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for one in family.samples
    }


def test_what_a_version_did_in_tritons_words() -> None:
    refused: dict[int, int] = {Code.RESOURCE_EXHAUSTED: 2, Code.DEADLINE_EXCEEDED: 1, Code.UNAVAILABLE: 6}
    codes = {Code.OK.value: 3, Code.CANCELLED.value: 4, Code.INTERNAL.value: 5, **refused}
    statistics = Statistics()
    statistics.fold(
        0,
        Report(
            series=(
                SeriesReport("m", 1, "stable", codes, latency_sum_us=100, failed_sum_us=30, queue_sum_us=7),
                SeriesReport("m", 1, "standby", {Code.OK: 1}, latency_sum_us=5, queue_sum_us=1),
                SeriesReport("m", 0, "none", {Code.NOT_FOUND: 9}),
            ),
            batches=(BatchReport("m", 1, False, 2, 8, shared_compute_us=50, shared_carried_us=20),),
            waiting={"m": {1: 3, 2: 1}},
        ),
    )
    found = scrape(statistics)
    assert {name: found[name, "m", "1"] for name in ("request_success", "count", "exec_count")} == {
        "request_success": 4,
        "count": 8,
        "exec_count": 2,
    }
    reasons = {
        reason: found["request_failure", "m", reason, "1"] for reason in ("REJECTED", "CANCELED", "BACKEND", "OTHER")
    }
    assert reasons == {"REJECTED": 3, "CANCELED": 4, "BACKEND": 5, "OTHER": 6}
    durations = ("request", "queue", "compute_input", "compute_infer", "compute_output")
    assert [found[f"{name}_duration_us", "m", "1"] for name in durations] == [75, 8, 20, 50, 0]
    assert [found["pending_request_count", "m", version] for version in "12"] == [3, 1]
    assert found["request_success", "m", "2"] == 0, "from 0 on"
    assert not [key for key in found if key[2:] == ("0",)]


def test_every_name_is_there_under_exactly_that_name() -> None:
    statistics = Statistics()
    statistics.fold(0, Report(waiting={"m": {1: 0}}))
    assert {key[0] for key in scrape(statistics)} == {row.name.removeprefix("nv_inference_") for row in ALIASES}


def test_openmetrics_takes_them_too() -> None:
    statistics = Statistics()
    statistics.fold(0, Report(waiting={"m": {1: 2}}))
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Aliases(statistics))
    line = 'nv_inference_pending_request_count{model="m",version="1"} 2'
    assert line in generate_openmetrics(registry).decode()  # type: ignore[no-untyped-call] # it has no types
