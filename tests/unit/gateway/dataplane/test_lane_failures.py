"""Deadlines, callers that leave, workers that die, requests that kill, models that raise."""

from time import monotonic

from gateway.dataplane.channel import SLOW_US
from gateway.errors import Code
from tests.unit.gateway.dataplane.fakes import FakeCall, Frame, LaneBench, echo, error, floats


def test_late_work_is_dropped_before_it_is_run() -> None:
    bench = LaneBench()
    late, well = bench.submit((1, 2), deadline_s=monotonic() - 1), bench.submit((3, 4))
    bench.turn()
    assert late.code == Code.DEADLINE_EXCEEDED
    (asked,) = bench.worker.frames()
    assert asked.sections[0].tensors == [floats(3, 4)]
    bench.worker.answer()
    assert well.array() == [[3, 4]]
    assert bench.load.in_flight == 0


def test_the_sweep_answers_what_is_late_in_the_queue() -> None:
    bench = LaneBench(workers=0)
    late, well = bench.submit((1, 2), deadline_s=100.0), bench.submit((3, 4), deadline_s=300.0)
    bench.lane.sweep(0.0)  # finds that no worker is up
    bench.lane.sweep(200.0)
    # `wait_s` is over, too, for both; the caller's own deadline is the better reason.
    assert late.code == Code.DEADLINE_EXCEEDED
    assert well.code == Code.UNAVAILABLE
    assert bench.lane.queued == 0
    assert bench.load.in_flight == 0


def test_the_sweep_gives_up_waiting_for_a_worker() -> None:
    bench = LaneBench(workers=0, wait_s=5.0)
    bench.lane.sweep(0.0)
    call = bench.submit((1, 2))
    bench.lane.sweep(4.0)
    assert call.answers == 0
    bench.lane.sweep(5.5)
    assert call.code == Code.UNAVAILABLE
    assert call.text == "m version 1 is not ready: no worker is up"


def test_the_wait_for_a_worker_begins_when_it_is_lost() -> None:
    bench = LaneBench(workers=0, wait_s=5.0)
    call = bench.submit((1, 2))
    bench.lane.sweep(100.0)  # the loss is noticed long after the arrival: until now it may have been run
    bench.lane.sweep(104.0)
    assert call.answers == 0
    bench.lane.sweep(105.5)
    assert call.code == Code.UNAVAILABLE


def test_with_a_worker_up_the_queue_may_wait_longer() -> None:
    bench = LaneBench(wait_s=5.0)
    for _ in range(3):
        bench.submit((1, 2))
        bench.turn()
    bench.lane.sweep(50.0)
    assert bench.lane.queued == 1


def test_the_sweep_answers_what_is_late_in_flight_and_counts_it_once() -> None:
    bench = LaneBench()
    late, well = bench.submit((1, 2), deadline_s=monotonic() + 50), bench.submit((3, 4))
    bench.turn()
    bench.lane.sweep(monotonic() + 60)
    assert late.code == Code.DEADLINE_EXCEEDED
    assert bench.load.in_flight == 2, "the worker is still busy with both"
    bench.worker.answer()
    assert well.array() == [[3, 4]]
    assert bench.load.in_flight == 0
    report = bench.series.take()
    assert report is not None
    assert report.codes == {Code.OK: 1, Code.DEADLINE_EXCEEDED: 1}


def test_who_left_while_queued_is_not_run() -> None:
    bench = LaneBench()
    gone, well = bench.submit((1, 2)), bench.submit((3, 4))
    gone.cancel()
    bench.turn()
    assert [frame.rows for frame in bench.worker.frames()] == [1]
    bench.worker.answer()
    assert gone.answers == 0
    assert well.array() == [[3, 4]]
    assert bench.load.in_flight == 0
    report = bench.series.take()
    assert report is not None
    assert report.codes == {Code.OK: 1, Code.CANCELLED: 1}


def test_who_leaves_while_a_slow_model_runs_is_not_run() -> None:
    bench = LaneBench()
    bench.submit((0, 0))
    bench.turn()
    bench.worker.answer(lambda asked: echo(asked, micros=SLOW_US))
    first = bench.submit((1, 1))
    bench.turn()
    second, third = bench.submit((2, 2)), bench.submit((3, 3))
    bench.turn()
    second.cancel()
    bench.worker.answer(lambda asked: echo(asked, micros=SLOW_US))
    bench.turn()
    (asked,) = bench.worker.frames()
    assert asked.sections[0].tensors == [floats(3, 3)], "with one more in flight, both would be at the worker already"
    bench.worker.answer()
    assert [first.array(), second.code, third.array()] == [[[1, 1]], None, [[3, 3]]]


def test_the_sweep_forgets_who_left_while_queued() -> None:
    bench = LaneBench(workers=0)
    bench.submit((1, 2)).cancel()
    bench.lane.sweep(0.0)
    assert bench.lane.queued == 0
    assert bench.load.in_flight == 0


def test_who_left_in_flight_does_not_shift_the_rows_of_others() -> None:
    bench = LaneBench()
    gone, well = bench.submit((1, 2)), bench.submit((3, 4))
    bench.turn()
    gone.cancel()
    bench.worker.answer()
    assert gone.answers == 0
    assert well.array() == [[3, 4]]
    assert bench.load.in_flight == 0


