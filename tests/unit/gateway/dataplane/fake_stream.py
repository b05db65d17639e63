"""A double for the transport's half of a streaming call."""

from collections import deque
from collections.abc import Callable
from math import inf

from gateway.errors import Code
from gateway.transport.call import NO_TRAILERS, UNKNOWN_PEER, Metadata, OnCancel, Trailers


class FakeStream:
    """A stream whose caller is the test: `push`, `end`, `cancel`, `read`. Records what was sent and how it ended.

    room: how many messages may wait for the caller before `send` says so.
    """

    def __init__(self, values: dict[str, str] | None = None, deadline_s: float = inf, room: int = 1_000_000) -> None:
        self.metadata = Metadata("/inference.GRPCInferenceService/ModelStreamInfer", values or {}, None, None)
        self.arrived_s = 0.0
        self.deadline_s = deadline_s
        self.closed = False
        self.on_message: Callable[[bytes], None] = lambda _: None
        self.on_end: Callable[[], None] = lambda: None
        self.on_cancel: OnCancel | None = None
        self.on_writable: Callable[[], None] | None = None
        self.peer = UNKNOWN_PEER
        self.paused = False
        self.held_bytes = 0
        """What the service says it keeps."""
        self.sent: list[bytes] = []
        self.code: Code | None = None
        self.text = ""
        self.trailers: dict[str, str | bytes] = {}
        self.released = False
        """Nobody works on it any more: its place is free."""
        self._room = room
        self._unread = 0
        self._blocked = False
        self._arrived: deque[bytes] = deque()
        self._half_closed = self._told_end = False

    @property
    def waiting(self) -> int:
        """Messages that have arrived and were not taken."""
        return len(self._arrived)

    def send_headers(self, headers: Trailers = NO_TRAILERS) -> None:
        assert not self.sent

    def send(self, message: bytes, *, compress: bool = False) -> bool:
        if not self.closed:
            self.sent.append(message)
            self._unread += 1
            self._blocked = self._unread > self._room
        return not self._blocked

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def hold(self, size_bytes: int) -> None:
        self.held_bytes += size_bytes
        assert self.held_bytes >= 0

    def finish(self, trailers: Trailers = NO_TRAILERS) -> None:
        self._finish(Code.OK, "", trailers)

    def fail(self, code: Code, message: str, trailers: Trailers = NO_TRAILERS) -> None:
        self._finish(code, message, trailers)

    def _finish(self, code: Code, text: str, trailers: Trailers) -> None:
        assert not self.released, "ended twice"
        self.released = True
        if not self.closed:
            self.code, self.text, self.trailers = code, text, dict(trailers.pairs)
            self._close()

    def _close(self) -> None:
        self.closed = True
        self.on_message, self.on_end = (lambda _: None), (lambda: None)
        self.on_cancel = self.on_writable = None

    def push(self, *messages: bytes) -> None:
        """The caller sends messages."""
        self._arrived += messages
        self.turn()

    def end(self) -> None:
        """The caller half-closes."""
        self._half_closed = True
        self.turn()

    def turn(self) -> None:
        """Hands over what is wanted."""
        while self._arrived and not self.paused and not self.closed:
            self.on_message(self._arrived.popleft())
        if self._half_closed and not (self._arrived or self.paused or self.closed or self._told_end):
            self._told_end = True
            self.on_end()

    def cancel(self) -> None:
        """The caller leaves."""
        on_cancel = self.on_cancel
        self._close()
        if on_cancel is not None and not on_cancel():
            self.released = True

    def read(self) -> None:
        """The caller takes everything that was sent."""
        self._unread = 0
        blocked, self._blocked = self._blocked, False
        if blocked and self.on_writable is not None:
            self.on_writable()
