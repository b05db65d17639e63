"""One proxy's connection: bytes received until a frame is whole, bytes of answers until the proxy takes them."""

import socket
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from workers.errors import BadFrame
from workers.service import cancel, frame_bytes, refuse
from workers.slots import Meeting, Slots
from workers.tensors import Bytes
from workers.wire import CANCEL, HEADER, KIND_AT

BUFFER_BYTES: Final = 256 << 10
SPARE_FRAMES: Final = 64
"""A grown buffer goes back to BUFFER_BYTES after this many frames in a row that would have fitted there."""
BEHIND_BYTES: Final = 4 << 10
"""Of a grown buffer, for what follows the large frame: it may be cancelled by it."""
MAX_PIECES: Final = 512
"""Of one sendmsg; Linux allows 1024."""


class Connection:
    """A non-blocking socket with a buffer each way. Nothing here waits."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)  # the kernel cuts this to what it allows
        self.fd = sock.fileno()
        self.queued = False
        self.used_s = 0.0
        self.buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self.buffer)
        self.slots: Slots | None = None
        """The memory the proxy shares; what it sends first may offer some."""
        self._met = False
        self._socket = sock
        self._frames: deque[tuple[int, int]] = deque()
        """Begin and end of every whole frame that has not been taken."""
        self._broken: BadFrame | None = None
        """What follows them is no frame."""
        self._unwanted = 0
        """Bytes still to come of a frame that was refused."""
        self._start = 0
        """Of the oldest of them, or of the frame that is being received."""
        self._whole = 0
        """Where that one begins."""
        self._end = 0
        self._spare = 0
        """Frames in a row for which BUFFER_BYTES would do."""
        self._unsent: deque[memoryview] = deque()

    @property
    def draining(self) -> bool:
        """Part of an answer has not been taken yet; until it is, nothing is read."""
        return bool(self._unsent)

    @property
    def waits(self) -> bool:
        """Something of what it sent, or of a frame on its way, has not been taken."""
        return self._end > self._start or self._unwanted > 0

    def receive(self) -> bool:
        """Reads once what is there, while whole frames wait as far as the buffer reaches; False when the peer is gone.

        A frame for which memory is short becomes one that is refused; its bytes are dropped as they come.
        """
        try:
            if self._broken or not self._make_room():
                return True
            if self._unwanted:
                return self._drop_some()
            if not self._met:
                return self._meet()
            count = self._socket.recv_into(self._view[self._end :])
        except BlockingIOError:
            return True
        except OSError:
            return False
        except MemoryError:
            self._refuse()
            return True
        self._end += count
        self._find_frames()
        return count > 0

    def _refuse(self) -> None:
        """Keeps only the HEADER of the frame that is being received."""
        self._unwanted = frame_bytes(self.buffer, self._start) - (self._end - self._start)
        refuse(self.buffer, self._start)
        self._whole = self._end = self._start + HEADER.size
        self._frames.append((self._start, self._end))

    def _drop_some(self) -> bool:
        """Reads what follows in the frame that was refused; False when the peer is gone."""
        count = self._socket.recv_into(self._view[self._end :], min(self._unwanted, len(self.buffer) - self._end))
        self._unwanted -= count
        return count > 0

    def _find_frames(self) -> None:
        """Looks for whole frames in what has arrived. A CANCEL is obeyed at once: the frame it is about may wait."""
        at, end, buffer, frames = self._whole, self._end, self.buffer, self._frames
        try:
            while end - at >= HEADER.size and (stop := at + frame_bytes(buffer, at)) <= end:
                if buffer[at + KIND_AT] == CANCEL:
                    self._cancel(HEADER.unpack_from(buffer, at)[1])
                else:
                    frames.append((at, stop))
                    if stop - at > BUFFER_BYTES:
                        self._spare = 0
                at = stop
        except BadFrame as error:
            self._broken = error
        self._whole = at
        if not frames:
            self._start = at

    def _cancel(self, batch: int) -> None:
        for start, _ in self._frames:
            if HEADER.unpack_from(self.buffer, start)[1] == batch:
                cancel(self.buffer, start)

    def _meet(self) -> bool:
        """The first `receive`."""
        met = Meeting.of(self._socket, self._view[self._end :])
        self._met = True
        self._end += met.size
        self._find_frames()
        self.slots = met.slots
        return met.attached or met.size > 0

    def frame(self) -> tuple[int, int] | None:
        """Begin and end in `buffer` of the next whole frame, which is thereby taken; None if there is none.

        The bytes stay valid until the next `receive`. Raises BadFrame when something follows that is no frame.
        """
        frames = self._frames
        if not frames:
            if self._broken:
                raise self._broken
            return None
        span = frames.popleft()
        self._start = frames[0][0] if frames else self._whole
        return span

    def has_frame(self) -> bool:
        """Whether `frame` would give one. Raises BadFrame as `frame` does."""
        if self._frames:
            return True
        if self._broken:
            raise self._broken
        return False

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

    def _make_room(self) -> bool:
        """Makes place for at least one more byte of the frame that is being received; False when that has to wait.

        A buffer grows only once it is full, so a length that lies costs no memory; and not while whole frames wait.
        """
        start, end, capacity = self._start, self._end, len(self.buffer)
        held = end - start
        if not held:
            self._start = self._whole = self._end = 0
            self._shrink(capacity)
        elif self._frames:
            if end == capacity and start:
                self._move_to_front(self.buffer)
            return self._end < capacity
        else:
            wanted = frame_bytes(self.buffer, start) if held >= HEADER.size else HEADER.size
            if held == capacity:
                self._replace(min(wanted + BEHIND_BYTES, 4 * capacity))
            elif start + wanted > capacity or end == capacity:
                self._move_to_front(self.buffer)
        return True

    def _shrink(self, capacity: int) -> None:
        """Between frames: gives a grown buffer back once it has not been needed for a while."""
        if capacity > BUFFER_BYTES:
            self._spare += 1
            if self._spare > SPARE_FRAMES:
                self._replace(BUFFER_BYTES)

    def _replace(self, capacity: int) -> None:
        """A buffer of another size with the same unread bytes."""
        self._move_to_front(bytearray(capacity))
        self._spare = 0

    def _move_to_front(self, buffer: bytearray) -> None:
        """Makes the unread bytes the first ones of a buffer, which may be the same one."""
        start, held = self._start, self._end - self._start
        view = memoryview(buffer)
        view[:held] = self._view[start : self._end]
        self.buffer, self._view = buffer, view
        self._frames = deque([(begin - start, stop - start) for begin, stop in self._frames])
        self._start, self._whole, self._end = 0, self._whole - start, held
