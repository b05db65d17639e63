from typing import Any

import numpy as np
import pytest

from gateway.dataplane import exchange
from gateway.dataplane.exchange import MAX_HELD_BYTES, MAX_WAITING, Exchanges, StreamedCall
from gateway.errors import Code
from gateway.oip.status import DETAILS
from gateway.oip.stream import FINAL
from gateway.transport.call import NO_TRAILERS, Call, Trailers
from protos import inference_pb2 as pb
from tests.unit.gateway.dataplane.fake_stream import FakeStream
from tests.unit.gateway.dataplane.fakes import error, infer
from tests.unit.gateway.dataplane.test_pipeline import PipelineBench

STRICT = {"triton_grpc_error": "true"}


class StreamBench(PipelineBench):
    """Streams over a pipeline with one model, one version and one worker."""

    def __init__(self, **changes: Any) -> None:
        super().__init__(**changes)
        self.exchanges = Exchanges(self.pipeline.infer)

    def open(self, *args: Any, **fields: Any) -> FakeStream:
        stream = FakeStream(*args, **fields)
        self.exchanges.start(stream)
        return stream

    def work(self) -> None:
        """The worker answers until nothing is left."""
        self.bench.turn()
        while self.bench.worker.frames():
            self.bench.worker.answer()
            self.bench.turn()


def request(value: float, **fields: Any) -> bytes:
    return infer((value, 0), **fields)


def responses(stream: FakeStream) -> list[pb.ModelStreamInferResponse]:
    return [pb.ModelStreamInferResponse.FromString(message) for message in stream.sent]


def values(stream: FakeStream) -> list[float | str]:
    """The first number of each answer, or its error."""
    found: list[float | str] = []
    for response in responses(stream):
        raw = response.infer_response.raw_output_contents
        found.append(response.error_message or float(np.frombuffer(raw[0], "<f4")[0]))
    return found


def test_every_request_has_one_final_answer_that_says_who_answered() -> None:
    made = StreamBench()
    stream = made.open()
    stream.push(request(1, id="a"), request(2))
    made.work()
    stream.end()
    first, second = responses(stream)
    answer = first.infer_response
    assert (first.error_message, answer.id, answer.model_name, answer.model_version) == ("", "a", "m", "1")
    assert answer.parameters[FINAL].bool_param
    said = {key: answer.parameters[key].string_param for key in answer.parameters if key != FINAL}
    assert said == {"cutover-arm": "stable", "cutover-revision": "4", "cutover-reason": "stable"}
    assert second.infer_response.parameters == answer.parameters
    assert values(stream) == [1, 2]
    assert stream.code == Code.OK
    assert made.codes() == {"stable": {Code.OK: 2}}, "each message counts as a request"


def test_requests_of_one_stream_share_a_batch() -> None:
    made = StreamBench()
    made.open().push(request(1), request(2), request(3))
    made.bench.turn()
    (asked,) = made.bench.worker.frames()
    assert asked.rows == 3


def test_answers_leave_in_the_order_of_the_requests() -> None:
    calls: list[Call] = []
    stream = FakeStream()
    Exchanges(calls.append).start(stream)
    stream.push(b"0", b"1", b"2")
    for index in (2, 0, 1):
        calls[index].reply(pb.ModelInferResponse(id=str(index)).SerializeToString(), NO_TRAILERS)
        sent = [response.infer_response.id for response in responses(stream)]
        assert sent == ["0", "1", "2"][: len(sent)]
    assert len(stream.sent) == 3


def test_an_error_is_an_answer_and_the_stream_goes_on() -> None:
    made = StreamBench()
    stream = made.open()
    stream.push(request(1), infer((1, 2), model="x", id="b", model_version="7"), b"\xff", request(2))
    made.work()
    assert values(stream) == [1, "model 'x' is not served here", "the message is not a ModelInferRequest", 2]
    failed = responses(stream)[1].infer_response
    assert (failed.id, failed.model_name, failed.model_version) == ("b", "x", "7")
    assert failed.parameters["grpc-status"].string_param == "5"
    assert failed.parameters[FINAL].bool_param
    assert stream.code is None


