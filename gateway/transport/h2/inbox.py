"""The receiving half of a streaming call: DATA becomes messages, which wait while the service wants none."""

from gateway.errors import Code
from gateway.transport.call import Metadata
from gateway.transport.h2.errors import Refusal
from gateway.transport.h2.grpc import PREFIX_BYTES, read_prefix, unpack
from gateway.transport.h2.limits import Limits
from gateway.transport.h2.uploads import SPARE_BYTES, Arriving


class Inbox(Arriving):
    """Messages of one stream. While `paused`, none is taken and the window is not opened: that bounds what waits.

    They wait as they came, in one buffer, and are cut out and unpacked one by one when they are taken: a window full of
    tiny messages costs no more than its bytes until somebody wants them.
    """

    __slots__ = ("_buffer", "_compressed", "_start", "_wanted_bytes", "_whole", "ended", "has_message", "paused")

    def __init__(self, stream_id: int, metadata: Metadata, content_length: int | None, window_bytes: int) -> None:
        super().__init__(stream_id, metadata, content_length, window_bytes)
        self.ended = False
        """END_STREAM has come."""
        self.paused = False
        self.has_message = False
        """A message has come whole. Looks no further than the first, so a broken one behind it is met later."""
        self._whole: bytes | None = None
        """The next message, where a DATA frame held just that; nothing waits before it."""
        self._compressed = False
        """Whether the next message is."""
        self._buffer = bytearray()
        self._start = 0
        """Where in it the next message begins, if there is no `_whole`, and else the one after that."""
        self._wanted_bytes = 0
        """Prefix and message together of the one at `_start`; 0 until the prefix has come and was looked at."""

    @property
    def begun(self) -> bool:
        """A message has begun to arrive; it may be complete."""
        return len(self._buffer) > self._start

    @property
    def begun_bytes(self) -> int:
        """DATA bytes of it, and of those after it, that have come."""
        return len(self._buffer) - self._start

    @property
    def missing_bytes(self) -> int:
        return max(0, (self._wanted_bytes or PREFIX_BYTES) - self.begun_bytes)

    def low_bytes(self, window_bytes: int) -> int:
        """Half of what streams start with: a peer that streams never waits for us."""
        return max(self.missing_bytes + SPARE_BYTES, window_bytes // 2)

    def needs_grant(self, window_bytes: int) -> bool:
        return self.missing_bytes + SPARE_BYTES > window_bytes

    def feed(self, data: memoryview, limits: Limits) -> None:
        self.received_bytes += len(data)
        self.buffered_bytes += len(data)
        if not self._buffer and self._whole is None and len(data) >= PREFIX_BYTES:
            compressed, size = read_prefix(data, 0, self.metadata, limits)
            if size == len(data) - PREFIX_BYTES:  # one frame holds one message: what most clients send
                self._compressed, self._whole = compressed, bytes(data[PREFIX_BYTES:])
                self.has_message = True
                return
        self._buffer += data
        if not self.has_message:
            self.look(limits)

    def look(self, limits: Limits) -> None:
        """Reads the prefix of the next message, if it has come. Raises Refusal when it cannot be served."""
        begun_bytes = len(self._buffer) - self._start
        if not self._wanted_bytes:
            if begun_bytes < PREFIX_BYTES:
                return
            self._compressed, size = read_prefix(self._buffer, self._start, self.metadata, limits)
            self._wanted_bytes = PREFIX_BYTES + size
        self.has_message = begun_bytes >= self._wanted_bytes

    def take(self, limits: Limits) -> bytes:
        """The next message, where `has_message`; then `look` for another. Raises what `unpack` raises."""
        self.has_message = False
        if self._whole is not None:
            message, self._whole = self._whole, None
            self.buffered_bytes -= len(message) + PREFIX_BYTES
        else:
            start, end = self._start + PREFIX_BYTES, self._start + self._wanted_bytes
            with memoryview(self._buffer) as view:
                message = bytes(view[start:end])
            self._start, self._wanted_bytes = end, 0
        return unpack(message, self.metadata, limits) if self._compressed else message

    def tidy(self) -> None:
        """Forgets what was taken."""
        if self._start:
            del self._buffer[: self._start]
            self.buffered_bytes -= self._start
            self._start = 0

    def check_end(self) -> None:
        """After the last message. Raises Refusal INTERNAL when one is cut off."""
        if self.begun:
            raise Refusal(Code.INTERNAL, "request message is cut off")

    def close(self) -> None:
        """Nobody wants the messages any more."""
        self.tidy()
        self.buffered_bytes -= len(self._buffer)
        if self._whole is not None:
            self.buffered_bytes -= len(self._whole) + PREFIX_BYTES
        self._whole = None
        self.has_message = False
        self._buffer.clear()
        self._wanted_bytes = 0
