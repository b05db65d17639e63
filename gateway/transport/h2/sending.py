"""The sending half of a connection: answers, and the flow control that holds them back (RFC 9113 sections 5.2 and 6.9).

A small reply goes straight into `out` (see H2Call.reply). One that does not fit the windows or the frame size now, or
that would overtake others, waits in a queue; `pump` takes from the queues in turns, one frame per stream, so that no
reply starves another. Nothing of a waiting reply is rendered before its turn.
"""

from collections.abc import Callable
from typing import Final

from gateway.errors import Code
from gateway.transport.call import UNKNOWN_PEER, Trailers
from gateway.transport.h2.calls import H2Call
from gateway.transport.h2.frames import END_HEADERS, END_STREAM, HEADER, FrameType, frame
from gateway.transport.h2.grpc import HEADERS_BLOCK, PREFIX, failure_block, status_block, trailers_block
from gateway.transport.h2.limits import (
    Counters,
    Limits,
)
from gateway.transport.h2.memory import NO_MEMORY, Account, Memory
from gateway.transport.h2.outgoing import HIGH_WATER_BYTES, LOW_WATER_BYTES, Outgoing
from gateway.transport.h2.windows import MAX_CHUNK_BYTES, Windows

BURST_BYTES: Final = 256 << 10
"""What `pump` produces at once; then other connections have their turn."""


class Backlog(Exception):
    """A streaming call sends on and on while its peer does not read."""


