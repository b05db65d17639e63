from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane.job import Batch
from gateway.dataplane.tracer import MAX_ID_BYTES, MAX_TRACES, Tracer
from tests.unit.gateway.dataplane.fakes import FakeCall, LaneBench, infer, job_of


def batch(*ids: str, arrived_s: float = 1.0, sent_s: float = 2.0) -> Batch:
    """Requests that ran together."""
    lane = LaneBench().lane
    jobs = [job_of(lane, FakeCall(infer((1, 2), id=one), arrived_s=arrived_s)) for one in ids]
    made = Batch(bytes(16), len(jobs), jobs, lambda *_: None, lambda *_: None, lambda _: None)
    made.sent_s = sent_s
    return made


@given(rate=st.integers(1, 9), sizes=st.lists(st.integers(1, 7), max_size=12))
def test_one_of_every_so_many_is_picked_however_they_are_joined(rate: int, sizes: list[int]) -> None:
    tracer, seen = Tracer(rate), 0
    for size in sizes:
        tracer.saw(1, batch(*(str(seen + number + 1) for number in range(size))), 10, 3.0)
        seen += size
    picked = [int(trace.request_id) for trace in tracer.take()]
    assert picked == list(range(rate, seen + 1, rate))
    assert tracer.take() == []


def test_a_trace_says_when_the_request_came_to_each_point() -> None:
    tracer = Tracer(1)
    tracer.saw(4, batch("größer"), 250_000, 3.0)
    (trace,) = tracer.take()
    assert (trace.model, trace.version, trace.request_id) == ("m", 4, "größer")
    points = (trace.arrived_ns, trace.sent_ns, trace.run_ns, trace.ended_ns)
    assert points == (1_000_000_000, 2_000_000_000, 2_750_000_000, 3_000_000_000)
    assert trace.answered_ns > trace.ended_ns


def test_callers_cannot_make_traces_large() -> None:
    tracer = Tracer(1)
    tracer.saw(1, batch("x" * 1_000_000), 1, 3.0)
    assert tracer.take()[0].request_id == "x" * MAX_ID_BYTES


def test_clocks_that_differ_make_no_time_run_backwards() -> None:
    tracer = Tracer(1)
    tracer.saw(1, batch("a"), 5_000_000, 3.0)
    assert tracer.take()[0].run_ns == 2_000_000_000


def test_another_rate_loses_nothing() -> None:
    tracer = Tracer(1)
    tracer.saw(1, batch("a"), 1, 3.0)
    tracer.restart(2)
    tracer.saw(1, batch("b"), 1, 3.0)
    tracer.saw(1, batch("c"), 1, 3.0)
    assert [trace.request_id for trace in tracer.take()] == ["a", "c"]


def test_more_than_a_report_may_hold_is_left_out() -> None:
    tracer, many = Tracer(1), batch(*map(str, range(MAX_TRACES + 5)))
    tracer.saw(1, many, 1, 3.0)
    assert len(tracer.take()) == MAX_TRACES
