"""ModelStatistics: the totals of all proxies in Triton's words.

Each request that was answered counts once in `success`, `queue` and all three compute times, which perf_analyzer
insists on, and takes part in a batch for the whole of its time. `compute_infer` is the time inside ONNX Runtime as the
worker measured it; `compute_input` the rest between sending the batch and having its answer (the way there, the wait
behind the batch before it, the way back); `compute_output` is 0 ns, because the answer goes out in the turn of the loop
in which it comes in. So queue, compute_input and compute_infer add up to success, but for what counting takes.
"""

from collections.abc import Awaitable, Callable, Iterable

from gateway.controlplane.triton.requests import read
from gateway.errors import Code, InvalidRequest, NotFound
from gateway.observe.statistics import BatchTotals, SeriesTotals, Statistics
from gateway.routing.link import Errand
from gateway.routing.snapshot import Release
from protos import inference_pb2 as pb

Releases = Callable[[], Iterable[Release]]
NOTHING = BatchTotals()


class StatisticsErrand:
    """Answers ModelStatistics with what every proxy has counted by now."""

    def __init__(self, statistics: Statistics, releases: Releases, survey: Callable[[], Awaitable[None]]) -> None:
        """`survey()` returns when every proxy has reported."""
        self._statistics = statistics
        self._releases = releases
        self._survey = survey

    async def __call__(self, errand: Errand) -> bytes:
        """The encoded response. Raises InvalidRequest, NotFound, or NotReady when a proxy does not report."""
        request = read(pb.ModelStatisticsRequest, errand.message)
        wanted = select(self._releases(), request.name, request.version)
        await self._survey()
        return pb.ModelStatisticsResponse(model_stats=described(self._statistics, wanted)).SerializeToString()


def select(releases: Iterable[Release], name: str, version: str) -> list[tuple[str, int]]:
    """(model, version) of what is asked for; "": all. Raises InvalidRequest or NotFound."""
    live = {release.model: release.policy.live for release in releases}
    if name and name not in live:
        raise NotFound(f"model '{name}' is not served here")
    if version and not name:
        raise InvalidRequest("a version needs the name of its model")
    if not version:
        return [(model, number) for model in sorted(live) if name in ("", model) for number in live[model]]
    if not (version.isascii() and version.isdigit()):
        raise InvalidRequest(f"model version '{version}' is not an integer")
    if int(version) not in live[name]:
        raise NotFound(f"{name} has no live version {version}; it has {', '.join(map(str, live[name]))}")
    return [(name, int(version))]


def described(statistics: Statistics, wanted: Iterable[tuple[str, int]]) -> list[pb.ModelStatistics]:
    """What each (model, version) did under every arm, copies apart. Walks over the series once."""
    series: dict[tuple[str, int], list[SeriesTotals]] = {}
    for (model, version, _), totals in statistics.series.items():
        series.setdefault((model, version), []).append(totals)
    return [_version(key, series.get(key, []), statistics.batches.get((*key, False), NOTHING)) for key in wanted]


def _version(key: tuple[str, int], series: list[SeriesTotals], batches: BatchTotals) -> pb.ModelStatistics:
    model, version = key
    return pb.ModelStatistics(
        name=model,
        version=str(version),
        last_inference=batches.last_ms,
        inference_count=batches.rows,
        execution_count=batches.batches,
        inference_stats=_requests(series, batches),
        batch_stats=[_batches(rows, *counted) for rows, counted in sorted(_by_rows(batches))],
    )


def _requests(series: list[SeriesTotals], batches: BatchTotals) -> pb.InferStatistics:
    answered = sum(totals.codes.get(Code.OK, 0) for totals in series)
    failed_us = sum(totals.failed_sum_us for totals in series)
    return pb.InferStatistics(
        success=_duration(answered, sum(totals.latency_sum_us for totals in series) - failed_us),
        fail=_duration(sum(sum(totals.codes.values()) for totals in series) - answered, failed_us),
        queue=_duration(answered, sum(totals.queue_sum_us for totals in series)),
        compute_input=_duration(answered, batches.shared_carried_us),
        compute_infer=_duration(answered, batches.shared_compute_us),
        compute_output=_duration(answered, 0),
    )


def _by_rows(batches: BatchTotals) -> Iterable[tuple[int, tuple[int, int, int]]]:
    return ((rows, (of.batches, of.compute_us, of.carried_us)) for rows, of in batches.by_rows.items())


def _batches(rows: int, count: int, compute_us: int, carried_us: int) -> pb.InferBatchStatistics:
    return pb.InferBatchStatistics(
        batch_size=rows,
        compute_input=_duration(count, carried_us),
        compute_infer=_duration(count, compute_us),
        compute_output=_duration(count, 0),
    )


def _duration(count: int, total_us: int) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=count, ns=total_us * 1000)
