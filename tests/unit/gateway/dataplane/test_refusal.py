from collections.abc import Iterator

import pytest
from google.rpc import status_pb2

from gateway.dataplane import refusal
from gateway.dataplane.refusal import refuse
from gateway.errors import Code, InvalidRequest, NotFound, QueueFull, RequestError
from gateway.oip.status import DETAILS, MAX_TEXT_BYTES
from gateway.transport.call import NO_TRAILERS, Trailers
from gateway.transport.h2.grpc import failure_block
from tests.unit.gateway.dataplane.fakes import FakeCall

ARM = Trailers(("cutover-arm", "stable"))


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    refusal._known.clear()
    yield
    refusal._known.clear()


def refused(error: RequestError, trailers: Trailers = NO_TRAILERS) -> FakeCall:
    call = FakeCall(b"")
    refuse(call, error, trailers)
    return call


def test_a_full_queue_says_when_to_come_back() -> None:
    call = refused(QueueFull("full", 250), ARM)
    assert (call.code, call.text) == (Code.RESOURCE_EXHAUSTED, "full")
    assert list(call.trailers) == ["cutover-arm", "grpc-retry-pushback-ms", DETAILS]
    assert call.trailers["grpc-retry-pushback-ms"] == "250"
    assert ARM.pairs == (("cutover-arm", "stable"),), "shared with all other replies of the arm"


def test_every_error_carries_its_status() -> None:
    call = refused(NotFound("no model x"))
    written = call.trailers[DETAILS]
    assert isinstance(written, bytes)
    status = status_pb2.Status.FromString(written)
    assert (status.code, status.message) == (Code.NOT_FOUND, "no model x")


@pytest.mark.parametrize("letter", ["x", "%", "\n", "ü", "語", "😊"])
def test_what_a_caller_named_cannot_swell_the_trailers(letter: str) -> None:
    call = refused(InvalidRequest(letter * 100_000), ARM)
    assert len(call.text.encode()) > MAX_TEXT_BYTES - 4
    trailers = Trailers(*call.trailers.items())
    assert len(failure_block(Code.INVALID_ARGUMENT, call.text, trailers)) < 6000, "clients take 8 KiB"


def test_the_same_refusal_is_encoded_once() -> None:
    first, again = FakeTrailers(), FakeTrailers()
    refuse(first, QueueFull("full", 100), ARM)
    refuse(again, QueueFull("full", 100), ARM)
    assert first.found is again.found


@pytest.mark.parametrize(
    ("error", "trailers"),
    [
        (QueueFull("full", 101), ARM),
        (QueueFull("full", 100), NO_TRAILERS),
        (QueueFull("full!", 100), ARM),
        (NotFound("full"), ARM),
    ],
)
def test_another_refusal_is_another(error: RequestError, trailers: Trailers) -> None:
    first, other = FakeTrailers(), FakeTrailers()
    refuse(first, QueueFull("full", 100), ARM)
    refuse(other, error, trailers)
    assert first.found is not other.found


def test_what_is_remembered_is_bounded() -> None:
    for number in range(refusal.MAX_KNOWN * 2):
        refused(NotFound(f"no model {number}"))
    assert 0 < len(refusal._known) <= refusal.MAX_KNOWN
    refusal._known.clear()
    refused(NotFound("x" * (refusal.MAX_KNOWN_CHARS + 1)))
    assert not refusal._known


class FakeTrailers(FakeCall):
    """A call that keeps the trailers object it was failed with."""

    def __init__(self) -> None:
        super().__init__(b"")
        self.found = NO_TRAILERS

    def fail(self, code: Code, message: str, trailers: Trailers = NO_TRAILERS) -> None:
        self.found = trailers
        super().fail(code, message, trailers)