def test_an_error_of_the_model_says_which_arm_it_was() -> None:
    made = StreamBench()
    stream = made.open()
    stream.push(request(1, id="a"))
    made.bench.turn()
    made.bench.worker.answer(lambda asked: error(asked.number, "no such row"))
    (response,) = responses(stream)
    said = {key: value.string_param for key, value in response.infer_response.parameters.items()}
    assert response.error_message == "no such row"
    assert (said["cutover-arm"], said["grpc-status"]) == ("stable", "13")
    assert DETAILS not in said


def test_a_full_queue_says_when_to_come_back() -> None:
    made = StreamBench(max_queue=1)
    stream = made.open()
    stream.push(request(1), request(2))
    assert stream.sent == [], "not before the first"
    made.work()
    first, second = responses(stream)
    assert not first.error_message
    assert second.error_message == "m version 1: 1 requests wait already in this proxy (max_queue)"
    assert second.infer_response.parameters["grpc-retry-pushback-ms"].string_param == "100"


def test_who_wishes_so_gets_the_first_error_as_status() -> None:
    made = StreamBench()
    stream = made.open(STRICT)
    stream.push(request(1), request(2, model_version="9"), request(3))
    made.work()
    assert values(stream) == [1]
    assert (stream.code, stream.text) == (Code.NOT_FOUND, "m has no live version 9; it has 1")
    assert isinstance(stream.trailers[DETAILS], bytes)


@pytest.mark.parametrize("value", ["false", "True", "1"])
def test_only_the_word_true_asks_for_that(value: str) -> None:
    made = StreamBench()
    stream = made.open({"triton_grpc_error": value})
    stream.push(b"\xff")
    assert (len(stream.sent), stream.code) == (1, None)


def test_what_triton_s_clients_always_send_is_accepted() -> None:
    made = StreamBench()
    stream = made.open()
    message = pb.ModelInferRequest.FromString(request(5))
    message.parameters["triton_enable_empty_final_response"].bool_param = True
    stream.push(message.SerializeToString())
    made.work()
    assert values(stream) == [5], "the one answer is the final one"


def test_the_end_waits_for_the_answers() -> None:
    made = StreamBench()
    stream = made.open()
    stream.push(request(1))
    stream.end()
    before = stream.code
    made.work()
    assert (before, values(stream), stream.code) == (None, [1], Code.OK)


def test_a_stream_without_requests_ends_well() -> None:
    stream = StreamBench().open()
    stream.end()
    assert (stream.sent, stream.code) == ([], Code.OK)


def test_a_stream_has_so_many_requests_in_flight_and_no_more() -> None:
    made = StreamBench(max_queue=10 * MAX_WAITING, limit=10 * MAX_WAITING)
    stream = made.open()
    stream.push(*[request(number) for number in range(3 * MAX_WAITING)])
    assert made.bench.load.in_flight == MAX_WAITING
    assert stream.paused
    while stream.waiting or made.bench.load.in_flight:
        assert made.bench.load.in_flight <= MAX_WAITING
        made.bench.turn()
        made.bench.worker.answer()
        stream.turn()
    assert values(stream) == list(range(3 * MAX_WAITING))


