"""Deadlines, callers that leave, workers that die, requests that kill, models that raise."""

from time import monotonic

from gateway.dataplane.again import MAX_LOSSES
from gateway.dataplane.channel import SLOW_US
from gateway.errors import Code
from tests.unit.gateway.dataplane.fakes import FakeCall, Frame, LaneBench, echo, error, floats
from workers import wire


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


def test_when_a_batch_raises_its_halves_are_run_until_the_culprit_is_alone() -> None:
    bench = LaneBench()
    calls = [bench.submit((value, value)) for value in (1, 2, 3, 0, 5, 6, 7, 8)]
    bench.turn()
    behind = bench.submit((9, 9))
    bench.turn()

    def model(asked: Frame) -> bytes:
        return error(asked.number) if floats(0, 0) in asked.sections[0].tensors[0] else echo(asked)

    ran = []
    while bench.worker.frames():
        ran.append(bench.worker.answer(model).rows)
        bench.turn()
    assert ran == [8, 1, 4, 4, 2, 2, 1, 1], "the one behind was at the worker already"
    assert [call.array() for call in calls if call is not calls[3]] == [[[v, v]] for v in (1, 2, 3, 5, 6, 7, 8)]
    assert behind.array() == [[9, 9]]
    assert (calls[3].code, calls[3].text) == (Code.INTERNAL, "the model raised")
    assert bench.load.in_flight == 0
    assert bench.load.retries == 0, "nobody died"


def test_who_left_is_in_no_half() -> None:
    bench = LaneBench()
    calls = [bench.submit((value, value)) for value in range(4)]
    bench.turn()
    for call in calls[:2]:
        call.cancel()
    bench.worker.answer(lambda asked: error(asked.number))
    bench.turn()
    assert [frame.rows for frame in bench.worker.frames()] == [1, 1]
    assert not any(call.worked_on for call in calls[:2])


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


def test_a_frame_carries_the_latest_deadline_of_its_jobs() -> None:
    bench = LaneBench()
    now_s = monotonic()
    bench.submit((1, 1), deadline_s=now_s + 50)
    bench.submit((2, 2), deadline_s=now_s + 90)
    bench.turn()
    bench.submit((3, 3))
    bench.turn()
    both, endless = bench.worker.frames()
    assert both.deadline_ms == wire.deadline_ms(now_s + 90, now_s)
    assert endless.deadline_ms == 0


def test_when_nobody_waits_for_a_batch_its_worker_is_told() -> None:
    bench = LaneBench()
    bench.submit((1, 1))
    bench.turn()
    gone = [bench.submit((2, 2)), bench.submit((3, 3))]
    bench.turn()
    waiting = bench.worker.frames()[1]
    for call in gone:
        assert bench.worker.cancelled == []
        call.cancel()
        bench.worker.frames()
    assert bench.worker.cancelled == [waiting.number]
    assert all(call.worked_on for call in gone)
    bench.worker.answer()
    bench.worker.answer(lambda asked: error(asked.number, "not run", Code.CANCELLED))
    assert not any(call.worked_on for call in gone)
    assert bench.load.in_flight == 0
    report = bench.series.take()
    assert report is not None
    assert report.codes == {Code.OK: 1, Code.CANCELLED: 2}


def test_callers_answered_by_the_sweep_wait_no_longer() -> None:
    bench = LaneBench()
    late, gone = bench.submit((1, 1), deadline_s=monotonic() + 50), bench.submit((2, 2))
    bench.turn()
    (asked,) = bench.worker.frames()
    bench.lane.sweep(monotonic() + 60)
    gone.cancel()
    bench.worker.frames()
    assert (late.code, bench.worker.cancelled) == (Code.DEADLINE_EXCEEDED, [asked.number])


def test_what_a_worker_found_late_is_late() -> None:
    bench = LaneBench()
    calls = [bench.submit((1, 1), deadline_s=monotonic() + 0.001), bench.submit((2, 2), deadline_s=monotonic() + 0.001)]
    bench.turn()
    calls[1].cancel()
    while monotonic() <= calls[0].deadline_s:
        pass
    if bench.worker.frames():  # else it was late before it was sent
        bench.worker.answer(lambda asked: error(asked.number, "late", Code.DEADLINE_EXCEEDED))
    assert (calls[0].code, calls[1].worked_on) == (Code.DEADLINE_EXCEEDED, False)
    assert bench.load.in_flight == 0


def test_what_was_not_run_although_somebody_waits_is_run_again() -> None:
    bench = LaneBench()
    calls = [bench.submit((1, 1)), bench.submit((2, 2))]
    bench.turn()
    bench.worker.answer(lambda asked: error(asked.number, "not run", Code.CANCELLED))
    bench.turn()
    (asked,) = bench.worker.frames()
    assert (asked.rows, asked.flags) == (2, 0)
    bench.worker.answer()
    assert [call.array() for call in calls] == [[[1, 1]], [[2, 2]]]


def test_a_worker_that_never_runs_it_is_not_asked_for_ever() -> None:
    bench = LaneBench()
    call = bench.submit((1, 1))
    bench.turn()
    asked = 0
    while bench.worker.frames():
        bench.worker.answer(lambda asked: error(asked.number, "not run", Code.CANCELLED))
        bench.turn()
        asked += 1
    assert (asked, call.code) == (MAX_LOSSES, Code.UNAVAILABLE)
    assert call.text == f"m version 1: the worker did not run it {MAX_LOSSES} times"
    assert bench.load.in_flight == 0


def test_who_never_began_is_not_to_blame_for_a_death() -> None:
    bench = LaneBench()
    call = bench.submit((1, 1))
    for _ in range(MAX_LOSSES - 1):
        bench.turn()
        bench.worker.die(idle=True)  # of what another proxy has sent
        bench.add_worker()
    bench.turn()
    (asked,) = bench.worker.frames()
    assert asked.flags == wire.TELL
    bench.worker.answer()
    assert call.array() == [[1, 1]]


def test_chances_end_some_time() -> None:
    bench = LaneBench()
    call = bench.submit((1, 1))
    for _ in range(MAX_LOSSES):
        bench.turn()
        bench.worker.die(idle=True)
        bench.add_worker()
    bench.turn()
    assert call.text == f"m version 1: the worker died {MAX_LOSSES} times"
    assert bench.load.in_flight == 0


def test_a_caller_that_leaves_while_its_request_waits_to_be_run_again_is_forgotten() -> None:
    bench = LaneBench()
    calls = [bench.submit((value, value)) for value in range(2)]
    bench.turn()
    bench.worker.die()
    calls[0].cancel()
    bench.lane.sweep(0.0)
    assert (bench.lane.queued, calls[0].worked_on) == (1, False)
    calls[1].cancel()
    bench.add_worker()
    bench.turn()
    assert bench.worker.frames() == []
    assert bench.load.in_flight == 0
    assert bench.lane.idle
