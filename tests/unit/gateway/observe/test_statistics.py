from hypothesis import given
from hypothesis import strategies as st

from gateway.observe.statistics import MAX_UNKNOWN_MODELS, ProxyNow, Statistics
from gateway.routing.outcome import BatchReport, Report, SeriesReport, ShadowReport, SizeReport


def series(model: str = "digits", version: int = 1, arm: str = "stable", **fields: object) -> SeriesReport:
    return SeriesReport(model, version, arm, **fields)  # type: ignore[arg-type] # fields are checked by the struct


def test_increments_of_all_proxies_add_up() -> None:
    statistics = Statistics()
    first = series(codes={0: 3}, latency={20: 3}, latency_sum_us=90, latency_max_us=40, queue={1: 3}, queue_max_us=2)
    second = series(codes={0: 1, 8: 2}, latency={20: 1, 21: 2}, latency_sum_us=10, latency_max_us=30, queue_sum_us=5)
    statistics.fold(0, Report(series=(first,), retries=1))
    statistics.fold(1, Report(series=(second,), retries=2))
    totals = statistics.series["digits", 1, "stable"]
    assert totals.codes == {0: 4, 8: 2}
    assert totals.latency == {20: 4, 21: 2}
    assert (totals.latency_sum_us, totals.latency_max_us) == (100, 40)
    assert (totals.queue, totals.queue_sum_us, totals.queue_max_us) == ({1: 3}, 5, 2)
    assert statistics.retries == 3


def test_shadows_and_batches_add_up() -> None:
    statistics = Statistics()
    shadow = ShadowReport("digits", 2, copies=4, compared=8, agreed=7, dropped=1, failed=1, max_abs_difference=0.5)
    other = ShadowReport("digits", 2, copies=1, incomparable=1, max_abs_difference=0.25, latency={9: 1})
    batch = BatchReport(
        *("digits", 1, False, 2, 5, {2: 2}, 30),
        by_rows={2: SizeReport(1, 10, 1), 3: SizeReport(1, 20, 2)},
        shared_compute_us=50,
        shared_carried_us=5,
        last_ms=7,
    )
    statistics.fold(0, Report(shadows=(shadow, other), batches=(batch, batch)))
    totals = statistics.shadows["digits", 2]
    assert (totals.copies, totals.compared, totals.agreed) == (5, 8, 7)
    assert (totals.dropped, totals.failed, totals.incomparable) == (1, 1, 1)
    assert (totals.max_abs_difference, totals.latency) == (0.5, {9: 1})
    pool = statistics.batches["digits", 1, False]
    assert (pool.batches, pool.rows, pool.sizes, pool.compute_us) == (4, 10, {2: 4}, 60)
    assert pool.by_rows == {2: SizeReport(2, 20, 2), 3: SizeReport(2, 40, 4)}
    assert (pool.shared_compute_us, pool.shared_carried_us, pool.last_ms) == (100, 10, 7)


def test_gauges_are_kept_per_proxy_and_leave_with_it() -> None:
    statistics = Statistics()
    statistics.fold(0, Report(in_flight=5, connections=2, queued={"a": 1}, waiting={"a": {1: 1}}))
    statistics.fold(
        1, Report(in_flight=1, connections=1, queued={"a": 2, "b": 3}, waiting={"a": {2: 2}}, held_bytes=70)
    )
    statistics.fold(0, Report(in_flight=4, connections=2, queued={"a": 7}, waiting={"a": {1: 4, 2: 3}}, held_bytes=30))
    assert (statistics.in_flight, statistics.connections, statistics.queued) == (5, 3, {"a": 9, "b": 3})
    assert statistics.held_bytes == 100
    assert statistics.waiting == {("a", 1): 4, ("a", 2): 5}
    statistics.proxy_gone(0)
    statistics.proxy_gone(9)
    assert (statistics.in_flight, statistics.connections, statistics.queued) == (1, 1, {"a": 2, "b": 3})


def test_each_proxy_is_counted_by_itself_and_its_successor_counts_on() -> None:
    statistics = Statistics()
    statistics.fold(1, Report(series=(series(codes={0: 2, 8: 1}), series("", 0, "none", codes={5: 1})), connections=3))
    statistics.fold(0, Report(in_flight=2))
    assert statistics.proxies == [ProxyNow(0, True, 0, 2, 0), ProxyNow(1, True, 3, 0, 4)]
    statistics.proxy_gone(1)
    assert statistics.proxies[1] == ProxyNow(1, False, 0, 0, 4)
    statistics.fold(1, Report(series=(series(codes={0: 1}),), connections=1))
    assert statistics.proxies[1] == ProxyNow(1, True, 1, 0, 5)


def test_what_a_proxy_counted_outlives_it() -> None:
    statistics = Statistics()
    statistics.fold(0, Report(series=(series(codes={0: 1}),)))
    statistics.proxy_gone(0)
    assert statistics.series["digits", 1, "stable"].codes == {0: 1}


def test_invented_model_names_cannot_grow_the_totals_without_end() -> None:
    statistics = Statistics()
    for number in range(MAX_UNKNOWN_MODELS * 3):
        statistics.fold(0, Report(series=(series(model=f"no-{number}", version=0, arm="", codes={5: 1}),)))
    assert len(statistics.series) == MAX_UNKNOWN_MODELS + 1
    assert statistics.series["", 0, ""].codes == {5: MAX_UNKNOWN_MODELS * 2}
    statistics.fold(0, Report(series=(series(model="late", codes={0: 1}),)))
    assert statistics.series["late", 1, "stable"].codes == {0: 1}


@given(st.lists(st.dictionaries(st.integers(0, 16), st.integers(1, 100))))
def test_no_answer_is_lost_or_counted_twice(reports: list[dict[int, int]]) -> None:
    statistics = Statistics()
    for proxy, codes in enumerate(reports):
        statistics.fold(proxy % 3, Report(series=(series(codes=codes),)))
    counted = sum(sum(totals.codes.values()) for totals in statistics.series.values())
    assert counted == sum(sum(codes.values()) for codes in reports)


def test_refusals_of_the_transport_are_added_up() -> None:
    statistics = Statistics()
    statistics.fold(0, Report(transport={"resets": 1}))
    statistics.fold(1, Report(transport={"resets": 2, "idle": 1}))
    statistics.proxy_gone(1)
    assert statistics.refusals == {"resets": 3, "idle": 1}


def test_certificates_of_all_proxies() -> None:
    statistics = Statistics()
    assert statistics.tls_not_after_s == 0
    for proxy, report in ((0, Report()), (1, Report(tls_not_after_s=300)), (2, Report(tls_not_after_s=200))):
        statistics.fold(proxy, report)
    assert statistics.tls_not_after_s == 200
    statistics.proxy_gone(2)
    assert statistics.tls_not_after_s == 300
    for _ in range(2):
        statistics.fold(0, Report(tls_reloads={"ok": 1, "failed": 2}))
    assert statistics.tls_reloads == {"ok": 2, "failed": 4}