def test_a_stream_holds_so_many_bytes_and_no_more() -> None:
    calls: list[Call] = []
    stream = FakeStream()
    Exchanges(calls.append).start(stream)
    stream.push(*[b"x" * (MAX_HELD_BYTES // 4)] * 6)
    assert len(calls) == 4
    for call in list(calls[:2]):
        call.reply(b"", NO_TRAILERS)
    before = stream.paused
    calls[2].reply(b"y" * MAX_HELD_BYTES, NO_TRAILERS)
    assert (before, stream.paused) == (True, False), "half was still held; what was sent is the transport's"
    stream.turn()
    assert len(calls) == 6


def test_what_a_stream_holds_is_told_to_the_transport() -> None:
    calls: list[Call] = []
    stream = FakeStream()
    Exchanges(calls.append).start(stream)
    held = []
    stream.push(b"x" * 10, b"y" * 20)
    held.append(stream.held_bytes)
    calls[1].reply(b"z" * 1000, NO_TRAILERS)
    held.append(stream.held_bytes > 1000)
    stream.cancel()
    calls[0].reply(b"z" * 1000, NO_TRAILERS)
    held.append(stream.held_bytes)
    assert held == [30, True, 0]


def test_a_pipeline_that_breaks_leaves_nothing_behind() -> None:
    def broken(_: Call) -> None:
        raise RuntimeError("as ordered")

    stream = FakeStream({"triton_grpc_error": "true"})
    Exchanges(broken).start(stream)
    with pytest.raises(RuntimeError):
        stream.push(b"x")
    assert (stream.code, stream.text, stream.held_bytes) == (Code.INTERNAL, "internal error", 0)


def test_answers_that_wait_for_an_earlier_one_are_held() -> None:
    calls: list[Call] = []
    stream = FakeStream()
    Exchanges(calls.append).start(stream)
    stream.push(b"a", b"b")
    calls[1].reply(b"y" * MAX_HELD_BYTES, NO_TRAILERS)
    before = stream.paused
    calls[0].reply(b"", NO_TRAILERS)
    assert (before, stream.paused) == (True, False)


def test_who_does_not_read_is_not_read() -> None:
    made = StreamBench()
    stream = made.open(room=1)
    stream.push(*map(request, range(5)))
    made.work()
    assert values(stream) == [0, 1], "the second did not fit, and is the last until there is room"
    assert stream.paused
    stream.push(request(5))
    assert stream.waiting == 1
    stream.read()
    assert values(stream) == [0, 1, 2, 3]
    stream.read()
    assert values(stream) == [0, 1, 2, 3, 4]
    stream.turn()
    made.work()
    stream.end()
    stream.read()
    stream.turn()
    assert values(stream) == [0, 1, 2, 3, 4, 5]
    assert stream.code == Code.OK


def test_a_cancelled_stream_s_queued_jobs_are_not_run() -> None:
    made = StreamBench()
    stream = made.open()
    stream.push(request(1), request(2))
    stream.cancel()
    before = stream.released
    made.bench.turn()
    assert made.bench.worker.frames() == []
    assert (before, stream.released) == (False, True), "its jobs waited still, and counted"
    assert made.codes() == {"stable": {Code.CANCELLED: 2}}
    assert made.bench.load.in_flight == 0


def test_a_cancelled_stream_counts_until_its_last_job_has_ended() -> None:
    made = StreamBench(limit=10)
    stream = made.open()
    stream.push(request(1))
    made.bench.turn()
    stream.push(request(2))
    stream.cancel()
    assert made.bench.worker.frames(), "one is at the worker already"
    before = stream.released
    made.work()
    assert (before, stream.released, stream.sent) == (False, True, [])
    assert made.codes() == {"stable": {Code.CANCELLED: 2}}


def test_when_a_stream_is_cancelled_the_worker_hears_of_what_it_has_of_it() -> None:
    made = StreamBench()
    stream, other = made.open(), made.open()
    other.push(request(1))
    made.bench.turn()
    stream.push(request(2), request(3))
    made.bench.turn()
    waiting = made.bench.worker.frames()[1]
    stream.cancel()
    made.bench.worker.frames()
    assert made.bench.worker.cancelled == [waiting.number]
    assert not stream.released, "the worker has it still"
    made.work()
    assert (stream.released, values(other)) == (True, [1])


def test_work_on_a_stream_s_requests_may_end_when_it_is_cancelled() -> None:
    calls: list[Call] = []
    stream = FakeStream()
    Exchanges(calls.append).start(stream)
    stream.push(b"0", b"1", b"2")
    heard: list[str] = []
    calls[0].on_cancel = lambda: heard.append("stops at once")
    calls[1].on_cancel = lambda: calls[1].fail(Code.CANCELLED, "")
    calls[2].reply(b"", NO_TRAILERS)
    stream.cancel()
    assert (heard, stream.released, calls[0].closed) == (["stops at once"], True, True)


def test_who_leaves_between_requests_holds_no_place() -> None:
    made = StreamBench()
    stream = made.open()
    stream.push(request(1))
    made.work()
    stream.cancel()
    assert stream.released


def test_who_leaves_without_reading_the_answers_holds_no_place() -> None:
    made = StreamBench()
    stream = made.open(room=0)
    stream.push(request(1), request(2))
    made.work()
    stream.cancel()
    assert stream.released


def test_the_deadline_of_a_stream_is_that_of_its_requests() -> None:
    made = StreamBench()
    stream = made.open(deadline_s=1.0)  # of time.monotonic(): long ago
    stream.push(request(1, id="late"))
    assert values(stream) == ["the deadline passed before the request arrived"]
    assert made.codes() == {"stable": {Code.DEADLINE_EXCEEDED: 1}}


def test_after_an_error_that_ended_the_stream_its_jobs_are_not_run() -> None:
    made = StreamBench()
    stream = made.open(STRICT)
    stream.push(b"\xff", request(1), request(2))
    assert stream.code == Code.INVALID_ARGUMENT
    made.bench.turn()
    assert made.bench.worker.frames() == []


def test_a_drain_ends_a_stream_when_what_it_asked_is_answered() -> None:
    made = StreamBench()
    busy, idle = made.open(), made.open()
    busy.push(request(1))
    made.exchanges.drain()
    busy.push(request(2))
    assert busy.waiting == 1, "the client learns that it was not run"
    assert (idle.code, busy.code) == (Code.UNAVAILABLE, None)
    made.work()
    assert (values(busy), busy.code) == ([1], Code.UNAVAILABLE)
    assert made.open().code == Code.UNAVAILABLE


def test_a_drain_leaves_streams_alone_that_are_over() -> None:
    made = StreamBench()
    ended, half, left = made.open(), made.open(), made.open()
    ended.end()
    half.push(request(1))
    half.end()
    left.cancel()
    made.exchanges.drain()
    made.work()
    assert (ended.code, half.code, left.code) == (Code.OK, Code.OK, None)


def test_metadata_of_the_stream_and_parameters_of_the_message_choose_the_arm() -> None:
    made = StreamBench()
    stream = made.open({"cutover-arm": "canary-2"})
    stream.push(request(1))
    assert values(stream) == ["metadata cutover-arm: m has no arm 'canary-2'; it has stable"]


def test_a_call_is_answered_once() -> None:
    calls: list[Call] = []
    stream = FakeStream()
    Exchanges(calls.append).start(stream)
    stream.push(b"x")
    (call,) = calls
    assert isinstance(call, StreamedCall)
    before = call.closed
    call.reply(b"", NO_TRAILERS)
    assert (before, call.closed) == (False, True)
    call.fail(Code.INTERNAL, "too late")
    call.reply(b"", NO_TRAILERS)
    assert len(stream.sent) == 1
    assert call.peer is stream.peer


def test_the_parameters_of_an_arm_are_encoded_once_and_not_for_ever() -> None:
    exchange._known.clear()
    arm = Trailers(("cutover-arm", "stable"))
    assert exchange._parameters(arm) is exchange._parameters(arm)
    for _ in range(exchange.MAX_KNOWN):
        exchange._parameters(Trailers())
    assert arm not in exchange._known
