"""The proxy's side of the memory it shares with one worker: large batches are written there, large answers read there.

A slot belongs to a batch from the moment it is taken until it is given back, which is when the answer was cut into
replies, and copies for shadows were made of it: nobody writes into a slot that somebody may still read.
"""

import ctypes
import mmap
import os
import socket
from collections.abc import Sequence
from typing import Final

import structlog

from workers import memory, wire

MAX_BATCH_BYTES: Final = 64 << 20
"""Tensors of one batch. A single request may be larger, and travels over the socket then."""
LAYOUT: Final = memory.Layout(slots=3, slot_bytes=MAX_BATCH_BYTES)
"""Two for the batches in flight at a worker, one for an answer that is still to be copied for a shadow."""
DEFAULT_THRESHOLD_BYTES: Final = 128 << 10
"""Where a slot begins to be cheaper than the socket, as measured."""
PUNCH_HOLE: Final = 1 | 2
"""FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE (linux/falloc.h)"""

log = structlog.get_logger(__name__)
_libc = ctypes.CDLL(None)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


class Place:
    """Part of a slot, and how much of it takes up memory."""

    __slots__ = ("_fd", "_needed_bytes", "_offset", "_touched_bytes")

    def __init__(self, fd: int, offset: int) -> None:
        self._fd = fd
        self._offset = offset
        self._touched_bytes = 0
        self._needed_bytes = 0
        """Since the last `tidy`."""

    def use(self, stop: int) -> None:
        """Bytes up to `stop` are written: whole pages of memory."""
        stop = -(-stop // memory.PAGE_BYTES) * memory.PAGE_BYTES
        self._needed_bytes = max(self._needed_bytes, stop)
        self._touched_bytes = max(self._touched_bytes, stop)

    def tidy(self, unseen_bytes: int = 0) -> None:
        """Gives back what was not needed since the last time. unseen_bytes: others may have written so far, untold."""
        kept_bytes, self._needed_bytes = self._needed_bytes, 0
        spare_bytes = max(self._touched_bytes, unseen_bytes) - kept_bytes
        if spare_bytes > 0 and not _libc.fallocate(self._fd, PUNCH_HOLE, self._offset + kept_bytes, spare_bytes):
            self._touched_bytes = kept_bytes


class Slot:
    """One slot. `number` is its name on the wire."""

    __slots__ = ("_answered", "_sent", "_slots", "number")

    def __init__(self, slots: "Slots", number: int) -> None:
        self.number = number
        self._slots = slots
        self._sent = Place(slots.fd, LAYOUT.sent_at(number))
        self._answered = Place(slots.fd, LAYOUT.answer_at(number))

    def wants(self, size: int) -> bool:
        """Whether so many bytes of sections had better travel through the slot than over the socket."""
        return size > self._slots.threshold_bytes

    def put(self, head: bytes, tensors: Sequence[bytes | memoryview], size: int) -> bytes:
        """The PLACE of sections that were put into the slot; empty when they have to travel over the socket.

        head: what stands before the first tensor; size: bytes of all together.
        """
        start = memory.aligned(len(head))
        stop = start + size
        slots = self._slots
        if not self.wants(size) or stop > LAYOUT.slot_bytes:
            return b""
        self._sent.use(stop)  # where memory is short, part of it may be written all the same
        if not memory.fill(slots.fd, LAYOUT.sent_at(self.number) + start, [head, *tensors], size):
            return b""
        return wire.PLACE.pack(start, stop)

    def sent(self, frame: bytes) -> memoryview:
        """The sections that a frame of this slot left there."""
        start, stop = wire.PLACE.unpack_from(frame, wire.HEADER.size)
        base = LAYOUT.sent_at(self.number)
        return self._slots.view[base + start : base + stop]

    def answer(self, data: bytes, start: int, stop: int) -> memoryview:
        """The section the worker has left there, as the PLACE in data[start:stop] says. Raises ValueError."""
        if stop - start != wire.PLACE.size:
            raise ValueError(f"a place of {stop - start} bytes")
        begin, end = wire.PLACE.unpack_from(data, start)
        if not begin <= end <= LAYOUT.slot_bytes:
            raise ValueError(f"bytes {begin} to {end} of a slot of {LAYOUT.slot_bytes}")
        self._answered.use(end)
        base = LAYOUT.answer_at(self.number)
        return self._slots.view[base + begin : base + end]

    def give_back(self) -> None:
        """Nobody reads it any more."""
        if not self._slots.closed:
            self._slots.free.append(self)

    def tidy(self) -> None:
        """Gives memory back that was not needed since the last time. Only while nobody uses the slot."""
        self._sent.tidy()
        self._answered.tidy(LAYOUT.slot_bytes)  # a worker for which memory was short does not tell what it wrote


class Slots:
    """The memory shared over one connection. Owns it."""

    def __init__(self, threshold_bytes: int) -> None:
        """threshold_bytes: smaller sections travel over the socket. Raises OSError when memory cannot be had."""
        self.fd = memory.create(LAYOUT)
        try:
            self.view = memoryview(mmap.mmap(self.fd, LAYOUT.size, mmap.MAP_SHARED, mmap.PROT_READ))
        except OSError:
            os.close(self.fd)
            raise
        self.threshold_bytes = threshold_bytes
        self.pending = True
        """The worker has not said yet whether it takes part."""
        self.closed = False
        self.free: list[Slot] = []
        """Most recently used last: its memory is there, and warm."""

    def offer(self, sock: socket.socket) -> None:
        """Sends the offer over a new connection. Raises OSError."""
        body = wire.MEMORY.pack(LAYOUT.slots, self.threshold_bytes, LAYOUT.slot_bytes)
        frame = wire.HEADER.pack(len(body), 0, wire.ATTACH, 0, 0, 0) + body
        if socket.send_fds(sock, [frame], [self.fd]) != len(frame):
            raise BlockingIOError("a new connection takes no frame")

    def accepted(self) -> None:
        """The worker takes part."""
        self.pending = False
        self.free = [Slot(self, number) for number in range(LAYOUT.slots, 0, -1)]

    def take(self) -> Slot | None:
        """A slot for one batch, if there is one."""
        return self.free.pop() if self.free else None

    def tidy(self) -> None:
        """Gives memory back to the system that was not needed since the last call."""
        for slot in self.free:
            slot.tidy()

    def close(self) -> None:
        """The connection is gone. What is still to be read stays: the mapping goes with its last reader."""
        self.closed = True
        self.free = []
        os.close(self.fd)


class Sharing:
    """Makes and offers memory to workers, as far as it is wanted and can be had."""

    def __init__(self, threshold_bytes: int) -> None:
        """0: never. What no slot holds is never shared, whatever the threshold; and the wire knows no larger one."""
        self._threshold_bytes = min(threshold_bytes, MAX_BATCH_BYTES)
        self._said = False

    def offer(self, sock: socket.socket) -> Slots | None:
        """Memory offered over a new connection; None: tensors travel over the socket. Raises OSError of the socket."""
        if not self._threshold_bytes:
            return None
        try:
            slots = Slots(self._threshold_bytes)
        except OSError as error:
            if not self._said:
                self._said = True
                log.warning("no memory to share with workers; large tensors go over sockets", error=str(error))
            return None
        try:
            slots.offer(sock)
        except OSError:
            slots.close()
            raise
        return slots
