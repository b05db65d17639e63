"""The client side of the interop test cases, through grpc.aio: the methods, and the requests the cases name."""

import asyncio
import time
from collections.abc import Awaitable, Sequence

import grpc
import grpc.aio
import pytest

from tests.conformance.interop.interop_pb2 import (
    Empty,
    Payload,
    ResponseParameters,
    SimpleRequest,
    SimpleResponse,
    StreamingInputCallRequest,
    StreamingInputCallResponse,
    StreamingOutputCallRequest,
    StreamingOutputCallResponse,
)
from tests.conformance.interop.methods import COUNTS, SERVICE

PATIENCE_S = 60
REQUEST_BYTES = 271_828
RESPONSE_BYTES = 314_159
LARGE = SimpleRequest(response_size=RESPONSE_BYTES, payload=Payload(body=bytes(REQUEST_BYTES)))

Duplex = grpc.aio.StreamStreamCall[StreamingOutputCallRequest, StreamingOutputCallResponse]


class Client:
    """The methods on one channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self.empty: grpc.aio.UnaryUnaryMultiCallable[Empty, Empty] = channel.unary_unary(
            SERVICE + "EmptyCall", Empty.SerializeToString, Empty.FromString
        )
        self.unary: grpc.aio.UnaryUnaryMultiCallable[SimpleRequest, SimpleResponse] = channel.unary_unary(
            SERVICE + "UnaryCall", SimpleRequest.SerializeToString, SimpleResponse.FromString
        )
        self.streaming_input: grpc.aio.StreamUnaryMultiCallable[
            StreamingInputCallRequest, StreamingInputCallResponse
        ] = channel.stream_unary(
            SERVICE + "StreamingInputCall",
            StreamingInputCallRequest.SerializeToString,
            StreamingInputCallResponse.FromString,
        )
        self.streaming_output: grpc.aio.UnaryStreamMultiCallable[
            StreamingOutputCallRequest, StreamingOutputCallResponse
        ] = channel.unary_stream(
            SERVICE + "StreamingOutputCall",
            StreamingOutputCallRequest.SerializeToString,
            StreamingOutputCallResponse.FromString,
        )
        self.full_duplex = self.duplex("FullDuplexCall")
        self.half_duplex = self.duplex("HalfDuplexCall")

    def duplex(
        self, method: str
    ) -> grpc.aio.StreamStreamMultiCallable[StreamingOutputCallRequest, StreamingOutputCallResponse]:
        """A method with streams both ways."""
        made: grpc.aio.StreamStreamMultiCallable[StreamingOutputCallRequest, StreamingOutputCallResponse]
        made = self._channel.stream_stream(
            SERVICE + method, StreamingOutputCallRequest.SerializeToString, StreamingOutputCallResponse.FromString
        )
        return made

    def anything(self, path: str) -> grpc.aio.UnaryUnaryMultiCallable[Empty, Empty]:
        """A method that may not exist."""
        made: grpc.aio.UnaryUnaryMultiCallable[Empty, Empty]
        made = self._channel.unary_unary(path, Empty.SerializeToString, Empty.FromString)
        return made

    async def large_unary(self, compression: grpc.Compression | None = None) -> None:
        """One large_unary; what all the cases that need many calls repeat."""
        reply = await self.unary(LARGE, timeout=PATIENCE_S, compression=compression)
        assert reply.payload.body == bytes(RESPONSE_BYTES)

    async def count(self, name: str) -> int:
        """How many streams the server counts as Open or Cancelled."""
        asked: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(COUNTS + name)
        return int(await asked(b"", timeout=PATIENCE_S))

    async def counts_to(self, name: str, number: int) -> bool:
        """Waits until the server counts that many."""
        until_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < until_s:
            if await self.count(name) == number:
                return True
            await asyncio.sleep(0.01)
        return False


def asking(*sizes: int, body_bytes: int = 0, interval_us: int = 0) -> StreamingOutputCallRequest:
    """A request for responses of these sizes."""
    parameters = [ResponseParameters(size=size, interval_us=interval_us) for size in sizes]
    return StreamingOutputCallRequest(response_parameters=parameters, payload=Payload(body=bytes(body_bytes)))


def sizes(replies: Sequence[StreamingOutputCallResponse]) -> list[int]:
    """The sizes of their payloads, which must be zeros."""
    assert all(not reply.payload.body.strip(b"\0") for reply in replies)
    return [len(reply.payload.body) for reply in replies]


async def all_of(call: Duplex) -> list[StreamingOutputCallResponse]:
    """The responses from here to the end."""
    found = []
    while isinstance(reply := await call.read(), StreamingOutputCallResponse):
        found.append(reply)
    return found


async def reply_to(call: Duplex, request: StreamingOutputCallRequest) -> StreamingOutputCallResponse:
    """Sends one request and reads one response."""
    await call.write(request)
    reply = await call.read()
    assert isinstance(reply, StreamingOutputCallResponse), "the stream has ended"
    return reply


async def failure(answer: Awaitable[object]) -> tuple[grpc.StatusCode, str]:
    """Status code and message of a call that fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answer
    return caught.value.code(), caught.value.details() or ""