def test_what_a_dead_worker_had_is_sent_once_more_alone_and_in_order() -> None:
    bench = LaneBench()
    first = [bench.submit((1, 1)), bench.submit((2, 2))]
    bench.turn()
    second = bench.submit((3, 3))
    bench.turn()
    waiting = bench.submit((4, 4))
    bench.turn()
    bench.worker.die()
    assert bench.load.retries == 3
    bench.add_worker()
    bench.turn()
    order = []
    while bench.worker.frames():
        assert len(bench.worker.frames()) == 1, "a request that may be to blame has its worker for itself"
        order.append(bench.worker.answer().sections[0].tensors[0])
        bench.turn()
    assert order == [floats(value, value) for value in (1, 2, 3, 4)]
    assert [call.array() for call in (*first, second, waiting)] == [[[v, v]] for v in (1, 2, 3, 4)]
    assert bench.load.in_flight == 0


def test_a_retry_goes_to_another_worker_at_once() -> None:
    bench = LaneBench(workers=2)
    call = bench.submit((1, 2))
    bench.turn()
    bench.workers[0].die()
    bench.turn()
    bench.worker.answer()
    assert call.array() == [[1, 2]]


def test_a_second_death_is_unavailable() -> None:
    bench = LaneBench()
    call = bench.submit((1, 2))
    for _ in range(2):
        bench.turn()
        bench.worker.die()
        bench.add_worker()
    bench.turn()
    assert call.code == Code.UNAVAILABLE
    assert call.text == "m version 1: the worker died twice"
    assert bench.worker.frames() == []
    assert bench.load.in_flight == 0


def test_a_request_that_kills_its_worker_fails_alone() -> None:
    bench = LaneBench()
    innocent = [bench.submit((1, 1)), bench.submit((2, 2))]
    poison = bench.submit((666, 666))
    innocent += [bench.submit((3, 3))]
    bench.turn()
    innocent.append(bench.submit((4, 4)))
    bench.turn()
    _run_with_poison(bench, floats(666, 666))
    assert poison.code == Code.UNAVAILABLE
    assert [call.array() for call in innocent] == [[[v, v]] for v in (1, 2, 3, 4)]
    assert bench.load.in_flight == 0


def _run_with_poison(bench: LaneBench, poison: bytes) -> None:
    """A worker that dies of one row, and its successors."""
    while bench.worker.frames():
        if poison in b"".join(bench.worker.frames()[0].sections[0].tensors):
            bench.worker.die()
            bench.add_worker()
        else:
            bench.worker.answer()
        bench.turn()


def test_when_a_batch_raises_each_of_it_is_run_alone() -> None:
    bench = LaneBench()
    good, bad, late = bench.submit((1, 1)), bench.submit((0, 0)), bench.submit((2, 2))
    bench.turn()

    def model(asked: Frame) -> bytes:
        return error(asked.number) if floats(0, 0) in asked.sections[0].tensors[0] else echo(asked)

    while bench.worker.frames():
        bench.worker.answer(model)
        bench.turn()
    assert good.array() == [[1, 1]]
    assert late.array() == [[2, 2]]
    assert bad.code == Code.INTERNAL
    assert bad.text == "the model raised"
    assert bench.load.in_flight == 0
    assert bench.load.retries == 0, "nobody died"


def test_a_worker_may_refuse_an_input() -> None:
    bench = LaneBench()
    call = bench.submit((1, 1))
    bench.turn()
    bench.worker.answer(lambda asked: error(asked.number, "X: not like this", Code.INVALID_ARGUMENT))
    assert call.code == Code.INVALID_ARGUMENT
    assert call.text == "X: not like this"


def test_text_of_a_worker_that_is_not_utf_8_still_arrives() -> None:
    bench = LaneBench()
    call = bench.submit((1, 1))
    bench.turn()
    asked = bench.worker.frames()[0]
    whole = error(asked.number, "xx")
    bench.worker.channel.data_received(whole[:-2] + b"\xff\xfe")
    assert call.code == Code.INTERNAL
    assert call.text == "\ufffd\ufffd"


def test_a_retried_request_still_has_its_deadline() -> None:
    bench = LaneBench()
    call = bench.submit((1, 1), deadline_s=monotonic() + 50)
    bench.turn()
    bench.worker.die()
    bench.lane.sweep(monotonic() + 60)
    assert call.code == Code.DEADLINE_EXCEEDED
    assert bench.load.in_flight == 0


def test_calls_answered_by_the_sweep_are_not_run_again_after_a_death() -> None:
    bench = LaneBench()
    call = bench.submit((1, 1), deadline_s=monotonic() + 50)
    bench.turn()
    bench.lane.sweep(monotonic() + 60)
    bench.worker.die()
    bench.add_worker()
    bench.turn()
    assert call.answers == 1
    assert bench.worker.frames() == []
    assert bench.load.in_flight == 0


def test_outcomes_are_counted_by_code() -> None:
    bench = LaneBench()
    calls: list[FakeCall] = []
    for make in (echo, lambda asked: error(asked.number)):
        calls.append(bench.submit((1, 1)))
        bench.turn()
        bench.worker.answer(make)
    report = bench.series.take()
    assert report is not None
    assert report.codes == {Code.OK: 1, Code.INTERNAL: 1}
    assert sum(report.latency.values()) == 2
    assert sum(report.queue.values()) == 1
