"""Tests of `workers.memory`."""

import errno
import fcntl
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.memory import ALIGNMENT, MAX_PIECES, PAGE_BYTES, Layout, aligned, create, fill, is_sound

LAYOUT = Layout(3, 1 << 20)


@pytest.fixture
def fd() -> Iterator[int]:
    made = create(LAYOUT)
    yield made
    os.close(made)


@given(st.integers(1, 64), st.integers(1, 1 << 16))
def test_places_are_side_by_side_and_fill_the_whole(slots: int, pages: int) -> None:
    layout = Layout(slots, pages * PAGE_BYTES)
    places = sorted(at(slot) for at in (layout.sent_at, layout.answer_at) for slot in range(1, slots + 1))
    assert places == list(range(0, layout.size, layout.slot_bytes))
    assert [layout.answer_at(slot) >= layout.answers_at for slot in range(1, slots + 1)] == [True] * slots


@given(st.integers(0, 10_000))
def test_what_follows_a_head_is_aligned(head_bytes: int) -> None:
    assert (aligned(head_bytes) + head_bytes) % ALIGNMENT == 0
    assert 0 <= aligned(head_bytes) < ALIGNMENT


def test_nobody_can_change_the_size(fd: int) -> None:
    assert is_sound(fd, LAYOUT)
    for size in (0, LAYOUT.size - PAGE_BYTES, LAYOUT.size + PAGE_BYTES):
        with pytest.raises(PermissionError):
            os.ftruncate(fd, size)
    with pytest.raises(PermissionError):
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)


def test_memory_takes_no_room_before_it_is_used(fd: int) -> None:
    assert os.fstat(fd).st_blocks == 0
    assert fill(fd, LAYOUT.answer_at(3), [b"x"], 1)
    assert os.fstat(fd).st_blocks * 512 == PAGE_BYTES


@pytest.mark.parametrize(
    "layout",
    [
        Layout(2, 1 << 20),
        Layout(3, 1 << 21),
        Layout(6, 1 << 19),
        Layout(0, 1 << 20),
        Layout(-3, -(1 << 20)),
        Layout(65, 1 << 12),
    ],
)
def test_memory_of_another_layout_is_not_sound(fd: int, layout: Layout) -> None:
    assert is_sound(fd, layout) == (layout.size == LAYOUT.size and layout.slots > 0)


def test_memory_that_may_shrink_or_is_none_is_not_sound() -> None:
    unsealed = os.memfd_create("unsealed", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    nothing = os.open(os.devnull, os.O_RDWR)
    try:
        os.ftruncate(unsealed, LAYOUT.size)
        assert not is_sound(unsealed, LAYOUT)
        fcntl.fcntl(unsealed, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        assert not is_sound(unsealed, LAYOUT)
        assert not is_sound(nothing, LAYOUT)
    finally:
        os.close(unsealed)
        os.close(nothing)


def test_memory_that_cannot_be_made_leaves_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.EFBIG, "File too large")

    before = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(os, "ftruncate", fails)
    with pytest.raises(OSError, match="too large"):
        create(LAYOUT)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("count", [0, 1, 3, MAX_PIECES + 1])
def test_pieces_of_any_kind_are_written_one_behind_the_other(fd: int, count: int) -> None:
    pieces: list[Any] = [np.arange(4, dtype="<u2"), b"", memoryview(b"abc")[1:], np.zeros((0, 3)), *[b"x"] * count]
    expected = b"".join(pieces)
    assert fill(fd, 8192, pieces, len(expected))
    with mmap.mmap(fd, 3 * 8192, mmap.MAP_SHARED, mmap.PROT_READ) as mapped:
        assert mapped[8192 : 8192 + len(expected)] == expected


def test_where_memory_is_short_nothing_is_raised(fd: int) -> None:
    assert not fill(fd, LAYOUT.size, [b"x"], 1), "beyond the end"
    read_only = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    try:
        assert not fill(read_only, 0, [b"x"], 1)
    finally:
        os.close(read_only)
