"""The interop test cases of gRPC, with grpcio's client, in the words of grpc/grpc doc/interop-test-descriptions.md."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest

from tests.conformance.interop.client import (
    LARGE,
    PATIENCE_S,
    RESPONSE_BYTES,
    Client,
    all_of,
    asking,
    failure,
    reply_to,
    sizes,
)
from tests.conformance.interop.conftest import Interop
from tests.conformance.interop.interop_pb2 import (
    EchoStatus,
    Empty,
    Payload,
    SimpleRequest,
    StreamingInputCallRequest,
    StreamingOutputCallRequest,
)

RESPONSES = [31_415, 9, 2_653, 58_979]
REQUESTS = [27_182, 8, 1_828, 45_904]
ECHO = (("x-grpc-test-echo-initial", "test_initial_metadata_value"), ("x-grpc-test-echo-trailing-bin", b"\xab\xab\xab"))
SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"


def soak(iterations: int) -> list[object]:
    """A short soak, and a long one marked slow."""
    return [iterations // 20, pytest.param(iterations, marks=pytest.mark.slow)]


async def test_empty_unary(client: Client) -> None:
    assert await client.empty(Empty(), timeout=PATIENCE_S) == Empty()


async def test_large_unary(client: Client) -> None:
    await client.large_unary()


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_large_unary_on_a_compressed_channel(client: Client, compression: grpc.Compression) -> None:
    await client.large_unary(compression)


async def test_client_streaming(client: Client) -> None:
    requests = [StreamingInputCallRequest(payload=Payload(body=bytes(size))) for size in REQUESTS]
    reply = await client.streaming_input(iter(requests), timeout=PATIENCE_S)
    assert reply.aggregated_payload_size == 74_922


async def test_server_streaming(client: Client) -> None:
    call = client.streaming_output(asking(*RESPONSES), timeout=PATIENCE_S)
    assert sizes([reply async for reply in call]) == RESPONSES


async def test_ping_pong(client: Client) -> None:
    call = client.full_duplex(timeout=PATIENCE_S)
    requests = [asking(size, body_bytes=body) for size, body in zip(RESPONSES, REQUESTS, strict=True)]
    assert sizes([await reply_to(call, request) for request in requests]) == RESPONSES
    await call.done_writing()
    assert await all_of(call) == []
    assert await call.code() is grpc.StatusCode.OK


async def test_empty_stream(client: Client) -> None:
    call = client.full_duplex(timeout=PATIENCE_S)
    await call.done_writing()
    assert await all_of(call) == []
    assert await call.code() is grpc.StatusCode.OK


async def test_half_duplex(client: Client) -> None:
    call = client.half_duplex(iter([asking(size) for size in RESPONSES]), timeout=PATIENCE_S)
    assert sizes(await all_of(call)) == RESPONSES


async def test_observe_interval_us(client: Client) -> None:
    call = client.full_duplex(timeout=PATIENCE_S)
    await call.write(asking(1, 2, 3, interval_us=1_000))
    await call.write(asking(4, 5))
    await call.done_writing()
    assert sizes(await all_of(call)) == [1, 2, 3, 4, 5]


async def test_custom_metadata_unary(client: Client) -> None:
    call = client.unary(LARGE, metadata=ECHO, timeout=PATIENCE_S)
    assert len((await call).payload.body) == RESPONSE_BYTES
    assert ECHO[0] in list(await call.initial_metadata())
    assert ECHO[1] in list(await call.trailing_metadata())


async def test_custom_metadata_full_duplex(client: Client) -> None:
    call = client.full_duplex(metadata=ECHO, timeout=PATIENCE_S)
    reply = await reply_to(call, asking(RESPONSE_BYTES, body_bytes=len(LARGE.payload.body)))
    await call.done_writing()
    assert sizes([reply, *await all_of(call)]) == [RESPONSE_BYTES]
    assert ECHO[0] in list(await call.initial_metadata())
    assert ECHO[1] in list(await call.trailing_metadata())


@pytest.mark.parametrize("text", ["test status message", SPECIAL], ids=["status_code_and_message", "special"])
async def test_status_message_unary(client: Client, text: str) -> None:
    request = SimpleRequest(response_status=EchoStatus(code=2, message=text))
    assert await failure(client.unary(request, timeout=PATIENCE_S)) == (grpc.StatusCode.UNKNOWN, text)


async def test_status_message_full_duplex(client: Client) -> None:
    call = client.full_duplex(timeout=PATIENCE_S)
    await call.write(StreamingOutputCallRequest(response_status=EchoStatus(code=2, message="test status message")))
    await call.done_writing()
    assert await failure(all_of(call)) == (grpc.StatusCode.UNKNOWN, "test status message")


async def test_unimplemented_method(client: Client) -> None:
    call = client.anything("/grpc.testing.TestService/UnimplementedCall")(Empty(), timeout=PATIENCE_S)
    assert (await failure(call))[0] is grpc.StatusCode.UNIMPLEMENTED


async def test_unimplemented_service(client: Client) -> None:
    call = client.anything("/grpc.testing.UnimplementedService/UnimplementedCall")(Empty(), timeout=PATIENCE_S)
    assert (await failure(call))[0] is grpc.StatusCode.UNIMPLEMENTED


async def test_cancel_after_begin(client: Client) -> None:
    call = client.streaming_input(timeout=PATIENCE_S)
    assert call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await call.code() is grpc.StatusCode.CANCELLED
    assert await client.counts_to("Open", 0)


async def test_cancel_after_first_response(client: Client, server: Interop) -> None:
    before = await client.count("Cancelled")
    call = client.full_duplex(timeout=PATIENCE_S)
    assert sizes([await reply_to(call, asking(31_415, body_bytes=27_182))]) == [31_415]
    assert call.cancel()
    assert await call.code() is grpc.StatusCode.CANCELLED
    assert await client.counts_to("Open", 0)
    if server.is_ours:  # grpcio at times says that the caller sends no more, not that it has left
        assert await client.count("Cancelled") > before


async def test_timeout_on_sleeping_server(client: Client) -> None:
    async def requests() -> AsyncIterator[StreamingOutputCallRequest]:
        yield asking(body_bytes=27_182)
        await asyncio.Event().wait()

    call = client.full_duplex(requests(), timeout=0.001)
    code, _ = await failure(all_of(call))
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert await client.counts_to("Open", 0)


@pytest.mark.parametrize("iterations", soak(1000))
async def test_rpc_soak(client: Client, iterations: int) -> None:
    for _ in range(iterations):
        await client.large_unary()


@pytest.mark.parametrize("iterations", soak(400))
async def test_channel_soak(server: Interop, iterations: int) -> None:
    for _ in range(iterations):
        async with server.aio_channel() as channel:
            await Client(channel).large_unary()


@pytest.mark.parametrize("calls", soak(1000))
async def test_concurrent_large_unary(client: Client, calls: int) -> None:
    await asyncio.gather(*[client.large_unary() for _ in range(calls)])


@pytest.mark.slow
async def test_long_lived_channel(client: Client) -> None:
    for _ in range(3):
        await client.large_unary()
        await asyncio.sleep(2.0)
    await client.large_unary()
