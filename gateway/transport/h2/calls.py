"""One unary call on one stream: the transport's half of `gateway.transport.call.Call`."""

import logging
import struct
from typing import TYPE_CHECKING, Final

from gateway.errors import Code
from gateway.transport import compression
from gateway.transport.call import NO_TRAILERS, Metadata, OnCancel, Peer, ReplyOptions, Trailers
from gateway.transport.h2.frames import END_HEADERS, END_STREAM, HEADER, FrameType
from gateway.transport.h2.grpc import HEADERS_BLOCK, PREFIX_BYTES, failure_block, headers_block, trailers_block

if TYPE_CHECKING:
    from gateway.transport.h2.sending import Sender

logger = logging.getLogger(__name__)

_HEADERS_START: Final = HEADER.pack(len(HEADERS_BLOCK) << 8 | FrameType.HEADERS, END_HEADERS, 0)[:5]
_REPLY: Final = struct.Struct(f">5sL{len(HEADERS_BLOCK)}sLBLBL")
"""A reply up to its message: HEADERS frame, header of the DATA frame, message prefix."""
_HEADERS: Final = int(FrameType.HEADERS)
_LAST_HEADERS: Final = END_HEADERS | END_STREAM
_pack_reply = _REPLY.pack
_pack_header = HEADER.pack


class H2Call:
    """A call whose request has arrived whole; its stream is half-closed (remote) until the answer is sent."""

    __slots__ = (
        "arrived_s",
        "closed",
        "deadline_s",
        "message",
        "metadata",
        "on_cancel",
        "sender",
        "stream_id",
    )

    def __init__(
        self, sender: "Sender", stream_id: int, metadata: Metadata, message: bytes, arrived_s: float, deadline_s: float
    ) -> None:
        self.sender = sender
        self.stream_id = stream_id
        self.metadata = metadata
        self.message = message
        self.arrived_s = arrived_s
        self.deadline_s = deadline_s
        self.closed = False
        self.on_cancel: OnCancel | None = None

    @property
    def peer(self) -> Peer:
        """Who calls."""
        return self.sender.peer

    def reply(self, message: bytes, trailers: Trailers, options: ReplyOptions | None = None) -> None:
        """Sends the response message and grpc-status 0."""
        if self.closed:
            self.sender.abandoned.discard(self.stream_id)
            return
        self.closed = True
        self.on_cancel = None
        sender = self.sender
        size = len(message) + PREFIX_BYTES
        if size > sender.room_bytes or size > sender.window_bytes or options is not None:
            self._queue(message, trailers, options)
            return
        sender.window_bytes -= size
        stream_id = self.stream_id
        block = trailers.block or trailers_block(trailers)
        sender.out += (
            _pack_reply(_HEADERS_START, stream_id, HEADERS_BLOCK, size << 8, 0, stream_id, 0, size - PREFIX_BYTES),
            message,
            _pack_header(len(block) << 8 | _HEADERS, _LAST_HEADERS, stream_id),
            block,
        )
        del sender.calls[stream_id]
        if sender.credits:
            sender.credits.pop(stream_id, None)
        if not sender.awake:
            sender.awake = True
            sender.wake()

    def _queue(self, message: bytes, trailers: Trailers, options: ReplyOptions | None) -> None:
        """The slow way of a reply: it is large, or has to wait, or has headers or an encoding of its own."""
        encoding, head = "", HEADERS_BLOCK
        if self.sender.limits.compresses(len(message)) or (options is not None and options.compress):
            encoding = compression.choose(self.metadata.values.get("grpc-accept-encoding"))
        if encoding:
            message = compression.compress(encoding, message)
        if encoding or options is not None:
            head = headers_block(options.headers if options else NO_TRAILERS, encoding)
        self.sender.queue(self.stream_id, message, trailers, head, compressed=bool(encoding))

    def fail(self, code: Code, message: str, trailers: Trailers = NO_TRAILERS) -> None:
        """Sends a trailers-only error."""
        if self.closed:
            self.sender.abandoned.discard(self.stream_id)
            return
        self.closed = True
        self.on_cancel = None
        self.sender.end_stream(self.stream_id, failure_block(code, message, trailers))

    def crash(self, error: Exception) -> None:
        """The handler raised: the caller gets INTERNAL, the log the rest."""
        logger.error("handler of %s failed", self.metadata.path, exc_info=error)
        self.fail(Code.INTERNAL, "internal error")

    def cancel(self) -> None:
        """The caller left: nothing is sent any more, and whoever works on the call hears of it, once.

        Who does not listen, or says so, works on: the call keeps its place among the connection's streams until it is
        answered.
        """
        self.closed = True
        on_cancel, self.on_cancel = self.on_cancel, None
        self.sender.abandoned.add(self.stream_id)  # first: it may be answered by whoever hears of it
        if on_cancel is not None and not goes_on(on_cancel, self.metadata.path):
            self.sender.abandoned.discard(self.stream_id)


def goes_on(on_cancel: OnCancel, path: str) -> bool:
    """Tells that the caller has left; whether work goes on. One that raises has given up, and the log says so."""
    try:
        return bool(on_cancel())
    except Exception:
        logger.exception("on_cancel of %s failed", path)
        return False


class LargeCall(H2Call):
    """A call whose message counts as memory of its connection until nobody works on it any more."""

    __slots__ = ("_held_bytes",)

    def __init__(
        self, sender: "Sender", stream_id: int, metadata: Metadata, message: bytes, arrived_s: float, deadline_s: float
    ) -> None:
        super().__init__(sender, stream_id, metadata, message, arrived_s, deadline_s)
        self._held_bytes = len(message)
        sender.account.change(self._held_bytes)

    def reply(self, message: bytes, trailers: Trailers, options: ReplyOptions | None = None) -> None:
        """Sends the response message and grpc-status 0."""
        super().reply(message, trailers, options)
        self._let_go()

    def fail(self, code: Code, message: str, trailers: Trailers = NO_TRAILERS) -> None:
        """Sends a trailers-only error."""
        super().fail(code, message, trailers)
        self._let_go()

    def cancel(self) -> None:
        """The caller left."""
        super().cancel()
        if self.stream_id not in self.sender.abandoned:
            self._let_go()

    def _let_go(self) -> None:
        self.sender.account.change(-self._held_bytes)
        self._held_bytes = 0
