"""The worker's side of the memory one proxy shares: requests are read where they lie, large answers put beside them."""

import mmap
import os
import socket
from array import array
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Self

from workers.errors import BadFrame
from workers.memory import Layout, fill, is_sound
from workers.tensors import Bytes
from workers.wire import ATTACH, HEADER, MEMORY, PLACE, SLOT

MAX_DESCRIPTORS: Final = 4
"""Looked for in what a proxy sends first; only one is right."""


class Slots:
    """The memory of one connection. Owns the descriptor."""

    def __init__(self, fd: int, layout: Layout, threshold_bytes: int) -> None:
        """Raises OSError when it cannot be mapped; the descriptor is the caller's then."""
        self._map = memoryview(mmap.mmap(fd, layout.answers_at, mmap.MAP_SHARED, mmap.PROT_READ))
        self._fd = fd
        self._layout = layout
        self._threshold_bytes = threshold_bytes

    def check(self, slot: int) -> None:
        """Raises BadFrame when there is no such slot."""
        if not 0 < slot <= self._layout.slots:
            raise BadFrame(f"slot {slot} of {self._layout.slots}")

    def sections(self, slot: int, buffer: Bytes, start: int, stop: int) -> tuple[memoryview, int, int]:
        """The buffer, begin and end of the sections that the PLACE in buffer[start:stop] names. Raises BadFrame.

        The bytes stay as they are until the frame is answered.
        """
        self.check(slot)
        if stop - start != PLACE.size:
            raise BadFrame(f"a place of {stop - start} bytes")
        begin, end = PLACE.unpack_from(buffer, start)
        if not begin <= end <= self._layout.slot_bytes:
            raise BadFrame(f"bytes {begin} to {end} of a slot of {self._layout.slot_bytes}")
        base = self._layout.sent_at(slot)
        return self._map, base + begin, base + end

    def place(self, slot: int, pieces: Sequence[Any]) -> Sequence[Any]:
        """The pieces of an answer to be sent: as they are, or a PLACE for those that were put into the slot.

        They begin with bytes that begin with the HEADER.
        """
        length, batch, kind, _, _, micros = HEADER.unpack_from(pieces[0])
        if not self._threshold_bytes < length <= self._layout.slot_bytes:
            return pieces
        body = [memoryview(pieces[0])[HEADER.size :], *pieces[1:]]
        if not fill(self._fd, self._layout.answer_at(slot), body, length):
            return pieces
        return [HEADER.pack(PLACE.size, batch, kind, SLOT, slot, micros) + PLACE.pack(0, length)]

    def close(self) -> None:
        """The proxy is gone."""
        os.close(self._fd)
        self._map = memoryview(b"")


class Meeting(NamedTuple):
    """What came first on a connection: `size` bytes of frames or, `attached`, an offer of memory that was answered."""

    size: int
    attached: bool
    slots: Slots | None

    @classmethod
    def of(cls, sock: socket.socket, room: memoryview) -> Self:
        """Reads once. Raises OSError as `recv_into`, BadFrame for an offer that is none."""
        space = socket.CMSG_SPACE(MAX_DESCRIPTORS * array("i").itemsize)
        count, ancillary, flags, _ = sock.recvmsg_into([room], space, socket.MSG_CMSG_CLOEXEC)
        descriptors, cut = _descriptors(ancillary), bool(flags & socket.MSG_CTRUNC)
        if not (descriptors or cut):
            return cls(count, False, None)
        slots = _adopt(room[:count], descriptors, cut=cut)
        try:
            sock.send(HEADER.pack(0, 0, ATTACH, slots is not None, 0, 0))
        except OSError:
            if slots is not None:
                slots.close()
            raise
        return cls(0, True, slots)


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found = array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return found.tolist()


def _adopt(frame: memoryview, descriptors: list[int], *, cut: bool) -> Slots | None:
    """The slots an ATTACH frame offers; None when they cannot be mapped. Raises BadFrame.

    cut: descriptors are missing, as when this process may open no more files: what is left says nothing.
    """
    try:
        if len(frame) != HEADER.size + MEMORY.size or (len(descriptors) > 1 and not cut):
            raise BadFrame("a descriptor with something else than an offer of memory")
        length, _, kind, flags, slot, _ = HEADER.unpack_from(frame)
        if (length, kind, flags, slot) != (MEMORY.size, ATTACH, 0, 0):
            raise BadFrame("a descriptor with something else than an offer of memory")
        if cut:
            return None
        fd = descriptors[0]
        slots, threshold_bytes, slot_bytes = MEMORY.unpack_from(frame, HEADER.size)
        layout = Layout(slots, slot_bytes)
        if not is_sound(fd, layout):
            raise BadFrame("memory that is not sealed, or of another size than was said")
        try:
            adopted = Slots(fd, layout, threshold_bytes)
        except OSError:
            return None
        descriptors.clear()
    finally:
        for unused in descriptors:
            os.close(unused)
    return adopted
