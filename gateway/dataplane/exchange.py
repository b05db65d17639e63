"""ModelStreamInfer: the pipeline sees each message of a stream as a call of its own, and answers leave in their order.

Bounded: a stream whose requests wait, or whose caller does not read, is not read either.
"""

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final
from weakref import WeakSet

from gateway.dataplane.refusal import refuse
from gateway.errors import Code, NotReady
from gateway.oip import stream as wire
from gateway.transport.call import NO_TRAILERS, Call, Metadata, OnCancel, Peer, ReplyOptions, Stream, Trailers

STRICT: Final = "triton_grpc_error"
"""Stream metadata; "true": the first error ends the stream with its gRPC status."""
MAX_WAITING: Final = 256
"""Requests of one stream whose answer has not been sent."""
MAX_HELD_BYTES: Final = 8 << 20
"""Of these requests, or of their answers; a single larger one is let through."""
MAX_KNOWN: Final = 256

_known: dict[Trailers, bytes] = {}
"""The trailers of an arm as parameters: the same for all its answers."""


class Exchanges:
    """The open streams of one proxy. `infer` is the pipeline's way in."""

    def __init__(self, infer: Callable[[Call], None]) -> None:
        self.infer = infer
        self.draining = False
        self._open: WeakSet[Exchange] = WeakSet()

    def start(self, stream: Stream) -> None:
        """Takes a stream over."""
        exchange = Exchange(self.infer, stream)
        self._open.add(exchange)
        if self.draining:
            exchange.drain()

    def drain(self) -> None:
        """Ends every stream as soon as what it has asked is answered."""
        self.draining = True
        for exchange in list(self._open):
            exchange.drain()


class Exchange:
    """One stream."""

    __slots__ = (
        "__weakref__", "_blocked", "_draining", "_ended", "_held_bytes", "_infer", "_over", "_paused", "_strict",
        "_unanswered", "_waiting", "stream",
    )  # fmt: skip

    def __init__(self, infer: Callable[[Call], None], stream: Stream) -> None:
        self.stream = stream
        self._infer = infer
        self._strict = stream.metadata.values.get(STRICT) == "true"
        self._waiting: deque[StreamedCall] = deque()
        """In the order of the requests; answered ones too, until those before them are sent."""
        self._unanswered = 0
        self._held_bytes = 0
        self._blocked = False
        """The caller has not read what was sent."""
        self._paused = False
        self._ended = False
        self._draining = False
        self._over = False
        stream.on_message = self._on_message
        stream.on_end = self._on_end
        stream.on_writable = self._on_writable
        stream.on_cancel = self._on_cancel

    def _on_message(self, message: bytes) -> None:
        call = StreamedCall(self, message, monotonic())
        self._waiting.append(call)
        self._hold(len(message))
        self._unanswered += 1
        try:
            self._infer(call)
        except Exception:
            call.fail(Code.INTERNAL, "internal error")
            raise
        self._settle()

    def _on_end(self) -> None:
        self._ended = True
        self._settle()

    def _on_writable(self) -> None:
        self._blocked = False
        self._send()

    def _on_cancel(self) -> bool:
        """The caller left: whoever works on a request hears of it. The stream counts as one at work until all end."""
        for call in [call for call in self._waiting if not call.done]:
            call.left()
        if self._unanswered:
            return True
        self._forget()
        return False

    def drain(self) -> None:
        """Reads no more; ends when what was read is answered."""
        self._draining = True
        if not self._over and not self.stream.closed:
            self._paused = True
            self.stream.pause()
            self._settle()

    def answered(self, call: "StreamedCall") -> None:
        """The call has its answer; it is sent when those before it are."""
        self._unanswered -= 1
        self._hold(len(call.answer) - len(call.message))
        call.message = b""
        self._send()

    def _send(self) -> None:
        waiting, stream = self._waiting, self.stream
        while waiting and waiting[0].done and not self._blocked and not stream.closed:
            call = waiting.popleft()
            self._hold(-len(call.answer))
            if self._strict and call.failure is not None:
                self._forget()
                stream.fail(*call.failure)
                return
            self._blocked = not stream.send(call.answer)
        self._settle()

    def _settle(self) -> None:
        """Ends the stream when nothing is left to do, or decides whether more of it is read."""
        stream = self.stream
        if self._over:
            return
        if stream.closed:
            if not self._unanswered:
                self._forget()
                stream.fail(Code.CANCELLED, "the caller left")
            return
        if not self._waiting and (self._ended or self._draining):
            self._finish()
            return
        if not self._draining:
            self._throttle()

    def _finish(self) -> None:
        self._over = True
        if self._ended:
            self.stream.finish()
        else:
            refuse(self.stream, NotReady("the server is draining; what was not answered was not run"))

    def _forget(self) -> None:
        """Nothing is sent any more. What has no answer yet is held until it has."""
        self._over = True
        while self._waiting:
            self._hold(-len(self._waiting.popleft().answer))

    def _hold(self, size_bytes: int) -> None:
        self._held_bytes += size_bytes
        self.stream.hold(size_bytes)

    def _throttle(self) -> None:
        """Reading stops at a bound and begins again at half of it, lest each answer be a stop and a start."""
        share = 2 if self._paused else 1
        full = self._blocked or len(self._waiting) * share >= MAX_WAITING or self._held_bytes * share >= MAX_HELD_BYTES
        if full != self._paused:
            self._paused = full
            if full:
                self.stream.pause()
            else:
                self.stream.resume()


