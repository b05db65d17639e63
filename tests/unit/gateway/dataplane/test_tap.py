from time import monotonic, time

from gateway.dataplane.tap import BatchTap, Series, ShadowTap
from gateway.errors import Code
from gateway.observe.histogram import index


def test_nothing_happened_nothing_to_report() -> None:
    assert Series("m", 1, "stable").take() is None
    assert BatchTap("m", 1, shadow=False).take() is None
    assert ShadowTap("m", 1).take() is None


def test_a_series_reports_increments() -> None:
    series = Series("m", 1, "stable")
    series.ok += 2
    series.failed(Code.NOT_FOUND, 40)
    series.failed(Code.NOT_FOUND, 90)
    first = series.take()
    assert first is not None
    assert (first.model, first.version, first.arm) == ("m", 1, "stable")
    assert first.codes == {Code.OK: 2, Code.NOT_FOUND: 2}
    assert first.failed_sum_us == 130
    assert first.latency == {index(40): 1, index(90): 1}
    assert (first.latency_sum_us, first.latency_max_us) == (130, 90)
    assert series.take() is None
    series.failed(Code.INTERNAL, 1)
    second = series.take()
    assert second is not None
    assert (second.codes, second.latency_max_us) == ({Code.INTERNAL: 1}, 1)
    assert first.codes == {Code.OK: 2, Code.NOT_FOUND: 2}, "a report is not changed afterwards"


def test_batches_are_counted_by_the_bit_length_of_their_rows() -> None:
    tap = BatchTap("m", 2, shadow=True)
    for rows in (1, 2, 3, 4, 32):
        tap.add(rows, 10)
    report = tap.take()
    assert report is not None
    assert (report.batches, report.rows, report.compute_us, report.shadow) == (5, 42, 50, True)
    assert report.sizes == {1: 1, 2: 2, 3: 1, 6: 1}
    assert tap.take() is None


def test_copies_are_reported_even_when_all_were_dropped() -> None:
    tap = ShadowTap("m", 3)
    tap.copies = tap.dropped = 4
    report = tap.take()
    assert report is not None
    assert (report.version, report.copies, report.dropped, report.compared) == (3, 4, 4, 0)
    tap.compared, tap.agreed, tap.max_abs_difference = 8, 7, 0.25
    tap.answered(1, 100)
    tap.answered(2, 300)
    report = tap.take()
    assert report is not None
    assert (report.copies, report.compared, report.agreed, report.max_abs_difference) == (0, 8, 7, 0.25)
    assert report.latency == {index(100): 1, index(300): 2}
    assert (report.latency_sum_us, report.latency_max_us) == (700, 300)


def test_a_refusal_has_no_latency() -> None:
    series = Series("m", 1, "stable")
    series.refused(8)
    series.failed(13, 250)
    report = series.take()
    assert report is not None
    assert report.codes == {8: 1, 13: 1}
    assert report.latency == {index(250): 1}


def test_batches_of_requests_are_counted_by_their_size_and_for_each_request() -> None:
    tap = BatchTap("m", 1, shadow=False)
    before_ms = int(time() * 1000)
    now_s = monotonic()
    tap.answered(rows=6, requests=3, sent_s=now_s - 1.0, compute_us=10)
    tap.answered(rows=6, requests=2, sent_s=now_s - 1.0, compute_us=20)
    tap.answered(rows=1, requests=1, sent_s=now_s, compute_us=10**9)
    report = tap.take()
    assert report is not None
    assert (report.batches, report.rows, report.sizes) == (3, 13, {3: 2, 1: 1})
    assert {size: (of.batches, of.compute_us) for size, of in report.by_rows.items()} == {6: (2, 30), 1: (1, 10**9)}
    assert report.shared_compute_us == 70 + 10**9
    assert report.by_rows[1].carried_us == 0, "clocks of two processes may differ a little, time never runs backwards"
    assert report.by_rows[6].carried_us >= 2 * (10**6 - 20)
    assert report.shared_carried_us >= 5 * (10**6 - 20)
    assert before_ms - 1 <= report.last_ms <= int(time() * 1000) + 1
    assert tap.take() is None
