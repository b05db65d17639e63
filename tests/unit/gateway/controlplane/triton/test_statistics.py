from typing import Any

import pytest

from gateway.controlplane.triton.statistics import StatisticsErrand, described
from gateway.errors import InvalidRequest, NotFound, NotReady, RequestError
from gateway.observe.statistics import SeriesTotals, Statistics
from gateway.routing.link import Errand
from gateway.routing.outcome import BatchReport, Report, SeriesReport, SizeReport
from gateway.routing.snapshot import Canary, Policy, Range, Release
from protos import inference_pb2 as pb

RELEASES = (
    Release("a", 1, Policy(1, canaries=(Canary(2, (Range(0, 100),)),), standby=3)),
    Release("b", 1, Policy(7), rollback=Policy(6)),
)


class Bench:
    """Two models; `late` is what a proxy reports only when it is asked to."""

    def __init__(self, *late: Report, error: RequestError | None = None) -> None:
        self.statistics = Statistics()
        self._late = late
        self._error = error

    async def _survey(self) -> None:
        if self._error:
            raise self._error
        for report in self._late:
            self.statistics.fold(0, report)

    async def ask(self, name: str = "", version: str = "") -> list[pb.ModelStatistics]:
        message = pb.ModelStatisticsRequest(name=name, version=version).SerializeToString()
        answer = StatisticsErrand(self.statistics, lambda: RELEASES, self._survey)(Errand(1, "", message))
        return list(pb.ModelStatisticsResponse.FromString(await answer).model_stats)


async def test_no_name_and_no_version_is_all_that_is_live() -> None:
    def keys(found: list[pb.ModelStatistics]) -> list[tuple[str, str]]:
        return [(one.name, one.version) for one in found]

    assert keys(await Bench().ask()) == [("a", "1"), ("a", "2"), ("a", "3"), ("b", "7")]
    assert keys(await Bench().ask("b")) == [("b", "7")]
    assert keys(await Bench().ask("a", "2")) == [("a", "2")]


@pytest.mark.parametrize(
    ("name", "version", "kind", "text"),
    [
        ("c", "", NotFound, "model 'c' is not served here"),
        ("b", "6", NotFound, "b has no live version 6; it has 7"),
        ("b", "latest", InvalidRequest, "'latest' is not an integer"),
        ("b", "\N{SUPERSCRIPT TWO}", InvalidRequest, "is not an integer"),
        ("", "7", InvalidRequest, "needs the name of its model"),
    ],
)
async def test_what_is_not_live_is_refused(name: str, version: str, kind: type[RequestError], text: str) -> None:
    with pytest.raises(kind, match=text):
        await Bench().ask(name, version)


async def test_proxies_are_asked_before_the_answer() -> None:
    late = Report(
        series=(
            SeriesReport("a", 1, "stable", {0: 3, 13: 1}, latency_sum_us=100, failed_sum_us=40, queue_sum_us=9),
            SeriesReport("a", 1, "standby", {0: 1, 8: 2}, latency_sum_us=10, queue_sum_us=1),
            SeriesReport("a", 2, "canary-2", {0: 50}),
        ),
        batches=(
            BatchReport(
                *("a", 1, False, 2, 4, {}, 20),
                by_rows={1: SizeReport(1, 5, 2), 3: SizeReport(1, 15, 3)},
                shared_compute_us=35,
                shared_carried_us=8,
                last_ms=1234,
            ),
            BatchReport("a", 1, True, 9, 9, {}, 900),
        ),
    )
    (found,) = await Bench(late, late).ask("a", "1")
    assert (found.last_inference, found.inference_count, found.execution_count) == (1234, 8, 4)
    stats = found.inference_stats
    assert (stats.success.count, stats.success.ns) == (8, 140_000)
    assert (stats.fail.count, stats.fail.ns) == (6, 80_000)
    assert (stats.queue.count, stats.queue.ns) == (8, 20_000)
    compute = (stats.compute_input, stats.compute_infer, stats.compute_output)
    assert [(one.count, one.ns) for one in compute] == [(8, 16_000), (8, 70_000), (8, 0)]
    sizes = [(one.batch_size, one.compute_infer.count, one.compute_infer.ns) for one in found.batch_stats]
    assert sizes == [(1, 2, 10_000), (3, 2, 30_000)]
    assert {one.compute_input.count for one in found.batch_stats} == {2}
    assert {one.compute_output.count for one in found.batch_stats} == {2}


async def test_a_proxy_that_does_not_report_is_an_error_and_not_a_wrong_number() -> None:
    with pytest.raises(NotReady):
        await Bench(error=NotReady("proxy 1 does not report in time")).ask()


class Walked(dict[tuple[str, int, str], SeriesTotals]):
    """Series that count how often somebody looks at all of them."""

    walks = 0

    def items(self) -> Any:
        self.walks += 1
        return super().items()


def test_the_series_are_looked_through_once_however_many_models_there_are() -> None:
    statistics = Statistics()
    keys = [(f"m{number}", 1) for number in range(20)]
    series = Walked({(*key, arm): SeriesTotals(codes={0: 1}) for key in keys for arm in ("stable", "canary-2")})
    statistics.series = series
    assert [one.inference_stats.success.count for one in described(statistics, [*keys, ("none", 1)])] == [2] * 20 + [0]
    assert series.walks == 1
