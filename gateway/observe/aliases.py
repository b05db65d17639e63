"""Triton's names for some of our metrics, so that its dashboards and alerts go on working. Off by default.

Triton's counters do not end in `_total`, which a counter must here: they are exposed without a type.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from gateway.errors import Code
from gateway.observe.metrics import Described
from gateway.observe.statistics import BatchTotals, SeriesTotals, Statistics

_VERSION = ("model", "version")
_US = "cumulated over all requests answered, in microseconds"

ALIASES = (
    Described("nv_inference_request_success", "untyped", _VERSION, "Requests answered"),
    Described("nv_inference_request_failure", "untyped", (*_VERSION, "reason"), "Requests that failed"),
    Described("nv_inference_count", "untyped", _VERSION, "Rows in batches that were run"),
    Described("nv_inference_exec_count", "untyped", _VERSION, "Batches that were run"),
    Described("nv_inference_pending_request_count", "untyped", _VERSION, "Requests waiting for a worker"),
    Described("nv_inference_request_duration_us", "untyped", _VERSION, f"Complete request to reply, {_US}"),
    Described("nv_inference_queue_duration_us", "untyped", _VERSION, f"Wait until sent to a worker, {_US}"),
    Described("nv_inference_compute_input_duration_us", "untyped", _VERSION, f"Way to the worker and back, {_US}"),
    Described("nv_inference_compute_infer_duration_us", "untyped", _VERSION, f"Inside ONNX Runtime, {_US}"),
    Described("nv_inference_compute_output_duration_us", "untyped", _VERSION, "Always 0"),
)

REASONS = {
    Code.RESOURCE_EXHAUSTED: "REJECTED",
    Code.DEADLINE_EXCEEDED: "REJECTED",
    Code.CANCELLED: "CANCELED",
    Code.INTERNAL: "BACKEND",
}
"""Triton's words for why a request failed; the others are OTHER."""


class Aliases(Collector):
    """Reads everything anew at each scrape, as `Metrics` does."""

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics

    def collect(self) -> Iterable[Metric]:
        """Every family of ALIASES, in that order."""
        families = {row.name: Metric(row.name, row.meaning, "unknown") for row in ALIASES}

        def add(name: str, labels: Sequence[str], value: float) -> None:
            (row,) = [row for row in ALIASES if row.name == f"nv_inference_{name}"]
            families[row.name].add_sample(row.name, dict(zip(row.labels, labels, strict=True)), value)

        statistics = self._statistics
        waiting = statistics.waiting
        versions: dict[tuple[str, int], list[SeriesTotals]] = {key: [] for key in waiting}
        for (model, version, _), totals in statistics.series.items():
            if version:
                versions.setdefault((model, version), []).append(totals)
        for (model, version), series in sorted(versions.items()):
            labels = (model, str(version))
            batches = statistics.batches.get((model, version, False), BatchTotals())
            for reason, count in sorted(_failures(series).items()):
                add("request_failure", (*labels, reason), count)
            for name, value in _numbers(series, batches).items():
                add(name, labels, value)
            add("pending_request_count", labels, waiting.get((model, version), 0))
        return families.values()


def _numbers(series: Sequence[SeriesTotals], batches: BatchTotals) -> dict[str, int]:
    """What one version has done, under every arm."""
    return {
        "request_success": sum(totals.codes.get(Code.OK, 0) for totals in series),
        "count": batches.rows,
        "exec_count": batches.batches,
        "request_duration_us": sum(totals.latency_sum_us - totals.failed_sum_us for totals in series),
        "queue_duration_us": sum(totals.queue_sum_us for totals in series),
        "compute_input_duration_us": batches.shared_carried_us,
        "compute_infer_duration_us": batches.shared_compute_us,
        "compute_output_duration_us": 0,
    }


def _failures(series: Sequence[SeriesTotals]) -> Counter[str]:
    """By reason; all of them from the start, as `increase()` does not see a series that begins with 1."""
    found = Counter(dict.fromkeys(("REJECTED", "CANCELED", "BACKEND", "OTHER"), 0))
    for totals in series:
        for code, count in totals.codes.items():
            if code != Code.OK:
                found[REASONS.get(Code(code), "OTHER")] += count
    return found
