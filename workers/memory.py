"""The memory a proxy and a worker share for large tensors: what lies where, used by both sides.

It is a memfd: it has no name, goes with its last descriptor, and is sealed, so that neither side can make it shorter
and the other die of SIGBUS. Both write by `pwritev`, never through a mapping: where memory is short that is an error
which sends the tensors over the socket instead, and no signal either. So mappings are for reading only.
"""

import fcntl
import os
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

MAX_SLOTS: Final = 64
MAX_SLOT_BYTES: Final = 0xFFFF_FFFF
ALIGNMENT: Final = 64
"""Bytes; tensors begin at a cache line."""
SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
PAGE_BYTES: Final = 4096
MAX_PIECES: Final = 1024
"""Of one pwritev (Linux, IOV_MAX)."""


class Layout(NamedTuple):
    """First the places of all slots for what the proxy sends, then those for the answers. Slots are numbered from 1."""

    slots: int
    slot_bytes: int

    @property
    def size(self) -> int:
        """Bytes of the whole."""
        return 2 * self.slots * self.slot_bytes

    @property
    def answers_at(self) -> int:
        """Where the places for answers begin."""
        return self.slots * self.slot_bytes

    def sent_at(self, slot: int) -> int:
        """Where the slot's place for what the proxy sends begins."""
        return (slot - 1) * self.slot_bytes

    def answer_at(self, slot: int) -> int:
        """Where the slot's place for the answer begins."""
        return self.answers_at + self.sent_at(slot)


def aligned(head_bytes: int) -> int:
    """Where in a place to begin with `head_bytes` so that what follows is aligned."""
    return -head_bytes % ALIGNMENT


def create(layout: Layout) -> int:
    """A descriptor of sealed memory that takes no room yet. Raises OSError."""
    fd = os.memfd_create("cutover-tensors", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, layout.size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    except OSError:
        os.close(fd)
        raise
    return fd


def is_sound(fd: int, layout: Layout) -> bool:
    """Whether the descriptor is of memory of exactly this layout, whose size nobody can change any more."""
    if not (0 < layout.slots <= MAX_SLOTS and 0 < layout.slot_bytes <= MAX_SLOT_BYTES):
        return False
    if layout.slot_bytes % PAGE_BYTES:
        return False
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS) & SEALS == SEALS and os.fstat(fd).st_size == layout.size
    except OSError:  # no memfd
        return False


def fill(fd: int, offset: int, pieces: Sequence[Any], size: int) -> bool:
    """Writes pieces of `size` bytes together, one behind the other; False when memory is short.

    Pieces are bytes, views or C-contiguous arrays.
    """
    if len(pieces) > MAX_PIECES:
        pieces = [b"".join(pieces)]
    try:
        return os.pwritev(fd, pieces, offset) == size
    except OSError:
        return False
