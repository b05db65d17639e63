"""One proxy's connection: bytes received until a frame is whole, bytes of answers until the proxy takes them."""

import socket
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from workers.errors import BadFrame
from workers.service import frame_bytes
from workers.slots import Meeting, Slots
from workers.tensors import Bytes
from workers.wire import HEADER

BUFFER_BYTES: Final = 256 << 10
SPARE_FRAMES: Final = 64
"""A grown buffer goes back to BUFFER_BYTES after this many frames in a row that would have fitted there."""
MAX_PIECES: Final = 512
"""Of one sendmsg; Linux allows 1024."""


class Connection:
    """A non-blocking socket with a buffer each way. Nothing here waits."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)  # the kernel cuts this to what it allows
        self.fd = sock.fileno()
        self.queued = False
        """In the loop's round; kept here so that asking is cheap."""
        self.buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self.buffer)
        self.slots: Slots | None = None
        """The memory the proxy shares; what it sends first may offer some."""
        self._met = False
        self._socket = sock
        self._start = 0
        self._end = 0
        self._spare = 0
        self._unsent: deque[memoryview] = deque()

    @property
    def draining(self) -> bool:
        """Part of an answer has not been taken yet; until it is, nothing is read."""
        return bool(self._unsent)

    def receive(self) -> bool:
        """Reads once what is there; False when the peer is gone. Raises BadFrame, also when memory is short."""
        try:
            self._make_room()
            if not self._met:
                return self._meet()
            count = self._socket.recv_into(self._view[self._end :])
        except BlockingIOError:
            return True
        except OSError:
            return False
        except MemoryError as error:
            raise BadFrame("a frame larger than the memory that is left") from error
        self._end += count
        return count > 0

    def _meet(self) -> bool:
        """The first `receive`."""
        met = Meeting.of(self._socket, self._view[self._end :])
        self._met = True
        self._end += met.size
        self.slots = met.slots
        return met.attached or met.size > 0

    def frame(self) -> tuple[int, int] | None:
        """Begin and end in `buffer` of the next whole frame, which is thereby taken; None if there is none.

        The bytes stay valid until the next `receive`. Raises BadFrame for a header that is none.
        """
        start = self._start
        if self._end - start < HEADER.size:
            return None
        stop = start + frame_bytes(self.buffer, start)
        if stop > self._end:
            return None
        self._start = stop
        return start, stop

    def has_frame(self) -> bool:
        """Whether `frame` would give one. Raises BadFrame as `frame` does."""
        start = self._start
        return self._end - start >= HEADER.size and start + frame_bytes(self.buffer, start) <= self._end

    def send(self, pieces: Sequence[Any]) -> bool:
        """Sends what the socket takes and keeps the rest; False when the peer is gone.

        Pieces are bytes or C-contiguous arrays, which the caller gives away.
        """
        if self._unsent:
            self._keep(pieces, 0)
            return True
        if len(pieces) > MAX_PIECES:
            pieces = [b"".join(pieces)]
        try:
            sent = self._socket.sendmsg(pieces)
        except BlockingIOError:
            sent = 0
        except OSError:
            return False
        self._keep(pieces, sent)
        return True

    def flush(self) -> bool:
        """Sends more of what was kept; False when the peer is gone."""
        try:
            while self._unsent:
                sent = self._socket.send(self._unsent[0])
                if sent < len(self._unsent[0]):
                    self._unsent[0] = self._unsent[0][sent:]
                else:
                    self._unsent.popleft()
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Closes the socket and drops what is buffered."""
        if self.slots is not None:
            self.slots.close()
            self.slots = None
        self._unsent.clear()
        self._socket.close()

    def _keep(self, pieces: Sequence[Any], sent: int) -> None:
        """Keeps what follows the first `sent` bytes. In the usual case that is nothing, found out without counting."""
        for piece in pieces:
            size = len(piece) if isinstance(piece, bytes) else piece.nbytes
            if sent >= size:
                sent -= size
            else:
                whole: Bytes = piece if isinstance(piece, bytes) else piece.reshape(-1).view("u1")
                self._unsent.append(memoryview(whole)[sent:])
                sent = 0

    def _make_room(self) -> None:
        """Makes place for at least one more byte of the frame that is being received.

        A buffer grows only once it is full, so a length that lies costs no memory.
        """
        start, end, capacity = self._start, self._end, len(self.buffer)
        held = end - start
        wanted = frame_bytes(self.buffer, start) if held >= HEADER.size else HEADER.size
        if not held:
            self._start = self._end = 0
            self._shrink(capacity)
        elif held == capacity:
            self._replace(min(wanted, 4 * capacity))
        elif start + wanted > capacity or end == capacity:
            self._view[:held] = self._view[start:end]
            self._start, self._end = 0, held

    def _shrink(self, capacity: int) -> None:
        """Between frames: gives a grown buffer back once it has not been needed for a while."""
        if capacity > BUFFER_BYTES:
            self._spare += 1
            if self._spare > SPARE_FRAMES:
                self._replace(BUFFER_BYTES)

    def _replace(self, capacity: int) -> None:
        """A buffer of another size with the same unread bytes."""
        buffer = bytearray(capacity)
        held = self._end - self._start
        buffer[:held] = self._view[self._start : self._end]
        self.buffer, self._view = buffer, memoryview(buffer)
        self._start, self._end, self._spare = 0, held, 0
