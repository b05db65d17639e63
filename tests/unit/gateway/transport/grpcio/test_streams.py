import asyncio
import math
from collections.abc import Callable

import grpc
import pytest

from gateway.errors import Code
from gateway.transport.call import Metadata, Stream, Streaming, Trailers
from gateway.transport.grpcio.rpc import Rpc
from gateway.transport.grpcio.streams import serve_stream
from gateway.transport.h2.limits import Limits
from gateway.transport.h2.outgoing import HIGH_WATER_BYTES
from tests.unit.gateway.transport.grpcio.fake import Context, rpc, until

METADATA = Metadata("/test/Stream", {}, None, None)


def _nothing(_: Stream) -> None:
    pass


async def begin(
    context: Context, start: Callable[[Stream], None] = _nothing, asked: Rpc | None = None
) -> tuple[Stream, "asyncio.Task[None]"]:
    """A stream that has started, and the task that serves it."""
    streams: list[Stream] = []

    def started(stream: Stream) -> None:
        streams.append(stream)
        start(stream)

    serving = serve_stream(asked or rpc(context), METADATA, Streaming(started), math.inf)
    task = asyncio.get_running_loop().create_task(serving)
    await until(lambda: streams)
    return streams[0], task


async def test_messages_both_ways() -> None:
    context = Context(b"a", b"b")

    def start(stream: Stream) -> None:
        def twice(message: bytes) -> None:
            stream.send(message * 2)

        stream.on_message = twice
        stream.on_end = lambda: stream.finish(Trailers(("n", "2")))

    stream, task = await begin(context, start)
    await task
    assert context.sent == ["plain", b"aa", "plain", b"bb"]
    assert (context.code, context.trailers, stream.closed) == (None, (("n", "2"),), True)


async def test_headers_go_first_and_compression_is_per_message() -> None:
    context = Context()
    stream, task = await begin(context)
    stream.send_headers(Trailers(("h", "1")))
    stream.send(b"a", compress=True)
    stream.send(b"b")
    stream.finish()
    await task
    assert context.sent == [(("h", "1"),), b"a", "plain", b"b"]


async def test_headers_without_metadata_are_sent_too() -> None:
    context = Context(ended=False)
    stream, task = await begin(context)
    stream.send_headers()
    await until(lambda: context.sent == [()])
    stream.finish()
    await task


async def test_an_error_comes_after_what_was_sent() -> None:
    context = Context(ended=False)
    stream, task = await begin(context)
    stream.send(b"a")
    stream.fail(Code.ABORTED, "enough", Trailers(("t", "1")))
    stream.fail(Code.INTERNAL, "again")
    stream.finish()
    assert stream.send(b"late")
    stream.send_headers()
    await task
    assert context.sent == ["plain", b"a"]
    assert (context.code, context.details, context.trailers) == (grpc.StatusCode.ABORTED, "enough", (("t", "1"),))


async def test_nothing_is_heard_while_paused() -> None:
    context, heard = Context(b"a", b"b"), list[bytes]()

    def start(stream: Stream) -> None:
        stream.on_message = heard.append
        stream.on_end = lambda: heard.append(b"end")
        stream.pause()

    stream, task = await begin(context, start)
    await until(lambda: context.inbox.qsize() == 2)
    for _ in range(100):
        await asyncio.sleep(0)
    assert heard == []
    stream.resume()
    await until(lambda: heard == [b"a", b"b", b"end"])
    stream.finish()
    await task


async def test_nothing_is_heard_once_finished() -> None:
    context, heard = Context(b"a", b"b"), list[bytes]()

    def start(stream: Stream) -> None:
        def on_message(message: bytes) -> None:
            heard.append(message)
            stream.finish()

        stream.on_message = on_message
        stream.on_end = lambda: heard.append(b"end")

    _, task = await begin(context, start)
    await task
    assert heard == [b"a"]


async def test_who_sends_more_than_is_taken_is_told_when_it_has_left() -> None:
    context, heard = Context(ended=False), list[str]()
    context.room.clear()
    stream, task = await begin(context)
    stream.on_writable = lambda: heard.append("writable")
    assert stream.send(bytes(HIGH_WATER_BYTES))
    assert not stream.send(b"x")
    for _ in range(100):
        await asyncio.sleep(0)
    assert heard == []
    context.room.set()
    await until(lambda: heard)
    assert stream.send(b"y")
    stream.finish()
    await task
    assert heard == ["writable"]


async def test_who_sends_on_regardless_is_stopped_at_the_bound() -> None:
    context, heard = Context(ended=False), list[str]()
    context.room.clear()
    asked = rpc(context, Limits(max_backlog_bytes=1000))
    stream, task = await begin(context, asked=asked)
    stream.on_cancel = lambda: heard.append("cancelled")
    stream.send(bytes(600))
    assert stream.send(bytes(600)), "nobody is to wait for on_writable"
    assert (stream.closed, heard, asked.caller.backlog_bytes) == (True, ["cancelled"], 0)
    assert asked.counters.take() == {"backlog": 1}
    context.room.set()
    await task
    assert context.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert asked.caller.backlog_bytes == 0


@pytest.mark.parametrize("where", ["start", "on_message", "on_end", "on_writable"])
async def test_what_raises_is_internal(where: str, caplog: pytest.LogCaptureFixture) -> None:
    context = Context(b"a")

    def fail(*_: object) -> None:
        raise RuntimeError("as ordered")

    def start(stream: Stream) -> None:
        if where == "start":
            fail()
        elif where == "on_writable":
            stream.send(bytes(HIGH_WATER_BYTES + 1))
        setattr(stream, where, fail)

    stream, task = await begin(context, start)
    await task
    assert (context.code, context.details) == (grpc.StatusCode.INTERNAL, "internal error")
    assert stream.closed
    assert "as ordered" in caplog.text


async def test_a_caller_that_left_is_told_of_once() -> None:
    context, heard = Context(ended=False), list[str]()
    asked = rpc(context)
    context.room.clear()
    stream, task = await begin(context, asked=asked)
    stream.on_cancel = lambda: heard.append("left")
    stream.on_end = lambda: heard.append("end")
    stream.send(b"never taken")
    await asyncio.sleep(0)
    task.cancel()
    context.end()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (heard, stream.closed, asked.caller.backlog_bytes) == (["left"], True, 0)
    stream.finish()
    assert stream.send(b"late")


@pytest.mark.parametrize("may_idle", [False, True])
async def test_a_stream_on_which_nothing_happens_ends_unless_it_may_idle(may_idle: bool) -> None:
    context, heard = Context(ended=False), list[str]()

    def start(stream: Stream) -> None:
        stream.on_cancel = lambda: heard.append("cancelled")

    asked = rpc(context, Limits(stream_idle_timeout_s=0.001))
    serving = serve_stream(asked, METADATA, Streaming(start, may_idle=may_idle), math.inf)
    task = asyncio.get_running_loop().create_task(serving)
    if may_idle:
        await asyncio.sleep(0.01)
        assert (heard, task.done()) == ([], False)
        task.cancel()
    else:
        await task
        assert (heard, context.code) == (["cancelled"], grpc.StatusCode.UNAVAILABLE)
        assert context.details == "nothing was sent either way for 0.001 s"
        assert asked.counters.take() == {"stream_idle": 1}


async def test_on_cancel_that_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise RuntimeError("as ordered")

    stream, task = await begin(Context(ended=False))
    stream.on_cancel = fail
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "on_cancel of /test/Stream failed" in caplog.text
