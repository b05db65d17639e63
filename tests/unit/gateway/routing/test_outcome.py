import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.outcome import (
    EXACT_ROWS,
    BatchReport,
    Report,
    SeriesReport,
    ShadowReport,
    SizeReport,
    size_class,
)


def test_a_report_survives_the_wire() -> None:
    report = Report(
        series=(SeriesReport("m", 1, "stable", codes={0: 3, 14: 1}, latency={17: 4}, latency_sum_us=99),),
        batches=(BatchReport("m", 2, shadow=True, batches=1, rows=8, sizes={4: 1}, by_rows={8: SizeReport(1, 2, 3)}),),
        shadows=(ShadowReport("m", 2, copies=3, compared=8, agreed=7, max_abs_difference=0.5),),
        retries=1,
        in_flight=2,
        queued={"m": 5},
        connections=3,
        waiting={"m": {1: 5}},
        answers=4,
    )
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(report), type=Report) == report


def test_an_empty_report_is_all_zero() -> None:
    report = Report()
    assert (report.series, report.retries, report.in_flight, report.queued) == ((), 0, 0, {})


@given(st.integers(0, EXACT_ROWS))
def test_sizes_of_joined_batches_are_exact(rows: int) -> None:
    assert size_class(rows) == rows


@given(st.integers(EXACT_ROWS + 1, 2**32))
def test_callers_cannot_invent_sizes_without_end(rows: int) -> None:
    found = size_class(rows)
    assert rows <= found < 2 * rows
    assert found.bit_count() == 1
