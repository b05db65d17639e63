"""grpcio, the reference implementation (C-core), synchronous and asyncio."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import grpc
import grpc.aio
import pytest

from tests.conformance.calls import (
    MIB,
    OPTIONS,
    PATIENCE_S,
    PREFIX,
    aio_unary,
    ask,
    counts_to,
    deadline_cancels,
    refused,
    trailers_of,
    unary,
)
from tests.conformance.conftest import Process
from tests.transports import differs


@pytest.fixture
def channel(server: Process) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}", options=OPTIONS) as made:
        yield made


@pytest.fixture
async def aio_channel(server: Process) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=OPTIONS) as made:
        yield made


@pytest.mark.parametrize("size", [0, 1, 100, 16_379, 16_380, 65_531, 65_536, MIB])
def test_messages_of_any_size(channel: grpc.Channel, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert ask(channel, "Echo", body) == body


def test_64_mib_both_ways(channel: grpc.Channel) -> None:
    body = bytes(64 * MIB)
    assert ask(channel, "Echo", body) == body


def test_many_calls_at_once(channel: grpc.Channel) -> None:
    futures = [unary(channel, "Echo").future(b"%d" % number * 50, timeout=PATIENCE_S) for number in range(500)]
    assert [future.result() for future in futures] == [b"%d" % number * 50 for number in range(500)]


def test_large_messages_at_once(channel: grpc.Channel) -> None:
    echo = unary(channel, "Echo")
    futures = [echo.future(bytes([number]) * (5 * MIB), timeout=PATIENCE_S) for number in range(24)]
    assert [future.result()[:1] for future in futures] == [bytes([number]) for number in range(24)]


def test_metadata_and_trailers(channel: grpc.Channel) -> None:
    trailers = trailers_of(
        channel, (("x-user-id", "u1"), ("x-user-id", "u2"), ("x-blob-bin", b"\x00\xff"), ("x-none", ""))
    )
    assert (trailers["x-user-id"], trailers["x-blob-bin"], trailers["x-none"]) == ("u1,u2", b"\x00\xff", "")
    assert 0 < float(trailers["time-left"]) <= PATIENCE_S + 1


def test_changing_metadata(channel: grpc.Channel) -> None:
    """Hundreds of distinct values turn the HPACK table over several times."""
    for number in range(500):
        value = f"{number}-" + "v" * (number * 37 % 200)
        assert trailers_of(channel, (("x-request-id", value), ("x-constant", "c")))["x-request-id"] == value


def test_no_deadline(channel: grpc.Channel) -> None:
    _, call = unary(channel, "Mirror").with_call(b"")
    assert dict(call.trailing_metadata())["time-left"] == "inf"


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_status(channel: grpc.Channel, code: grpc.StatusCode) -> None:
    text = "100 % Größe\n😊"
    assert refused(lambda: ask(channel, "Fail", text.encode(), (("code", str(code.value[0])),))) == (code, text)


def test_unknown_methods(channel: grpc.Channel) -> None:
    code, details = refused(lambda: ask(channel, "Nothing", bytes(MIB)))
    assert code is grpc.StatusCode.UNIMPLEMENTED
    assert "/test.Conformance/Nothing" in details
    assert ask(channel, "Echo", b"x") == b"x"


def test_deadlines_cancel(channel: grpc.Channel) -> None:
    assert deadline_cancels(channel)


def test_cancellation(channel: grpc.Channel) -> None:
    before = int(ask(channel, "Cancelled"))
    futures = [unary(channel, "Wait").future(b"") for _ in range(3)]
    assert counts_to(channel, "Waiting", 3)
    for future in futures:
        future.cancel()
    assert counts_to(channel, "Cancelled", before + 3)
    assert counts_to(channel, "Waiting", 0)


def test_a_closed_channel_cancels(server: Process, channel: grpc.Channel) -> None:
    before = int(ask(channel, "Cancelled"))
    other = grpc.insecure_channel(f"127.0.0.1:{server.port}", options=[("grpc.use_local_subchannel_pool", 1)])
    future = unary(other, "Wait").future(b"")
    assert counts_to(channel, "Waiting", 1)
    other.close()
    assert counts_to(channel, "Cancelled", before + 1)
    assert future.exception() is not None


@pytest.mark.parametrize("encoding", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_requests_are_served(channel: grpc.Channel, encoding: grpc.Compression) -> None:
    assert unary(channel, "Echo")(bytes(100_000), compression=encoding) == bytes(100_000)


def test_a_decompression_bomb_is_refused(channel: grpc.Channel, transport: str) -> None:
    size, text = differs(
        "decompressed-size",
        transport,
        h2=(5 * MIB, "message inflates to more than 4194304 bytes"),
        grpcio=(101 * MIB, "Decompressed message larger than max"),
    )
    code, details = refused(lambda: unary(channel, "Echo")(bytes(size), compression=grpc.Compression.Gzip))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert details == text
    assert ask(channel, "Echo", b"x") == b"x"


def test_messages_above_the_limit(channel: grpc.Channel, transport: str) -> None:
    code, details = refused(lambda: ask(channel, "Echo", bytes(101 * MIB)))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert details == differs(
        "texts",
        transport,
        h2="message of 105906176 bytes is larger than the limit of 104857600 bytes",
        grpcio="SERVER: Received message larger than max (105906176 vs. 104857600)",
    )
    assert ask(channel, "Echo", b"x") == b"x"


def test_metadata_above_the_limit(channel: grpc.Channel) -> None:
    code, _ = refused(lambda: ask(channel, "Echo", b"", (("x-large", "v" * 17_000),)))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert ask(channel, "Echo", b"x") == b"x"


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_stream_of_one_message_is_a_unary_call(channel: grpc.Channel, count: int) -> None:
    echo: grpc.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(PREFIX + "Echo")
    if count == 1:
        assert echo(iter([b"a"]), timeout=PATIENCE_S) == b"a"
    else:
        code, _ = refused(lambda: echo(iter([b"a"] * count), timeout=PATIENCE_S))
        assert code is grpc.StatusCode.UNIMPLEMENTED


def test_a_stream_as_fast_as_its_reader(channel: grpc.Channel) -> None:
    """Some 40 MB, of which the server holds back what the reader has not taken."""
    made: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(PREFIX + "Count")
    call = made(iter([]), timeout=PATIENCE_S, metadata=(("count", "400"), ("size", "100000")))
    assert [len(message) for message in call] == [100_000] * 400
    assert call.code() is grpc.StatusCode.OK


def test_a_reader_who_leaves_ends_the_stream(channel: grpc.Channel) -> None:
    before = int(ask(channel, "Cancelled"))
    made: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(PREFIX + "Count")
    call = made(iter([]), timeout=PATIENCE_S, metadata=(("count", "1000000"), ("size", "100000")))
    assert len(next(call)) == 100_000
    call.cancel()
    assert counts_to(channel, "Cancelled", before + 1)


async def test_asyncio_calls(aio_channel: grpc.aio.Channel) -> None:
    echo = aio_unary(aio_channel, "Echo")
    bodies = [b"%d" % number * 100 for number in range(200)]
    assert await asyncio.gather(*[echo(body, timeout=PATIENCE_S) for body in bodies]) == bodies


async def test_asyncio_64_mib_both_ways(aio_channel: grpc.aio.Channel) -> None:
    body = bytes(64 * MIB)
    assert await aio_unary(aio_channel, "Echo")(body, timeout=PATIENCE_S) == body


@pytest.mark.parametrize(
    ("method", "timeout_s", "code"),
    [("Nothing", PATIENCE_S, grpc.StatusCode.UNIMPLEMENTED), ("Wait", 0.2, grpc.StatusCode.DEADLINE_EXCEEDED)],
)
async def test_asyncio_errors(
    aio_channel: grpc.aio.Channel, method: str, timeout_s: float, code: grpc.StatusCode
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await aio_unary(aio_channel, method)(b"", timeout=timeout_s)
    assert caught.value.code() is code


async def test_asyncio_cancellation(aio_channel: grpc.aio.Channel) -> None:
    call = aio_unary(aio_channel, "Wait")(b"")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


def test_a_crash_is_internal(start_server: Callable[[], Process]) -> None:
    process = start_server()
    with grpc.insecure_channel(f"127.0.0.1:{process.port}") as channel:
        assert refused(lambda: ask(channel, "Crash"))[0] is grpc.StatusCode.INTERNAL
        assert ask(channel, "Echo", b"x") == b"x"
    assert "as ordered" in process.stop()


def test_draining_answers_what_is_in_flight(start_server: Callable[[], Process]) -> None:
    process = start_server()
    with grpc.insecure_channel(f"127.0.0.1:{process.port}") as channel:
        waiting = unary(channel, "Wait").future(b"kept")
        assert counts_to(channel, "Waiting", 1)
        process.popen.terminate()
        assert waiting.result(timeout=PATIENCE_S) == b"kept"
        assert process.popen.wait(PATIENCE_S) == 0
