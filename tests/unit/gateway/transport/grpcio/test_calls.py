import asyncio
import math
from collections.abc import Callable

import grpc
import pytest

from gateway.errors import Code
from gateway.transport.call import NO_TRAILERS, Call, Handler, Metadata, ReplyOptions, Trailers
from gateway.transport.grpcio.calls import serve_call
from gateway.transport.grpcio.rpc import Rpc
from gateway.transport.h2.limits import Limits
from tests.unit.gateway.transport.grpcio.fake import Context, rpc, until

METADATA = Metadata("/test/Call", {}, None, None)


async def serve(context: Context, handler: Handler, asked: Rpc | None = None) -> None:
    await serve_call(asked or rpc(context), METADATA, handler, math.inf)


async def test_a_reply() -> None:
    context, seen = Context(b"question"), list[object]()

    def handler(call: Call) -> None:
        seen.append((call.message, call.metadata, call.deadline_s, call.closed))
        call.reply(b"answer", Trailers(("a", "b")))
        seen.append(call.closed)

    await serve(context, handler)
    assert seen == [(b"question", METADATA, math.inf, False), True]
    assert (context.sent, context.code, context.trailers) == (["plain", b"answer"], None, (("a", "b"),))


async def test_headers_and_compression() -> None:
    context = Context(b"")
    await serve(context, lambda call: call.reply(b"x", NO_TRAILERS, ReplyOptions(Trailers(("h", "1")), compress=True)))
    assert context.sent == [(("h", "1"),), b"x"]


async def test_a_failure_sends_no_message() -> None:
    context = Context(b"")
    await serve(context, lambda call: call.fail(Code.NOT_FOUND, "no", Trailers(("a", "b"))))
    assert (context.sent, context.code, context.details) == ([], grpc.StatusCode.NOT_FOUND, "no")
    assert context.trailers == (("a", "b"),)


async def test_only_the_first_answer_counts() -> None:
    context = Context(b"")

    def handler(call: Call) -> None:
        call.reply(b"first", NO_TRAILERS)
        call.reply(b"second", NO_TRAILERS)
        call.fail(Code.INTERNAL, "third")

    await serve(context, handler)
    assert (context.sent, context.code) == (["plain", b"first"], None)


@pytest.mark.parametrize(
    ("messages", "text"),
    [((), "unary call without a request message"), ((b"", b""), "unary call with more than one request message")],
)
async def test_a_unary_call_has_one_message(messages: tuple[bytes, ...], text: str) -> None:
    context, heard = Context(*messages), list[Call]()
    await serve(context, heard.append)
    assert (context.code, context.details, heard) == (grpc.StatusCode.UNIMPLEMENTED, text, [])


async def test_a_handler_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    context = Context(b"")

    def handler(_: Call) -> None:
        raise RuntimeError("as ordered")

    await serve(context, handler)
    assert (context.code, context.details) == (grpc.StatusCode.INTERNAL, "internal error")
    assert "handler of /test/Call failed" in caplog.text
    assert "as ordered" in caplog.text


async def cancelled(prepare: Callable[[Call], None]) -> Call:
    """A call whose caller left while it was worked on."""
    calls: list[Call] = []

    def handler(call: Call) -> None:
        calls.append(call)
        prepare(call)

    context = Context(b"")
    task = asyncio.get_running_loop().create_task(serve(context, handler))
    await until(lambda: calls)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (call,) = calls
    call.reply(b"late", NO_TRAILERS)
    call.fail(Code.INTERNAL, "late")
    assert (context.sent, context.code, call.closed) == ([], None, True)
    return call


async def test_a_caller_that_left_is_told_of_once() -> None:
    heard: list[str] = []

    def prepare(call: Call) -> None:
        call.on_cancel = lambda: heard.append("left")

    call = await cancelled(prepare)
    assert (heard, call.on_cancel) == (["left"], None)


async def test_nobody_needs_to_listen_for_it() -> None:
    await cancelled(lambda _: None)


async def test_an_answer_that_comes_with_the_cancellation_is_dropped() -> None:
    calls: list[Call] = []
    context = Context(b"")
    task = asyncio.get_running_loop().create_task(serve(context, calls.append))
    await until(lambda: calls)
    task.cancel()
    calls[0].reply(b"late", NO_TRAILERS)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert context.sent == []


async def test_on_cancel_that_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise RuntimeError("as ordered")

    def prepare(call: Call) -> None:
        call.on_cancel = fail

    await cancelled(prepare)
    assert "on_cancel of /test/Call failed" in caplog.text


async def test_replies_that_are_not_taken_are_bounded() -> None:
    context = Context(b"")
    context.room.clear()
    asked = rpc(context, Limits(max_backlog_bytes=1000))
    first = asyncio.get_running_loop().create_task(
        serve(context, lambda call: call.reply(bytes(2000), NO_TRAILERS), asked)
    )
    await until(lambda: asked.caller.backlog_bytes == 2000)
    other = Context(b"")
    second = rpc(other, Limits(max_backlog_bytes=1000))
    second.caller = asked.caller
    await serve(other, lambda call: call.reply(b"x", NO_TRAILERS), second)
    assert other.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "2000 bytes of replies wait on this connection already; read faster" in other.details
    context.room.set()
    await first
    assert asked.caller.backlog_bytes == 0


async def test_what_cannot_be_a_reply_is_internal_like_any_mistake_of_a_handler() -> None:
    context = Context(b"")
    await serve(context, lambda call: call.reply(b"", Trailers(("k", "ü"))))
    assert context.code is grpc.StatusCode.INTERNAL
