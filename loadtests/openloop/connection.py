"""One HTTP/2 connection that carries unary calls, as an asyncio protocol."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import cast

from loadtests.openloop import frames
from loadtests.openloop.answers import Answers, Unreadable

Answered = Callable[[int, str, float], None]
"""Number of the call, name of its status, when (time.monotonic)."""
LOST = "UNAVAILABLE"


class Connection(asyncio.Protocol):
    """Calls are numbered by whoever sends them. A call that its connection loses is answered UNAVAILABLE."""

    def __init__(
        self, headers: frames.Fields, message: bytes, answered: Answered, lost: Callable[["Connection", str], None]
    ) -> None:
        """`message` comes with its gRPC prefix; `lost(connection, why)` is called when no more calls can be sent."""
        self._headers, self._message = headers, message
        self._answered, self._lost = answered, lost
        self._answers = Answers()
        self._calls: frames.Calls | None = None
        self._transport: asyncio.Transport | None = None
        self._next_stream = 1
        self._open: dict[int, int] = {}
        """Number of the call by its stream."""
        self._owed: deque[bytes] = deque()
        """Calls for which the connection's window has no room yet."""
        self._why = ""
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when calls may be sent."""

    @property
    def in_flight(self) -> int:
        """Calls without an answer."""
        return len(self._open)

    @property
    def data_bytes(self) -> int:
        """DATA bytes of all answers."""
        return self._answers.data_bytes

    def has_room(self, limit: int) -> bool:
        """Whether one more call may be sent, given at most `limit` in flight on this connection."""
        return self._calls is not None and not self._why and len(self._open) < min(limit, self._answers.max_streams)

    def send(self, number: int) -> None:
        """Sends one call; only when there is room."""
        calls, transport = self._calls, self._transport
        assert calls is not None  # noqa: S101 - has_room says so
        assert transport is not None  # noqa: S101 - likewise
        stream_id = self._next_stream
        self._next_stream = stream_id + 2
        self._open[stream_id] = number
        call = calls.render(stream_id)
        answers = self._answers
        if self._owed or answers.window_bytes < len(self._message):
            self._owed.append(call)
            return
        answers.window_bytes -= len(self._message)
        transport.write(call)

    def close(self) -> None:
        """Closes the connection; what is in flight gets no answer."""
        self._why = self._why or "closed"
        self._open.clear()
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(frames.greeting())

    def data_received(self, data: bytes) -> None:
        answers = self._answers
        try:
            answers.feed(data)
        except Unreadable as error:
            self._give_up(str(error))
            return
        if answers.ended:
            now_s = time.monotonic()
            for stream_id, status in answers.ended:
                number = self._open.pop(stream_id, None)
                if number is not None:
                    self._answered(number, status, now_s)
            answers.ended.clear()
        if answers.control or self._owed or answers.goaway is not None or self._calls is None:
            self._housekeeping()

    def connection_lost(self, exc: Exception | None) -> None:
        self._give_up(str(exc) if exc else "the server closed the connection")

    def _housekeeping(self) -> None:
        answers, transport = self._answers, self._transport
        assert transport is not None  # noqa: S101 - something was received
        if answers.control:
            transport.write(bytes(answers.control))
            answers.control.clear()
        if self._calls is None and answers.greeted:
            self._begin(answers)
        while self._owed and answers.window_bytes >= len(self._message):
            answers.window_bytes -= len(self._message)
            transport.write(self._owed.popleft())
        if answers.goaway is not None and not self._why:
            self._go_away(answers.goaway)

    def _begin(self, answers: Answers) -> None:
        if len(self._message) > answers.stream_window_bytes:
            message = f"a request of {len(self._message)} bytes, but a stream may send {answers.stream_window_bytes}"
            self._give_up(f"{message} before the server has read any; that is more than this client does")
            return
        self._calls = frames.Calls(self._headers, self._message, answers.table_bytes)
        if not self.ready.done():
            self.ready.set_result(None)

    def _go_away(self, last: int) -> None:
        """No new calls; those that the server will not look at are lost, the others still get their answers."""
        self._why = "the server said goodbye"
        self._drop([stream for stream in self._open if stream > last])
        self._lost(self, self._why)

    def _give_up(self, why: str) -> None:
        already, self._why = self._why, self._why or why
        self._drop(list(self._open))
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(why))
        elif not already:
            self._lost(self, why)
        if self._transport is not None:
            self._transport.abort()

    def _drop(self, streams: list[int]) -> None:
        now_s = time.monotonic()
        for stream in streams:
            self._answered(self._open.pop(stream), LOST, now_s)