class StreamedCall:
    """One request of a stream, as a `Call`. What would be trailers become parameters of the response.

    Options of a reply have no meaning here.
    """

    __slots__ = (
        "_exchange", "answer", "arrived_s", "deadline_s", "done", "failure", "message", "metadata", "on_cancel",
    )  # fmt: skip

    def __init__(self, exchange: Exchange, message: bytes, arrived_s: float) -> None:
        self.metadata: Metadata = exchange.stream.metadata
        self.message = message
        self.arrived_s = arrived_s
        self.deadline_s = exchange.stream.deadline_s
        self.on_cancel: OnCancel | None = None
        self.done = False
        self.answer = b""
        """The encoded ModelStreamInferResponse."""
        self.failure: tuple[Code, str, Trailers] | None = None
        self._exchange = exchange

    @property
    def closed(self) -> bool:
        """Answered, or the stream has ended."""
        return self.done or self._exchange.stream.closed

    @property
    def peer(self) -> Peer:
        """Who calls."""
        return self._exchange.stream.peer

    def reply(self, message: bytes, trailers: Trailers, options: ReplyOptions | None = None) -> None:
        """Answers the request; `trailers` become parameters."""
        if not self.done:
            self.done = True
            self.on_cancel = None
            if not self._exchange.stream.closed:
                self.answer = wire.answer(message, _parameters(trailers))
            self._exchange.answered(self)

    def fail(self, code: Code, message: str, trailers: Trailers = NO_TRAILERS) -> None:
        """Answers the request with an error; the stream goes on unless its opener wished otherwise."""
        if not self.done:
            self.done = True
            self.on_cancel = None
            self.failure = (code, message, trailers)
            if not self._exchange.stream.closed:
                pairs = (*_texts(trailers), ("grpc-status", str(int(code))))
                self.answer = wire.failure(message, self.message, wire.parameters(pairs))
            self._exchange.answered(self)

    def left(self) -> None:
        """The stream has ended before the answer: who works on the request hears of it."""
        on_cancel, self.on_cancel = self.on_cancel, None
        if on_cancel is not None and not on_cancel():
            self.fail(Code.CANCELLED, "the caller left")


def _parameters(trailers: Trailers) -> bytes:
    known = _known.get(trailers)
    if known is None:
        if len(_known) >= MAX_KNOWN:
            _known.clear()
        known = _known[trailers] = wire.parameters(_texts(trailers))
    return known


def _texts(trailers: Trailers) -> tuple[tuple[str, str], ...]:
    """What of the trailers a string parameter can hold: all but the error's details, whose text and code are there."""
    return tuple((key, value) for key, value in trailers.pairs if isinstance(value, str))
