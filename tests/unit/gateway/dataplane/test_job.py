from math import inf

from gateway.dataplane.job import Batch, Job, latest_deadline_s, run_frame
from gateway.dataplane.plan import Plan
from gateway.dataplane.slots import Slots
from gateway.dataplane.tap import Series
from gateway.errors import Code, InferenceFailed, Late
from gateway.oip.request import Head, Input, Raw
from gateway.routing.snapshot import Pool, Tensor
from gateway.transport.call import Trailers
from tests.unit.gateway.dataplane.fakes import FakeCall, FakeWorker, parse, pool
from workers import wire

TRAILERS = Trailers(("cutover-arm", "stable"))
PAIR = pool(inputs=(Tensor("A", "UINT8", (-1,)), Tensor("B", "BYTES", (-1,))))


def job(where: Pool, rows: int, *tensors: Raw, series: Series | None = None) -> Job:
    inputs = tuple(Input(spec.name, spec.datatype, (rows, *spec.shape[1:])) for spec in where.inputs)
    plan = Plan(Head(inputs, (), True), where)
    call = FakeCall(b"", arrived_s=1.0)
    return Job(call, plan, plan.arrange(tensors), b"", series or Series("m", 1, "stable"), TRAILERS)


def test_a_lone_job_goes_out_as_it_came() -> None:
    (frame,) = parse(run_frame([job(PAIR, 2, b"ab", b"\x01\0\0\0x\0\0\0\0")], 2))
    assert (frame.kind, frame.rows) == (wire.RUN, 2)
    assert frame.sections[0].signature.rstrip() == b'[["A","UINT8",[]],["B","BYTES",[]]]'
    assert frame.sections[0].tensors == [b"ab", b"\x01\0\0\0x\0\0\0\0"]


def test_jobs_are_joined_input_by_input_views_included() -> None:
    jobs = [job(PAIR, 1, memoryview(b"a"), b"\x01\0\0\0x"), job(PAIR, 2, b"bc", memoryview(b"\0" * 8))]
    (frame,) = parse(run_frame(jobs, 3))
    assert frame.sections[0].tensors == [b"abc", b"\x01\0\0\0x" + b"\0" * 8]


def test_jobs_of_one_input_are_joined() -> None:
    where = pool(inputs=(Tensor("X", "UINT8", (-1,)),))
    (frame,) = parse(run_frame([job(where, 2, b"ab"), job(where, 1, b"c")], 3))
    assert (frame.rows, frame.sections[0].tensors) == (3, [b"abc"])


def test_a_model_without_inputs_has_a_frame() -> None:
    where = pool(inputs=(), batched=False)
    (frame,) = parse(run_frame([job(where, 1)], 1))
    assert (frame.sections[0].signature.rstrip(), frame.sections[0].tensors) == (b"[]", [])


def test_every_frame_has_another_number_and_the_batch_knows_it() -> None:
    frames = [run_frame([job(PAIR, 0, b"", b"")], 0) for _ in range(3)]
    assert len({parse(frame)[0].number for frame in frames}) == 3
    ignore = [lambda *_: None] * 3
    assert Batch(frames[0], 0, [], *ignore).number == parse(frames[0])[0].number


def test_a_failed_job_is_answered_and_counted_once() -> None:
    series = Series("m", 1, "stable")
    failed = job(PAIR, 0, b"", b"", series=series)
    failed.fail(InferenceFailed("no"), 1.5)
    failed.fail(Late("late"), 2.0)
    call = failed.call
    assert isinstance(call, FakeCall)
    assert (call.code, call.text, call.trailers["cutover-arm"]) == (Code.INTERNAL, "no", "stable")
    report = series.take()
    assert report is not None
    assert (report.codes, report.latency_sum_us) == ({Code.INTERNAL: 1}, 500_000)


def test_a_caller_that_left_counts_as_cancelled_whatever_went_wrong() -> None:
    series = Series("m", 1, "stable")
    failed = job(PAIR, 0, b"", b"", series=series)
    assert isinstance(failed.call, FakeCall)
    failed.call.cancel()
    failed.fail(InferenceFailed("no"), 1.5)
    failed.left(2.0)
    report = series.take()
    assert report is not None
    assert report.codes == {Code.CANCELLED: 1}


def test_a_frame_says_until_when_it_is_wanted_and_what_it_asks_for() -> None:
    (frame,) = parse(run_frame([job(PAIR, 0, b"", b"")], 0, 77, wire.TELL))
    assert (frame.deadline_ms, frame.flags) == (77, wire.TELL)


def test_a_batch_is_wanted_until_its_last_job_is_late() -> None:
    jobs = [job(PAIR, 0, b"", b"") for _ in range(3)]
    for each, deadline_s in zip(jobs, (3.0, 7.0, 5.0), strict=True):
        each.call.deadline_s = deadline_s
    assert latest_deadline_s(jobs) == 7.0
    jobs[0].call.deadline_s = inf
    assert latest_deadline_s(jobs) == inf


class Sent:
    """A batch of two at a worker."""

    def __init__(self) -> None:
        self.series = Series("m", 1, "stable")
        self.jobs = [job(PAIR, 0, b"", b"", series=self.series) for _ in range(2)]
        self.calls = [each.call for each in self.jobs]
        ignore = [lambda *_: None] * 3
        self.batch = Batch(run_frame(self.jobs, 0), 0, self.jobs, *ignore)
        self.worker = FakeWorker(lambda: None, lambda _: None)
        self.batch.listen()
        self.worker.channel.send(self.batch, 1.0)

    def leave(self, index: int) -> None:
        call = self.calls[index]
        assert isinstance(call, FakeCall)
        call.cancel()
        assert call.worked_on

    @property
    def cancelled(self) -> list[int]:
        self.worker.frames()
        return self.worker.cancelled


def test_when_the_last_caller_has_left_the_worker_is_told_once() -> None:
    sent = Sent()
    sent.leave(0)
    assert sent.cancelled == []
    sent.leave(1)
    assert sent.cancelled == [sent.batch.number]
    sent.batch.drop_late(9.0)
    assert sent.cancelled == [sent.batch.number]
    report = sent.series.take()
    assert report is not None
    assert report.codes == {Code.CANCELLED: 2}


def test_who_is_late_waits_no_longer() -> None:
    sent = Sent()
    sent.calls[0].deadline_s = 5.0
    sent.batch.drop_late(4.0)
    sent.batch.drop_late(6.0)
    sent.batch.drop_late(7.0)
    assert sent.cancelled == []
    sent.leave(1)
    assert sent.cancelled == [sent.batch.number]


def test_after_the_answer_nobody_is_told() -> None:
    sent = Sent()
    sent.worker.answer()
    for index in (0, 1):
        sent.leave(index)
    assert sent.cancelled == []


def test_a_frame_in_a_slot_says_the_same_as_one_that_travels() -> None:
    jobs = [job(PAIR, 1, memoryview(b"a"), b"\x01\0\0\0x"), job(PAIR, 2, b"bc", memoryview(b"\0" * 8))]
    (travelled,) = parse(run_frame(jobs, 3))
    ignore = [lambda *_: None] * 3
    for threshold_bytes in (0, 1000):
        slots = Slots(threshold_bytes)
        slots.accepted()
        slot = slots.take()
        frame = run_frame(jobs, 3, slot=slot)
        (found,) = parse(frame, slots)
        assert (found.sections, found.slot) == (travelled.sections, 1)
        batch = Batch(frame, 3, jobs, *ignore)
        batch.slot = slot
        assert bytes(batch.body) == run_frame(jobs, 3)[wire.HEADER.size :]
        batch.release()
        slots.close()
