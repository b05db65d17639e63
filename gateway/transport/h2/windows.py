"""What a peer lets us send: its windows and frame size, and who waits for them (RFC 9113 sections 5.2 and 6.9)."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from gateway.transport.h2.errors import ConnectionFault, ErrorCode, StreamFault
from gateway.transport.h2.limits import (
    DEFAULT_WINDOW_BYTES,
    HEADER_TABLE_BYTES,
    MAX_WINDOW_BYTES,
    MIN_FRAME_BYTES,
    Limits,
)
from gateway.transport.h2.outgoing import Outgoing
from gateway.transport.h2.streams import SMALL_BYTES

MAX_CHUNK_BYTES: Final = 64 << 10
"""Largest DATA frame sent, however large the peer allows; keeps turns short."""
TABLE_SIZE_ZERO: Final = b"\x20"
"""Dynamic table size update to 0 (RFC 7541 section 6.3)."""


class Windows:
    """Flow control of what a connection sends."""

    __slots__ = (
        "_max_frame_bytes",
        "_paused",
        "_ready",
        "_table_size_update",
        "_window_total_bytes",
        "awake",
        "blocked",
        "credits",
        "flows",
        "initial_window_bytes",
        "limits",
        "room_bytes",
        "wake",
        "window_bytes",
    )

    def __init__(self, wake: Callable[[], None], limits: Limits) -> None:
        """`wake` is called when there may be something to send; not again until `awake` was set to False."""
        self.limits = limits
        self.wake = wake
        self.awake = False
        self.window_bytes = DEFAULT_WINDOW_BYTES
        """The connection's send window."""
        self._window_total_bytes = DEFAULT_WINDOW_BYTES
        self.initial_window_bytes = DEFAULT_WINDOW_BYTES
        self.room_bytes = 0
        """DATA bytes of a reply that may skip the queue; the connection's window is looked at besides."""
        self.credits: dict[int, int] = {}
        """What WINDOW_UPDATE added to the initial send window of live streams; most never get any."""
        self._max_frame_bytes = MIN_FRAME_BYTES
        self._paused = False
        self._table_size_update = b""
        self._ready: OrderedDict[int, Outgoing] = OrderedDict()
        self.blocked: dict[int, Outgoing] = {}
        """Answers whose stream's window is used up."""
        self.flows: dict[int, Outgoing] = {}
        """Answers of streaming calls, whether or not anything of them waits."""
        self._find_room()

    @property
    def paused(self) -> bool:
        """The socket takes no more for now: replies wait in their queues."""
        return self._paused

    @paused.setter
    def paused(self, value: bool) -> None:
        self._paused = value
        self._find_room()

    @property
    def can_pump(self) -> bool:
        """`pump` would produce something now."""
        return bool(self._ready) and self.window_bytes > 0 and not self._paused

    @property
    def shut_out(self) -> bool:
        """Replies wait because the connection's window is used up."""
        return bool(self._ready) and self.window_bytes <= 0

    @property
    def sent_bytes(self) -> int:
        """DATA bytes sent since the connection began."""
        return self._window_total_bytes - self.window_bytes

    def credit_connection(self, increment_bytes: int) -> None:
        """The peer opened the connection's window. Raises ConnectionFault FLOW_CONTROL_ERROR above 2^31-1."""
        if self.window_bytes + increment_bytes > MAX_WINDOW_BYTES:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "connection window above 2^31-1")
        self.window_bytes += increment_bytes
        self._window_total_bytes += increment_bytes

    def credit_stream(self, stream_id: int, increment_bytes: int) -> None:
        """The peer opened the window of a live stream. Raises StreamFault FLOW_CONTROL_ERROR above 2^31-1."""
        credit_bytes = self.credits.get(stream_id, 0) + increment_bytes
        if self.initial_window_bytes + credit_bytes - self._sent_bytes(stream_id) > MAX_WINDOW_BYTES:
            raise StreamFault(ErrorCode.FLOW_CONTROL_ERROR, "stream window above 2^31-1")
        self.credits[stream_id] = credit_bytes
        if stream_id in self.blocked:
            self._unblock([stream_id])

    def credit_once(self, stream_id: int, increment_bytes: int) -> bool:
        """`credit_stream` for the usual case: the first update of a stream that has sent nothing. Else False."""
        if stream_id in self.credits or not 0 < increment_bytes <= MAX_WINDOW_BYTES - self.initial_window_bytes:
            return False
        self.credits[stream_id] = increment_bytes
        return True

    def set_initial_window(self, value_bytes: int) -> int:
        """SETTINGS_INITIAL_WINDOW_SIZE changed: every stream's window moves with it, below zero if need be.

        RFC 9113 section 6.9.2. Raises ConnectionFault FLOW_CONTROL_ERROR when a stream's window would exceed 2^31-1.
        Returns what the change costs, in frames of `Chatter`: one frame may move a thousand streams, by a byte each.
        """
        for stream_id, credit_bytes in self.credits.items():
            if value_bytes + credit_bytes - self._sent_bytes(stream_id) > MAX_WINDOW_BYTES:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "SETTINGS push a stream's window above 2^31-1")
        growth_bytes = value_bytes - self.initial_window_bytes
        touched = len(self.credits) + len(self.blocked)
        self.initial_window_bytes = value_bytes
        if growth_bytes > 0:
            self._unblock(list(self.blocked))
        self._find_room()
        return 4 * touched if 0 < growth_bytes < SMALL_BYTES else touched // 8

    def set_max_frame(self, value_bytes: int) -> None:
        """SETTINGS_MAX_FRAME_SIZE changed."""
        self._max_frame_bytes = value_bytes
        self._find_room()

    def set_header_table(self, value_bytes: int) -> None:
        """SETTINGS_HEADER_TABLE_SIZE changed. We never use the table but must say so when it shrinks (RFC 7541 4.2)."""
        if value_bytes < HEADER_TABLE_BYTES:
            self._table_size_update = TABLE_SIZE_ZERO
            self._find_room()

    def _stream_room_bytes(self, flow: Outgoing) -> int:
        """The stream's window; below zero after the peer has shrunk it."""
        return self.initial_window_bytes + self.credits.get(flow.stream_id, 0) - flow.sent_bytes

    def _sent_bytes(self, stream_id: int) -> int:
        flow = self.flows.get(stream_id) or self.blocked.get(stream_id) or self._ready.get(stream_id)
        return flow.sent_bytes if flow else 0

    def _unblock(self, stream_ids: list[int]) -> None:
        for stream_id in stream_ids:
            self._ready[stream_id] = self.blocked.pop(stream_id)
        self._find_room()
        self.rouse()

    def _find_room(self) -> None:
        if self._paused or self._ready or self._table_size_update:
            self.room_bytes = -1
        else:
            self.room_bytes = min(self._max_frame_bytes, MAX_CHUNK_BYTES, self.initial_window_bytes)
            if self.limits.compress_above_bytes:  # the slow way of a reply looks after it
                self.room_bytes = min(self.room_bytes, self.limits.compress_above_bytes)

    def rouse(self) -> None:
        """Has the driver come for output."""
        if not self.awake:
            self.awake = True
            self.wake()
