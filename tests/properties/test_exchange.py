"""Whatever callers, workers and the network do to a stream: answers are whole, in order, bounded, and it ends once."""

from typing import Any
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane import exchange
from gateway.dataplane.exchange import Exchanges
from gateway.errors import Code
from gateway.transport.call import NO_TRAILERS, Call
from protos import inference_pb2 as pb
from tests.unit.gateway.dataplane.fake_stream import FakeStream

MAX_WAITING = 4
MAX_HELD_BYTES = 400
MESSAGE_BYTES = 50

steps = st.one_of(
    st.tuples(st.just("push"), st.integers(1, 6)),
    st.tuples(st.sampled_from(["answer", "answer", "refuse"]), st.integers(0, 9)),
    st.tuples(st.sampled_from(["read", "turn", "turn", "end", "cancel", "drain"]), st.just(0)),
)


class Story:
    """One stream and everything that happens to it."""

    def __init__(self, *, strict: bool, room: int) -> None:
        self.calls: list[Call] = []
        self.open: list[int] = []
        self.failed: set[int] = set()
        self.exchanges = Exchanges(self._infer)
        self.stream = FakeStream({"triton_grpc_error": "true"} if strict else {}, room=room)
        self.strict = strict
        self.pushed = 0
        self.ended = self.cancelled = self.drained = False
        self.exchanges.start(self.stream)

    def _infer(self, call: Call) -> None:
        """Takes a request; every seventh is refused at once."""
        number = len(self.calls)
        self.calls.append(call)
        if number % 7 == 6:
            self.failed.add(number)
            call.fail(Code.RESOURCE_EXHAUSTED, str(number))
        else:
            self.open.append(number)

    def tell(self, what: str, number: int) -> None:
        match what:
            case "push" if not self.ended:
                messages = [self._message() for _ in range(number)]
                self.stream.push(*messages)
            case "answer" | "refuse" if self.open:
                self._answer(self.open.pop(number % len(self.open)), well=what == "answer")
            case "end":
                self.ended = True
                self.stream.end()
            case "cancel" if not self.stream.closed:
                self.cancelled = True
                self.stream.cancel()
            case "drain" if not self.drained:
                self.drained = True
                self.exchanges.drain()
            case "read":
                self.stream.read()
            case "turn":
                self.stream.turn()
        self.check_bounds()

    def _message(self) -> bytes:
        self.pushed += 1
        return pb.ModelInferRequest(id=f"{self.pushed - 1:0{MESSAGE_BYTES}}").SerializeToString()

    def _answer(self, number: int, *, well: bool) -> None:
        call = self.calls[number]
        if well:
            call.reply(pb.ModelInferResponse(id=f"{number:0{MESSAGE_BYTES}}").SerializeToString(), NO_TRAILERS)
        else:
            self.failed.add(number)
            call.fail(Code.INTERNAL, str(number))

    def check_bounds(self) -> None:
        assert len(self.open) <= MAX_WAITING
        if self.cancelled:
            assert self.stream.released == (not self.open), "it counts as long as somebody works on it"
        found = [pb.ModelStreamInferResponse.FromString(message) for message in self.stream.sent]
        assert [int(response.infer_response.id) for response in found] == list(range(len(found)))
        assert {number for number, response in enumerate(found) if response.error_message} <= self.failed
        if self.strict:
            assert not any(response.error_message for response in found)

    def finish(self) -> None:
        """Lets everything come to its end: the peer reads all, all is answered, nothing more is asked."""
        for _ in range(1000):
            if not (self.open or self.stream.waiting) or self.stream.closed:
                break
            self.tell("turn", 0)
            self.tell("answer", 0)
            self.tell("read", 0)
            if self.drained:
                break
        while self.open:
            self.tell("answer", 0)
        for _ in self.calls:
            self.tell("read", 0)
        self.tell("end", 0)

    def check_end(self) -> None:
        stream = self.stream
        assert stream.released
        assert stream.held_bytes == 0, "nothing is kept"
        assert all(call.closed for call in self.calls)
        if self.cancelled:
            assert stream.code is None
        elif self.strict and self.failed:
            first = min(self.failed)
            assert stream.text in (str(first), "the server is draining; what was not answered was not run")
        elif stream.code == Code.UNAVAILABLE:
            assert self.drained
            assert len(stream.sent) == len(self.calls), "what was read is answered"
        else:
            assert stream.code == Code.OK
            assert len(stream.sent) == self.pushed


@given(st.lists(steps, max_size=40), st.booleans(), st.integers(0, 3))
def test_any_story_of_a_stream_ends_well(story: list[tuple[Any, ...]], strict: bool, room: int) -> None:
    with (
        patch.object(exchange, "MAX_WAITING", MAX_WAITING),
        patch.object(exchange, "MAX_HELD_BYTES", MAX_HELD_BYTES),
    ):
        told = Story(strict=strict, room=room)
        for what, number in story:
            told.tell(what, number)
        told.finish()
        told.check_end()
