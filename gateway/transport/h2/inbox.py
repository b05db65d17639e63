"""The receiving half of a streaming call: DATA becomes messages, which wait while the service wants none."""

from collections import deque
from typing import Final

from gateway.errors import Code
from gateway.transport.call import Metadata
from gateway.transport.h2.errors import Refusal
from gateway.transport.h2.grpc import PREFIX_BYTES, read_prefix, unpack
from gateway.transport.h2.limits import Limits
from gateway.transport.h2.memory import metadata_bytes
from gateway.transport.h2.uploads import SPARE_BYTES, Arriving

_NOTHING: Final = 0
MESSAGE_OVERHEAD_BYTES: Final = 128
"""What a waiting message takes besides its bytes: thousands of empty ones fit a window."""


class Inbox(Arriving):
    """Messages of one stream. While `paused`, none is taken and the window is not opened: that bounds what waits.

    Messages wait as they came: a compressed one is unpacked when it is taken.
    """

    __slots__ = (
        "_buffer",
        "_compressed",
        "_metadata_bytes",
        "_waiting_bytes",
        "_wanted_bytes",
        "ended",
        "paused",
        "waiting_messages",
    )

    def __init__(self, stream_id: int, metadata: Metadata, content_length: int | None, window_bytes: int) -> None:
        super().__init__(stream_id, metadata, content_length, window_bytes)
        self.ended = False
        """END_STREAM has come."""
        self.paused = False
        self.waiting_messages: deque[tuple[bool, bytes]] = deque()
        """(compressed, message), complete and not yet taken."""
        self._waiting_bytes = 0
        """What those take in memory."""
        self._metadata_bytes = metadata_bytes(metadata.values)
        self._buffer = bytearray()
        self._compressed = False
        self._wanted_bytes = _NOTHING

    @property
    def begun(self) -> bool:
        """A message has begun to arrive and is not complete."""
        return bool(self._buffer)

    @property
    def begun_bytes(self) -> int:
        """DATA bytes of it that have come."""
        return len(self._buffer)

    @property
    def buffered_bytes(self) -> int:
        return self._waiting_bytes + len(self._buffer) + self._metadata_bytes

    @property
    def missing_bytes(self) -> int:
        return (self._wanted_bytes or PREFIX_BYTES) - len(self._buffer)

    def low_bytes(self, window_bytes: int) -> int:
        """Half of what streams start with: a peer that streams never waits for us."""
        return max(self.missing_bytes + SPARE_BYTES, window_bytes // 2)

    def needs_grant(self, window_bytes: int) -> bool:
        return self.missing_bytes + SPARE_BYTES > window_bytes

    def feed(self, data: memoryview, limits: Limits) -> None:
        self.received_bytes += len(data)
        if not self._buffer and len(data) >= PREFIX_BYTES:
            compressed, size = read_prefix(data, 0, self.metadata, limits)
            if size == len(data) - PREFIX_BYTES:  # one frame holds one message: what most clients send
                self._add(compressed, bytes(data[PREFIX_BYTES:]))
                return
        self._buffer += data
        position = 0
        while len(self._buffer) - position >= (self._wanted_bytes or PREFIX_BYTES):
            if not self._wanted_bytes:
                self._compressed, size = read_prefix(self._buffer, position, self.metadata, limits)
                self._wanted_bytes = PREFIX_BYTES + size
                continue
            end = position + self._wanted_bytes
            with memoryview(self._buffer) as view:
                message = bytes(view[position + PREFIX_BYTES : end])
            self._add(self._compressed, message)
            position = end
            self._wanted_bytes = _NOTHING
        del self._buffer[:position]

    def _add(self, compressed: bool, message: bytes) -> None:
        self.waiting_messages.append((compressed, message))
        self._waiting_bytes += len(message) + MESSAGE_OVERHEAD_BYTES

    def end(self) -> None:
        """END_STREAM. Raises Refusal INTERNAL when a message is cut off, and what `check_length` raises."""
        self.ended = True
        self.check_length()
        if self._buffer:
            raise Refusal(Code.INTERNAL, "request message is cut off")

    def take(self, limits: Limits) -> bytes:
        """The next message. Raises what `unpack` raises."""
        compressed, message = self.waiting_messages.popleft()
        self._waiting_bytes -= len(message) + MESSAGE_OVERHEAD_BYTES
        return unpack(memoryview(message), compressed, self.metadata, limits) if compressed else message

    def close(self) -> None:
        """Nobody wants the messages any more."""
        self.waiting_messages.clear()
        self._waiting_bytes = 0
        self._buffer.clear()
        self._wanted_bytes = _NOTHING
