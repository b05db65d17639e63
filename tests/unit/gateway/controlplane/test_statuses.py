"""Errors become statuses in one place. With a real server in tests/integration/test_admin.py."""

from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from gateway.controlplane.statuses import _streaming, _unary
from gateway.errors import InvalidRequest, QueueFull, Refused, RequestError, StoreFailed
from gateway.oip import status as statuses


class Aborted(grpc.aio.AbortError):
    pass


class FakeContext:
    def __init__(self) -> None:
        self.said: tuple[Any, ...] = ()

    async def abort(self, *said: Any) -> None:
        self.said = said
        raise Aborted


def raising(error: Exception) -> Any:
    async def behavior(_request: object, _context: object) -> None:
        raise error

    return behavior


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidRequest("no"), grpc.StatusCode.INVALID_ARGUMENT),
        (Refused("no"), grpc.StatusCode.FAILED_PRECONDITION),
        (StoreFailed("no"), grpc.StatusCode.UNAVAILABLE),
        (RequestError("no"), grpc.StatusCode.UNKNOWN),
    ],
)
async def test_a_known_error_keeps_its_code_and_sentence(error: RequestError, status: grpc.StatusCode) -> None:
    context = FakeContext()
    with pytest.raises(Aborted):
        await _unary(raising(error), "/a/b")(None, context)
    assert context.said == (status, "no", ((statuses.DETAILS, statuses.details(error)),))


async def test_a_full_queue_says_when_to_come_back() -> None:
    context = FakeContext()
    with pytest.raises(Aborted):
        await _unary(raising(QueueFull("no", 250)), "/a/b")(None, context)
    code, text, trailers = context.said
    assert (code, text) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "no")
    assert trailers[1:] == (("grpc-retry-pushback-ms", "250"),)


async def test_a_surprise_is_logged_and_not_told() -> None:
    context = FakeContext()
    with capture_logs() as logs, pytest.raises(Aborted):
        await _unary(raising(KeyError("secret")), "/a/b")(None, context)
    assert context.said == (grpc.StatusCode.INTERNAL, "internal error, see the log")
    assert (logs[0]["event"], logs[0]["method"]) == ("admin call failed", "/a/b")
    assert isinstance(logs[0]["exc_info"], KeyError)


async def test_an_abort_passes_unchanged() -> None:
    context = FakeContext()
    with pytest.raises(Aborted):
        await _unary(raising(Aborted()), "/a/b")(None, context)
    assert context.said == ()


async def test_a_long_sentence_is_cut() -> None:
    context = FakeContext()
    with pytest.raises(Aborted):
        await _unary(raising(Refused("x" * 100_000)), "/a/b")(None, context)
    assert len(context.said[1]) == statuses.MAX_TEXT_BYTES


async def test_a_stream_that_fails_ends_with_its_status() -> None:
    async def behavior(_request: object, _context: object) -> Any:
        yield 1
        raise Refused("no")

    context = FakeContext()
    stream = _streaming(behavior, "/a/b")(None, context)
    assert await anext(stream) == 1
    with pytest.raises(Aborted):
        await anext(stream)
    assert context.said[0] is grpc.StatusCode.FAILED_PRECONDITION
