"""One streaming call: this transport's half of `gateway.transport.call.Stream`."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Final

from gateway.errors import Code
from gateway.transport.call import NO_TRAILERS, Metadata, OnCancel, Peer, Streaming, Trailers
from gateway.transport.grpcio.calls import Answer
from gateway.transport.grpcio.idle import Idle
from gateway.transport.grpcio.metadata import Pairs, pairs
from gateway.transport.grpcio.rpc import Backlog, Rpc
from gateway.transport.h2.outgoing import HIGH_WATER_BYTES, LOW_WATER_BYTES

logger = logging.getLogger(__name__)

FAREWELL_TURNS: Final = 8
"""Turns of the loop in which an end of messages may turn out to be a caller who left: grpcio reports both alike."""


def _ignore(*_: object) -> None:
    """What a stream calls until it is told otherwise."""


class GrpcioStream:
    """A streaming call. `serve_stream` runs it."""

    __slots__ = (
        "_begun",
        "_end",
        "_full",
        "_headers",
        "_idle",
        "_listening",
        "_outbox",
        "_rpc",
        "_waiting_bytes",
        "_wake",
        "arrived_s",
        "closed",
        "deadline_s",
        "metadata",
        "on_cancel",
        "on_end",
        "on_message",
        "on_writable",
    )

    def __init__(self, rpc: Rpc, metadata: Metadata, deadline_s: float) -> None:
        self._rpc = rpc
        self._outbox: deque[tuple[bytes, bool]] = deque()
        self._waiting_bytes = 0
        self._full = False
        self._begun = False
        """The response headers have left, or are about to."""
        self._headers: Pairs | None = None
        """What is to be sent before any message."""
        self._end: Answer | None = None
        self._idle: Idle | None = None
        self._wake = asyncio.Event()
        self._listening = asyncio.Event()
        self._listening.set()
        self.metadata = metadata
        self.arrived_s = monotonic()
        self.deadline_s = deadline_s
        self.closed = False
        self.on_message: Callable[[bytes], None] = _ignore
        self.on_end: Callable[[], None] = _ignore
        self.on_cancel: OnCancel | None = None
        self.on_writable: Callable[[], None] | None = None

    @property
    def peer(self) -> Peer:
        """Who calls."""
        return self._rpc.peer

    def send_headers(self, headers: Trailers = NO_TRAILERS) -> None:
        """Sends the response headers now; without it they go with the first message. Once, before any `send`."""
        if not self.closed and not self._begun:
            self._begun = True
            self._headers = pairs(headers)
            self._wake.set()

    def send(self, message: bytes, *, compress: bool = False) -> bool:
        """Sends one response message. False: much waits for the caller already; `on_writable` says when it has left."""
        if self.closed:
            return True
        try:
            self._rpc.owe(len(message))
        except Backlog as backlog:
            self.abort(Code.RESOURCE_EXHAUSTED, str(backlog))
            return True
        self._begun = True
        self._waiting_bytes += len(message)
        self._outbox.append((message, compress))
        self._wake.set()
        self._full = self._waiting_bytes > HIGH_WATER_BYTES
        return not self._full

    def pause(self) -> None:
        """No further `on_message` and `on_end` until `resume`: grpcio closes the peer's window when it is full."""
        self._listening.clear()

    def resume(self) -> None:
        """Messages come again, those that waited first."""
        self._listening.set()

    def hold(self, size_bytes: int) -> None:
        """Nothing: what all callers hold together is not counted here."""

    def finish(self, trailers: Trailers = NO_TRAILERS) -> None:
        """Ends the stream with grpc-status 0, after what was sent."""
        if not self.closed:
            self._close(Answer(trailers=pairs(trailers)))

    def fail(self, code: Code, message: str, trailers: Trailers = NO_TRAILERS) -> None:
        """Ends the stream with an error, after what was sent."""
        if not self.closed:
            self._close(Answer(code, message, trailers=pairs(trailers)))

    def cancel(self) -> None:
        """The caller left: nothing is sent any more, and whoever works on the stream hears of it, once."""
        self.closed = True
        on_cancel, self.on_cancel = self.on_cancel, None
        self._forget()
        if on_cancel is None:
            return
        try:
            on_cancel()
        except Exception:
            logger.exception("on_cancel of %s failed", self.metadata.path)

    def abort(self, code: Code, message: str) -> None:
        """Ends the stream and drops what waits; whoever works on it hears of it as if the caller had left."""
        if self.closed:
            return
        self._end = Answer(code, message)
        self.cancel()
        self._wake.set()

    def call(self, callback: Callable[[], None]) -> None:
        """Runs a callback of the service; when it raises, the stream is INTERNAL and the log has the rest."""
        try:
            callback()
        except Exception:
            logger.exception("handler of %s failed", self.metadata.path)
            self.fail(Code.INTERNAL, "internal error")

    async def listen(self) -> None:
        """Hands over request messages as they come, one at a time, until the end."""
        listening = not self.closed
        while listening:
            message = await self._rpc.read()
            if message is None:
                for _ in range(FAREWELL_TURNS):
                    await asyncio.sleep(0)
            await self._listening.wait()
            listening = not self.closed and self._hear(message)

    def _hear(self, message: bytes | None) -> bool:
        """Hands over a message, or their end; whether there is more to come."""
        self._touch()
        if message is None:
            self.call(self.on_end)
            return False
        self.call(partial(self.on_message, message))
        return not self.closed

    async def write(self) -> Answer:
        """Sends what waits, as the caller takes it; returns how the stream ends."""
        while True:
            self._wake.clear()
            if self._headers is not None:
                headers, self._headers = self._headers, None
                await self._rpc.send_headers(headers)
            while self._outbox:
                message, compress = self._outbox.popleft()
                await self._rpc.write(message, compress=compress)
                self._taken(len(message))
            if self._end is not None:
                return self._end
            await self._wake.wait()

    def watch(self, timeout_s: float) -> None:
        """Ends the stream when nothing goes either way for so long."""
        self._idle = Idle(timeout_s, partial(self._give_up, timeout_s))

    def _give_up(self, timeout_s: float) -> None:
        if not self.closed:
            self._rpc.counters.stream_idle += 1
        self.abort(Code.UNAVAILABLE, f"nothing was sent either way for {timeout_s:g} s")

    def _touch(self) -> None:
        if self._idle is not None:
            self._idle.touch()

    def _taken(self, size_bytes: int) -> None:
        self._touch()
        size_bytes = min(size_bytes, self._waiting_bytes)
        self._waiting_bytes -= size_bytes
        self._rpc.caller.backlog_bytes -= size_bytes
        if self._full and self._waiting_bytes <= LOW_WATER_BYTES:
            self._full = False
            if self.on_writable is not None and not self.closed:
                self.call(self.on_writable)

    def _close(self, answer: Answer) -> None:
        self.closed = True
        self.on_cancel = None
        self._end = answer
        self._listening.set()
        self._wake.set()

    def release(self) -> None:
        """The RPC is over."""
        if self._idle is not None:
            self._idle.stop()

    def _forget(self) -> None:
        self._outbox.clear()
        self._rpc.caller.backlog_bytes -= self._waiting_bytes
        self._waiting_bytes = 0
        self._listening.set()


async def serve_stream(rpc: Rpc, metadata: Metadata, streaming: Streaming, deadline_s: float) -> None:
    """Runs a stream from its headers to its end. Cancelled by grpcio when the caller leaves or the deadline passes."""
    stream = GrpcioStream(rpc, metadata, deadline_s)
    if rpc.limits.stream_idle_timeout_s and not streaming.may_idle:
        stream.watch(rpc.limits.stream_idle_timeout_s)
    stream.call(lambda: streaming.start(stream))
    listening = asyncio.get_running_loop().create_task(stream.listen())
    try:
        answer = await stream.write()
        rpc.end(answer.code, answer.text, answer.trailers)
    except BaseException:
        stream.cancel()
        raise
    finally:
        listening.cancel()
        stream.release()
