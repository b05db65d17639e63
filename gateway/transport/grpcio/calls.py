"""One unary call: this transport's half of `gateway.transport.call.Call`."""

import asyncio
import logging
from dataclasses import dataclass
from time import monotonic
from typing import Final

from gateway.errors import Code
from gateway.transport.call import NO_TRAILERS, Handler, Metadata, OnCancel, Peer, ReplyOptions, Trailers
from gateway.transport.grpcio.metadata import Pairs, pairs
from gateway.transport.grpcio.rpc import Backlog, Rpc

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call is answered with."""

    code: Code = Code.OK
    text: str = ""
    message: bytes | None = None
    trailers: Pairs = ()
    headers: Pairs = ()
    compress: bool = False


class GrpcioCall:
    """A call whose request has arrived whole."""

    __slots__ = (
        "_rpc",
        "answered",
        "arrived_s",
        "closed",
        "deadline_s",
        "message",
        "metadata",
        "on_cancel",
        "owed_bytes",
    )

    def __init__(self, rpc: Rpc, metadata: Metadata, message: bytes, deadline_s: float) -> None:
        self._rpc = rpc
        self.answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.owed_bytes = 0
        """The reply, while it counts as what the caller has not taken."""
        self.metadata = metadata
        self.message = message
        self.arrived_s = monotonic()
        self.deadline_s = deadline_s
        self.closed = False
        self.on_cancel: OnCancel | None = None

    @property
    def peer(self) -> Peer:
        """Who calls."""
        return self._rpc.peer

    def reply(self, message: bytes, trailers: Trailers, options: ReplyOptions | None = None) -> None:
        """Sends the response message and grpc-status 0."""
        if self.closed:
            return
        headers = pairs(options.headers) if options else ()
        answer = Answer(Code.OK, "", message, pairs(trailers), headers, options is not None and options.compress)
        try:
            self._rpc.owe(len(message))
            self.owed_bytes = len(message)
        except Backlog as backlog:
            answer = Answer(Code.RESOURCE_EXHAUSTED, str(backlog))
        self._close(answer)

    def fail(self, code: Code, message: str, trailers: Trailers = NO_TRAILERS) -> None:
        """Sends a trailers-only error."""
        if not self.closed:
            self._close(Answer(code, message, None, pairs(trailers)))

    def crash(self, error: Exception) -> None:
        """The handler raised: the caller gets INTERNAL, the log the rest."""
        logger.error("handler of %s failed", self.metadata.path, exc_info=error)
        self.fail(Code.INTERNAL, "internal error")

    def cancel(self) -> None:
        """The caller left: nothing is sent any more, and whoever works on the call hears of it, once."""
        self.closed = True
        on_cancel, self.on_cancel = self.on_cancel, None
        if on_cancel is None:
            return
        try:
            on_cancel()
        except Exception:
            logger.exception("on_cancel of %s failed", self.metadata.path)

    def _close(self, answer: Answer) -> None:
        self.closed = True
        self.on_cancel = None
        if not self.answered.done():  # grpcio has cancelled it, and `cancel` is about to come
            self.answered.set_result(answer)


TOO_MANY: Final = "unary call with more than one request message"
NONE: Final = "unary call without a request message"


async def serve_call(rpc: Rpc, metadata: Metadata, handler: Handler, deadline_s: float) -> None:
    """Reads the request, has it handled, sends the answer. Cancelled by grpcio when the caller leaves."""
    message = await rpc.read()
    if message is None:
        rpc.refuse(Code.UNIMPLEMENTED, NONE)
        return
    if await rpc.read() is not None:
        rpc.refuse(Code.UNIMPLEMENTED, TOO_MANY)
        return
    call = GrpcioCall(rpc, metadata, message, deadline_s)
    try:
        handler(call)
    except Exception as error:  # noqa: BLE001 - logged by crash, and the caller hears of it
        call.crash(error)
    try:
        await _answer(rpc, call)
    finally:
        rpc.caller.backlog_bytes -= call.owed_bytes


async def _answer(rpc: Rpc, call: GrpcioCall) -> None:
    try:
        answer = await call.answered
    except BaseException:
        call.cancel()
        raise
    if answer.headers:
        await rpc.send_headers(answer.headers)
    if answer.message is not None:
        await rpc.write(answer.message, compress=answer.compress)
    rpc.end(answer.code, answer.text, answer.trailers)
