"""One streaming call on one stream: the transport's half of `gateway.transport.call.Stream`."""

import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.errors import Code
from gateway.transport import compression
from gateway.transport.call import NO_TRAILERS, Metadata, OnCancel, Peer, Trailers
from gateway.transport.h2.calls import goes_on
from gateway.transport.h2.errors import Refusal
from gateway.transport.h2.grpc import headers_block, status_block, trailers_block
from gateway.transport.h2.inbox import Inbox
from gateway.transport.h2.limits import Limits
from gateway.transport.h2.outgoing import Outgoing
from gateway.transport.h2.sending import Backlog

if TYPE_CHECKING:
    from gateway.transport.h2.flows import Flows
    from gateway.transport.h2.sending import Sender

logger = logging.getLogger(__name__)


class H2Stream:
    """Lives from its HEADERS until the last byte of its trailers was rendered, or it was reset."""

    __slots__ = (
        "_encoding",
        "_ended",
        "_flows",
        "_limits",
        "_sender",
        "arrived_s",
        "closed",
        "deadline_s",
        "inbox",
        "may_idle",
        "metadata",
        "on_cancel",
        "on_end",
        "on_message",
        "on_writable",
        "outgoing",
        "stream_id",
    )

    def __init__(
        self, flows: "Flows", sender: "Sender", inbox: Inbox, limits: Limits, arrived_s: float, *, may_idle: bool
    ) -> None:
        self._flows = flows
        self._sender = sender
        self._limits = limits
        self.inbox = inbox
        self.stream_id = inbox.stream_id
        self.outgoing = Outgoing(self.stream_id)
        self.metadata: Metadata = inbox.metadata
        self.arrived_s = arrived_s
        timeout_s = inbox.metadata.timeout_s
        self.deadline_s = math.inf if timeout_s is None else arrived_s + timeout_s
        self.may_idle = may_idle
        self.closed = False
        self.on_message: Callable[[bytes], None] = _ignore
        self.on_end: Callable[[], None] = _nothing
        self.on_cancel: OnCancel | None = None
        self.on_writable: Callable[[], None] | None = None
        self._ended = False
        """`on_end` was called."""
        self._encoding = compression.choose(self.metadata.values.get("grpc-accept-encoding"))

    @property
    def peer(self) -> Peer:
        """Who calls."""
        return self._sender.peer

    def send_headers(self, headers: Trailers = NO_TRAILERS) -> None:
        """Sends the response headers now."""
        if not self.closed and not self.outgoing.started:
            self.outgoing.head = headers_block(headers, self._encoding)
            self._sender.begin(self.outgoing)

    def send(self, message: bytes, *, compress: bool = False) -> bool:
        """Sends one response message; False: much waits for the peer already."""
        if self.closed:
            return True
        outgoing = self.outgoing
        if not outgoing.started and self._encoding:
            outgoing.head = headers_block(NO_TRAILERS, self._encoding)
        compress = bool(self._encoding) and (compress or self._limits.compresses(len(message)))
        if compress:
            message = compression.compress(self._encoding, message)
        try:
            return self._sender.send(outgoing, message, compressed=compress)
        except Backlog as error:
            self.abort(Code.RESOURCE_EXHAUSTED, str(error))
            return True

    def pause(self) -> None:
        """No further messages until `resume`."""
        self.inbox.paused = True

    def resume(self) -> None:
        """Messages come again, in the next turn of the loop."""
        if self.inbox.paused:
            self.inbox.paused = False
            self._flows.stir(self)

    def hold(self, size_bytes: int) -> None:
        """The service keeps so many bytes more, or fewer."""
        self._sender.account.change(size_bytes)

    def finish(self, trailers: Trailers = NO_TRAILERS) -> None:
        """Ends the stream with grpc-status 0, after what was sent."""
        if self._close():
            self._sender.end(self.outgoing, trailers_block(trailers))

    def fail(self, code: Code, message: str, trailers: Trailers = NO_TRAILERS) -> None:
        """Ends the stream with an error, after what was sent."""
        if not self._close():
            return
        outgoing = self.outgoing
        if outgoing.started or outgoing.left_bytes:
            self._sender.end(outgoing, status_block(code, message, trailers))
        else:
            self._sender.abort(outgoing, code, message, trailers)

    def abort(self, code: Code, message: str, trailers: Trailers = NO_TRAILERS) -> None:
        """Ends the stream for the service and for the peer: what waits either way is dropped."""
        if self.closed:
            return
        self.cancel()
        self._sender.abort(self.outgoing, code, message, trailers)

    def cancel(self) -> None:
        """The caller left: nothing is sent any more, and the service hears of it, once.

        A service that does not listen, or says so, works on: the stream keeps its place until it is finished.
        """
        on_cancel = self.on_cancel
        self._release()
        self._sender.abandoned.add(self.stream_id)  # first: it may be ended by whoever hears of it
        if on_cancel is not None and not goes_on(on_cancel, self.metadata.path):
            self._sender.abandoned.discard(self.stream_id)

    def deliver(self, most: int) -> int:
        """Hands over what has arrived, as long as the service wants it; at most so many messages. How many those were.

        Raises Refusal for a message that is broken.
        """
        inbox, limits, taken = self.inbox, self._limits, 0
        try:
            while inbox.has_message and taken < most and not inbox.paused and not self.closed:
                taken += 1
                self.on_message(inbox.take(limits))
                inbox.look(limits)
            inbox.tidy()
            if inbox.ended and not self._ended and not inbox.has_message and not inbox.paused and not self.closed:
                inbox.check_end()
                self._ended = True
                self.on_end()
        except Refusal:
            raise
        except Exception as error:  # noqa: BLE001 - logged by crash, and the caller hears of it
            self.crash(error)
        return taken

    def relieve(self) -> None:
        """The peer has taken what made `send` return False."""
        if self.on_writable is not None and not self.closed:
            try:
                self.on_writable()
            except Exception as error:  # noqa: BLE001 - as in deliver
                self.crash(error)

    def crash(self, error: Exception) -> None:
        """The service raised: the caller gets INTERNAL, the log the rest."""
        logger.error("handler of %s failed", self.metadata.path, exc_info=error)
        self.fail(Code.INTERNAL, "internal error")

    def _close(self) -> bool:
        """Whether an end may still be sent; afterwards no callback comes any more."""
        if self.closed:
            self._sender.abandoned.discard(self.stream_id)
            return False
        self._release()
        return True

    def _release(self) -> None:
        self.closed = True
        self.on_message, self.on_end = _ignore, _nothing
        self.on_cancel = self.on_writable = None
        self.inbox.close()
        self._flows.let_go(self.inbox)


def _ignore(_: bytes) -> None:
    """A message nobody waits for."""


def _nothing() -> None:
    """An end nobody waits for."""
