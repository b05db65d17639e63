"""Calls to tests.conformance.service through grpcio."""

import time
from collections.abc import Callable
from typing import cast

import grpc
import grpc.aio
import pytest

PREFIX = "/test.Conformance/"
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
PATIENCE_S = 60
MIB = 1 << 20

Metadata = tuple[tuple[str, str | bytes], ...]


def unary(channel: grpc.Channel, method: str) -> "grpc.UnaryUnaryMultiCallable[bytes, bytes]":
    """A method that takes and gives bytes."""
    made: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(PREFIX + method)
    return made


def aio_unary(channel: grpc.aio.Channel, method: str) -> "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]":
    """The same for asyncio."""
    made: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(PREFIX + method)
    return made


def ask(channel: grpc.Channel, method: str, body: bytes = b"", metadata: Metadata | None = None) -> bytes:
    """One call."""
    return unary(channel, method)(body, timeout=PATIENCE_S, metadata=metadata)


def trailers_of(channel: grpc.Channel, metadata: Metadata) -> dict[str, str | bytes]:
    """The trailers of a Mirror call."""
    _, call = unary(channel, "Mirror").with_call(b"", metadata=metadata, timeout=PATIENCE_S)
    return dict(call.trailing_metadata())


def refused(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    """Status code and details of a call that fails."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error = cast("grpc.Call", caught.value)
    return error.code(), error.details() or ""


def counts_to(channel: grpc.Channel, method: str, number: int) -> bool:
    """Waits until a counter has a value."""
    until_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < until_s:
        if int(ask(channel, method)) == number:
            return True
    return False


def deadline_cancels(channel: grpc.Channel) -> bool:
    """Whether a call that waits beyond its deadline ends there, and the server hears of it."""
    before = int(ask(channel, "Cancelled"))
    until_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < until_s:
        # On a slow machine the deadline may pass before the request has left; then once more.
        code, _ = refused(lambda: unary(channel, "Wait")(b"", timeout=0.2))
        if code is not grpc.StatusCode.DEADLINE_EXCEEDED:
            return False
        if int(ask(channel, "Cancelled")) > before:
            return True
    return False
