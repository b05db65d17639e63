"""An answer on its way: what of it is not yet sent."""

from collections import deque
from typing import Final

from gateway.transport.h2.grpc import HEADERS_BLOCK, PREFIX

HIGH_WATER_BYTES: Final = 64 << 10
"""More than this waiting, and a stream's `send` says so."""
JOINED_BYTES: Final = 1024
"""A message up to this is copied behind its prefix."""
PIECE_OVERHEAD_BYTES: Final = 256
"""What a piece takes besides its bytes: thousands of tiny replies may wait."""
LOW_WATER_BYTES: Final = 16 << 10
"""Less than this waiting, and the stream hears that it may send again."""


class Outgoing:
    """Headers, messages, trailers of one stream. What cannot leave at once waits here, unrendered until its turn."""

    __slots__ = ("_pieces", "end", "full", "head", "held_bytes", "left_bytes", "sent_bytes", "started", "stream_id")

    def __init__(self, stream_id: int, head: bytes = HEADERS_BLOCK) -> None:
        self.stream_id = stream_id
        self.head = head
        """Header block that begins the answer."""
        self.started = False
        """It has left."""
        self.left_bytes = 0
        """DATA bytes still to be sent."""
        self.held_bytes = 0
        """What the messages take in memory: each counts whole until its last byte has left."""
        self.sent_bytes = 0
        """DATA bytes sent."""
        self.end: bytes | None = None
        """Header block of the trailers; None while more messages may come."""
        self.full = False
        """A `send` was told that much is waiting."""
        self._pieces: deque[memoryview] = deque()

    def add(self, message: bytes, *, compressed: bool = False) -> None:
        """One more message."""
        prefix = PREFIX.pack(compressed, len(message))
        if len(message) <= JOINED_BYTES:
            self._add(prefix + message)
        else:
            self._add(prefix)
            self._add(message)

    def _add(self, piece: bytes) -> None:
        self._pieces.append(memoryview(piece))
        self.left_bytes += len(piece)
        self.held_bytes += len(piece) + PIECE_OVERHEAD_BYTES

    def take(self, size: int) -> list[memoryview]:
        """The next `size` bytes, at most `left_bytes`."""
        self.left_bytes -= size
        self.sent_bytes += size
        pieces = self._pieces
        taken = []
        while size:
            piece = pieces.popleft()
            if len(piece) > size:
                pieces.appendleft(piece[size:])
                piece = piece[:size]
            else:
                self.held_bytes -= len(piece.obj) + PIECE_OVERHEAD_BYTES  # type: ignore[arg-type] # the bytes of `add`
            taken.append(piece)
            size -= len(piece)
        return taken

    def clear(self) -> None:
        """Forgets what waits."""
        self.left_bytes = self.held_bytes = 0
        self._pieces.clear()
