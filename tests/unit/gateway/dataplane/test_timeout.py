from time import monotonic
from typing import Any

import pytest

from gateway.dataplane.timeout import TimedLane
from gateway.errors import Code, Late
from gateway.routing.snapshot import Queueing
from tests.unit.gateway.dataplane.fakes import FakeCall, LaneBench, infer, job_of

MINUTE_MS = 60_000
RELEASE = "; it is the release's: timeout_ms = 60000"


def submit(bench: LaneBench, timeout_ms: int = MINUTE_MS, **fields: Any) -> FakeCall:
    call = FakeCall(infer((1, 2)), arrived_s=monotonic(), **fields)
    TimedLane(bench.lane, timeout_ms).submit(job_of(bench.lane, call, bench.series))
    return call


def test_who_is_in_time_is_answered() -> None:
    bench = LaneBench()
    call = submit(bench)
    bench.turn()
    bench.worker.answer()
    assert call.array() == [[1, 2]]
    assert call.deadline_s == call.arrived_s + 60


def test_an_earlier_deadline_of_the_caller_stands() -> None:
    bench = LaneBench(workers=0)
    until_s = monotonic() + 5
    call = submit(bench, deadline_s=until_s)
    assert call.deadline_s == until_s
    bench.lane.sweep(until_s)
    assert (call.code, call.text) == (
        Code.DEADLINE_EXCEEDED,
        "the deadline passed before the request was run",
    ), "the caller's deadline is none of the release's business"


def test_time_is_up_in_the_queue() -> None:
    bench = LaneBench(workers=0, wait_s=1000)
    call = submit(bench, deadline_s=monotonic() + 1000)
    bench.lane.sweep(call.arrived_s + 59.9)
    assert not call.closed
    bench.lane.sweep(call.arrived_s + 60.1)
    assert (call.code, call.text) == (
        Code.DEADLINE_EXCEEDED,
        f"the deadline passed before the request was run{RELEASE}",
    )
    assert bench.load.in_flight == 0


def test_time_is_up_at_the_worker_which_is_told() -> None:
    bench = LaneBench()
    call = submit(bench)
    bench.turn()
    usual = bench.submit((1, 2), deadline_s=call.deadline_s)
    bench.turn()
    asked, latest = bench.worker.frames()
    assert asked.deadline_ms == latest.deadline_ms != 0
    bench.lane.sweep(call.arrived_s + 60.1)
    assert (call.code, call.text) == (Code.DEADLINE_EXCEEDED, f"the deadline passed while the request was run{RELEASE}")
    bench.worker.frames()
    assert usual.text == "the deadline passed while the request was run"
    assert bench.worker.cancelled == [asked.number, latest.number]
    bench.worker.answer()
    bench.worker.answer()
    assert bench.load.in_flight == 0


def test_an_earlier_limit_of_waiting_is_not_the_releases() -> None:
    bench = LaneBench(workers=0, wait_s=1000, queueing=Queueing(queue_timeout_s=10))
    call = submit(bench)
    bench.lane.sweep(call.arrived_s + 10.1)
    assert call.code == Code.DEADLINE_EXCEEDED
    assert "queue_timeout" in call.text
    assert "timeout_ms" not in call.text


def test_who_would_be_late_is_told_at_once_by_whom() -> None:
    bench = LaneBench(costs=((1, 100_000),), max_batch_size=1)
    calls = [submit(bench) for _ in range(4)]
    bench.turn()
    with pytest.raises(Late, match=r"would pass before a worker is free; it is the release's: timeout_ms = 150"):
        submit(bench, 150)
    assert [call.code for call in calls] == [None] * 4
    with pytest.raises(Late) as caught:
        submit(bench, 200, deadline_s=monotonic() + 0.1)
    assert "timeout_ms" not in str(caught.value)


def test_other_errors_stay_as_they_are() -> None:
    bench = LaneBench(workers=0, wait_s=1)
    call = submit(bench)
    bench.lane.sweep(call.arrived_s)
    bench.lane.sweep(call.arrived_s + 2)
    assert (call.code, call.text) == (Code.UNAVAILABLE, "m version 1 is not ready: no worker is up")
