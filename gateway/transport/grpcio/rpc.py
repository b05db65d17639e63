"""What calls and streams share: one RPC of grpcio, its caller, and the bytes that wait for the caller."""

import asyncio
from typing import Final

import grpc
import grpc.aio

from gateway.errors import Code
from gateway.transport.call import NO_TRAILERS, UNKNOWN_PEER, Peer, Trailers
from gateway.transport.grpcio.metadata import Pairs, pairs, status_text
from gateway.transport.h2.limits import Counters, Limits

Context = grpc.aio.ServicerContext[bytes, bytes]

STATUSES: Final = {code.value[0]: code for code in grpc.StatusCode}
FAREWELL_S: Final = 10.0
"""How long grpcio may take to say that a caller, to whom nothing can be sent any more, has left."""


class Backlog(Exception):
    """More waits for this caller than is allowed."""


class Caller:
    """One client connection that has calls under way: to grpcio's server, its address is all there is of it."""

    __slots__ = ("backlog_bytes", "calls")

    def __init__(self) -> None:
        self.calls = 0
        self.backlog_bytes = 0
        """Messages it has not taken yet."""

    def owe(self, size_bytes: int, max_backlog_bytes: int) -> None:
        """A message waits. A single one of any size is taken. Raises Backlog when too much waits already."""
        if self.backlog_bytes and self.backlog_bytes + size_bytes > max_backlog_bytes:
            raise Backlog(f"{self.backlog_bytes} bytes of replies wait on this connection already; read faster")
        self.backlog_bytes += size_bytes


class Rpc:
    """One RPC of grpcio."""

    __slots__ = ("_context", "caller", "counters", "limits", "peer")

    def __init__(self, context: Context, caller: Caller, limits: Limits, counters: Counters) -> None:
        self.peer: Peer = UNKNOWN_PEER
        self.caller = caller
        self.limits = limits
        self.counters = counters
        self._context = context

    def owe(self, size_bytes: int) -> None:
        """A message waits to be written; see `Caller.owe`. Raises Backlog."""
        try:
            self.caller.owe(size_bytes, self.limits.max_backlog_bytes)
        except Backlog:
            self.counters.backlog += 1
            raise

    async def read(self) -> bytes | None:
        """The next request message; None when the caller sends no more, or has left."""
        message = await self._context.read()
        return message if isinstance(message, bytes) else None

    async def send_headers(self, headers: Pairs) -> None:
        """Sends the response headers now. Never returns when the caller has left."""
        try:
            await self._context.send_initial_metadata(headers)
        except grpc.aio.InternalError:
            await self._gone()

    async def write(self, message: bytes, *, compress: bool) -> None:
        """Sends a response message; returns when grpcio has room for more. Never returns when the caller has left."""
        if not compress and not self.limits.compresses(len(message)):
            self._context.disable_next_message_compression()
        try:
            await self._context.write(message)
        except grpc.aio.InternalError:
            await self._gone()

    def end(self, code: Code, message: str, trailers: Pairs) -> None:
        """What the RPC ends with, once its coroutine returns."""
        if code is not Code.OK:
            self._context.set_code(STATUSES[code])
            self._context.set_details(status_text(message))
        if trailers:
            self._context.set_trailing_metadata(trailers)

    def refuse(self, code: Code, message: str, trailers: Trailers = NO_TRAILERS) -> None:
        """`end` for an RPC that never becomes a call."""
        self.end(code, message, pairs(trailers))

    async def _gone(self) -> None:
        """Waits for the cancellation that follows."""
        await asyncio.sleep(FAREWELL_S)
