import msgspec

from gateway.routing.outcome import BatchReport, Report, SeriesReport, ShadowReport


def test_a_report_survives_the_wire() -> None:
    report = Report(
        series=(SeriesReport("m", 1, "stable", codes={0: 3, 14: 1}, latency={17: 4}, latency_sum_us=99),),
        batches=(BatchReport("m", 2, shadow=True, batches=1, rows=8, sizes={4: 1}),),
        shadows=(ShadowReport("m", 2, copies=3, compared=8, agreed=7, max_abs_difference=0.5),),
        retries=1,
        in_flight=2,
        queued={"m": 5},
        connections=3,
    )
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(report), type=Report) == report


def test_an_empty_report_is_all_zero() -> None:
    report = Report()
    assert (report.series, report.retries, report.in_flight, report.queued) == ((), 0, 0, {})