class Sender(Windows):
    """Everything a connection writes. `out` collects bytes until the driver takes them."""

    __slots__ = (
        "_counters",
        "abandoned",
        "account",
        "backlog_bytes",
        "calls",
        "control_replies",
        "data_frames",
        "on_sent",
        "out",
        "peer",
        "relieved",
    )

    def __init__(
        self,
        calls: dict[int, H2Call],
        wake: Callable[[], None],
        limits: Limits | None = None,
        counters: Counters | None = None,
        account: Account | None = None,
    ) -> None:
        """`wake` is called when there may be something to take; not again until `awake` was set to False."""
        limits = limits or Limits()
        super().__init__(wake, limits)
        self.calls = calls
        self.abandoned: set[int] = set()
        """Streams that are gone while somebody still works on their calls."""
        self.backlog_bytes = 0
        """Messages that wait for windows or the socket."""
        self.data_frames = 0
        """DATA frames of replies that had to wait, since the connection began."""
        self._counters = counters or Counters()
        self.account = account or Account(Memory(limits.max_buffered_bytes))
        """What the connection holds."""
        self.peer = UNKNOWN_PEER
        self.out: list[bytes | memoryview] = []
        self.control_replies = 0
        """Frames that are not flow-controlled, written since the driver last took `out`."""
        self.relieved: list[int] = []
        """Streaming calls that may send again."""
        self.on_sent: Callable[[int], None] = self._forget
        """Hears of a streaming call whose last byte was rendered."""

    def control(self, data: bytes) -> None:
        """Writes a frame that is not flow-controlled."""
        self.out.append(data)
        self.control_replies += 1
        self.rouse()

    def end_stream(self, stream_id: int, block: bytes) -> None:
        """Answers with a single header block and forgets the call."""
        self.calls.pop(stream_id, None)
        self.credits.pop(stream_id, None)
        self.control(self._headers(stream_id, block, END_HEADERS | END_STREAM))

    def queue(
        self,
        stream_id: int,
        message: bytes,
        trailers: Trailers,
        head: bytes = HEADERS_BLOCK,
        *,
        compressed: bool = False,
    ) -> None:
        """Takes a reply that cannot leave at once; fails it when too many bytes wait already."""
        reply = Outgoing(stream_id, head)
        if excess := self._excess(len(message)):
            self.end_stream(stream_id, failure_block(Code.RESOURCE_EXHAUSTED, excess))
            return
        reply.end = trailers_block(trailers)
        self._enqueue(reply, message, compressed=compressed)

    def send(self, flow: Outgoing, message: bytes, *, compressed: bool = False) -> bool:
        """A message of a streaming call; False when much waits already. Raises Backlog when it is too much."""
        size = len(message) + PREFIX.size
        stream_id = flow.stream_id
        if not flow.left_bytes and size <= min(self.room_bytes, self.window_bytes, self._stream_room_bytes(flow)):
            self._begin(flow)
            self.window_bytes -= size
            self.data_frames += 1
            flow.sent_bytes += size
            header = HEADER.pack(size << 8 | FrameType.DATA, 0, stream_id)
            self.out += (header, PREFIX.pack(compressed, len(message)), message)
            self.rouse()
            return True
        if excess := self._excess(size):
            raise Backlog(excess)
        self._enqueue(flow, message, compressed=compressed)
        flow.full = flow.full or flow.held_bytes > HIGH_WATER_BYTES
        return not flow.full

    def begin(self, flow: Outgoing) -> None:
        """Sends the headers of a streaming call now."""
        self._begin(flow)
        self.rouse()

    def end(self, flow: Outgoing, block: bytes) -> None:
        """Ends a streaming call with this trailers block, after what was sent."""
        flow.end = block
        if not flow.left_bytes:
            self.control_replies += 1
            self._begin(flow)
            self._finish(flow)
            self.rouse()

    def abort(self, flow: Outgoing, code: Code, message: str, trailers: Trailers) -> None:
        """Ends a streaming call at once: what of it waits is dropped."""
        stream_id = flow.stream_id
        self._drop_waiting(stream_id)
        started = flow.started
        flow.started = True
        block = status_block(code, message, trailers) if started else failure_block(code, message, trailers)
        flow.end = block
        self.control_replies += 1
        self._finish(flow)
        self.rouse()

    def drop(self, stream_id: int) -> None:
        """Forgets what was still to be sent on a stream."""
        self.credits.pop(stream_id, None)
        self._drop_waiting(stream_id)
        self.flows.pop(stream_id, None)

    def pump(self) -> None:
        """Renders waiting answers into `out`: as much as windows allow, at most about BURST_BYTES."""
        ready = self._ready
        budget_bytes = BURST_BYTES
        while ready and budget_bytes > 0 and self.window_bytes > 0 and not self._paused:
            stream_id, flow = ready.popitem(last=False)
            room_bytes = self._stream_room_bytes(flow)
            if room_bytes <= 0:
                self.blocked[stream_id] = flow
                continue
            size = min(room_bytes, self.window_bytes, self._max_frame_bytes, MAX_CHUNK_BYTES, flow.left_bytes)
            self._render(flow, size)
            budget_bytes -= size
            if flow.full and flow.left_bytes <= LOW_WATER_BYTES:
                flow.full = False
                self.relieved.append(stream_id)
            if flow.left_bytes:
                ready[stream_id] = flow
            elif flow.end is not None:
                self._finish(flow)
        self._find_room()

    def close(self) -> None:
        """Forgets all replies that wait."""
        self._hold(-self.backlog_bytes)
        self._ready.clear()
        self.blocked.clear()
        self.flows.clear()
        self.relieved.clear()

    def _headers(self, stream_id: int, block: bytes, flags: int) -> bytes:
        if self._table_size_update:
            block = self._table_size_update + block
            self._table_size_update = b""
            self._find_room()
        return frame(FrameType.HEADERS, flags, stream_id, block)

    def _begin(self, flow: Outgoing) -> None:
        if not flow.started:
            flow.started = True
            self.out.append(self._headers(flow.stream_id, flow.head, END_HEADERS))

    def _render(self, flow: Outgoing, size: int) -> None:
        self._begin(flow)
        self.window_bytes -= size
        self.data_frames += 1
        held_bytes = flow.held_bytes
        self.out.append(HEADER.pack(size << 8 | FrameType.DATA, 0, flow.stream_id))
        self.out += flow.take(size)
        self._hold(flow.held_bytes - held_bytes)

    def _finish(self, flow: Outgoing) -> None:
        """Renders the trailers: the answer is complete."""
        stream_id, block = flow.stream_id, flow.end
        assert block is not None  # noqa: S101 - end and abort have set it
        self.out.append(self._headers(stream_id, block, END_HEADERS | END_STREAM))
        self.credits.pop(stream_id, None)
        if self.flows.pop(stream_id, None) is None:
            del self.calls[stream_id]
        else:
            self.on_sent(stream_id)

    def _enqueue(self, flow: Outgoing, message: bytes, *, compressed: bool = False) -> None:
        held_bytes = flow.held_bytes
        flow.add(message, compressed=compressed)
        self._hold(flow.held_bytes - held_bytes)
        if flow.stream_id not in self.blocked:
            self._ready[flow.stream_id] = flow
        self._find_room()
        self.rouse()

    def _drop_waiting(self, stream_id: int) -> None:
        flow = self._ready.pop(stream_id, None)
        if flow is None:
            flow = self.blocked.pop(stream_id, None)
        else:
            self._find_room()
        if flow is not None:
            self._hold(-flow.held_bytes)
            flow.clear()

    def _hold(self, change: int) -> None:
        """So many bytes more wait, or less."""
        if change:
            self.backlog_bytes += change
            self.account.change(change)

    def _excess(self, size: int) -> str:
        """Why so much more may not wait; empty when it may."""
        if self.backlog_bytes and self.backlog_bytes + size > self.limits.max_backlog_bytes:
            self._counters.backlog += 1
            return f"{self.backlog_bytes} bytes of replies wait on this connection already; read faster"
        if not self.account.has_room(size):
            self._counters.memory += 1
            return NO_MEMORY
        return ""

    def _forget(self, stream_id: int) -> None:
        """Nobody asked to hear of it."""
