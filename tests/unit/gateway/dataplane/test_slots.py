"""Tests of `gateway.dataplane.slots`."""

import mmap
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from gateway.dataplane.slots import LAYOUT, Sharing, Slots
from workers import memory, wire

HEAD = b"h" * 52
KEPT = 3 * memory.PAGE_BYTES


@pytest.fixture
def slots() -> Iterator[Slots]:
    made = Slots(100)
    made.accepted()
    yield made
    if not made.closed:
        made.close()


def room(slots: Slots) -> int:
    return os.fstat(slots.fd).st_blocks * 512


def put(slots: Slots, size: int) -> None:
    """A batch of this size comes and goes."""
    slot = slots.take()
    assert slot is not None
    assert slot.put(b"", [bytes(size)], size)
    slot.give_back()


def test_a_large_batch_lies_in_the_slot_with_aligned_tensors(slots: Slots) -> None:
    slot = slots.take()
    assert slot is not None
    place = slot.put(HEAD, [b"a" * 100, memoryview(b"bc")], 154)
    start, stop = wire.PLACE.unpack(place)
    assert (start + len(HEAD)) % memory.ALIGNMENT == 0
    data = os.pread(slots.fd, stop - start, LAYOUT.sent_at(slot.number) + start)
    assert data == bytes(slot.sent(bytes(wire.HEADER.size) + place)) == HEAD + b"a" * 100 + b"bc"


@pytest.mark.parametrize("size", [0, 100, LAYOUT.slot_bytes, LAYOUT.slot_bytes + 1])
def test_what_is_small_or_fits_no_slot_travels(slots: Slots, size: int) -> None:
    slot = slots.take()
    assert slot is not None
    assert slot.put(HEAD, [b"never looked at"], size) == b""


def test_what_there_is_no_memory_for_travels(slots: Slots, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "fill", lambda *_: False)
    slot = slots.take()
    assert slot is not None
    assert slot.put(HEAD, [bytes(500)], 552) == b""


def test_a_slot_has_one_owner_and_the_last_one_given_back_is_next(slots: Slots) -> None:
    taken = [slots.take() for _ in range(LAYOUT.slots)]
    assert [slot and slot.number for slot in taken] == [1, 2, 3]
    assert slots.take() is None
    for slot in taken[:2]:
        assert slot is not None
        slot.give_back()
    assert [slots.take(), slots.take(), slots.take()] == [taken[1], taken[0], None]


def test_before_the_worker_takes_part_there_is_no_slot() -> None:
    slots = Slots(100)
    assert slots.take() is None
    slots.close()


def test_an_answer_is_read_where_it_lies(slots: Slots) -> None:
    slot = slots.take()
    assert slot is not None
    assert memory.fill(slots.fd, LAYOUT.answer_at(slot.number) + 3, [b"answer"], 6)
    assert bytes(slot.answer(b"--" + wire.PLACE.pack(3, 9), 2, 2 + wire.PLACE.size)) == b"answer"


@pytest.mark.parametrize(
    "place", [b"", wire.PLACE.pack(2, 1), wire.PLACE.pack(0, LAYOUT.slot_bytes + 1), wire.PLACE.pack(0, 1) + b"x"]
)
def test_an_answer_that_lies_nowhere_is_refused(slots: Slots, place: bytes) -> None:
    slot = slots.take()
    assert slot is not None
    with pytest.raises(ValueError, match=r"of a slot|a place of"):
        slot.answer(place, 0, len(place))


def test_memory_nobody_needs_goes_back(slots: Slots) -> None:
    put(slots, 10 * KEPT - 1)
    assert room(slots) == 10 * KEPT
    put(slots, KEPT - 1)
    slots.tidy()
    assert room(slots) == 10 * KEPT, "it was needed since the last look"
    put(slots, KEPT - 1)
    slots.tidy()
    assert room(slots) == KEPT
    slots.tidy()
    assert room(slots) == 0
    put(slots, KEPT)
    assert room(slots) == KEPT


def test_memory_of_answers_goes_back_too(slots: Slots) -> None:
    slot = slots.take()
    assert slot is not None
    memory.fill(slots.fd, LAYOUT.answer_at(slot.number), [bytes(KEPT)], KEPT)
    slot.answer(wire.PLACE.pack(0, KEPT), 0, wire.PLACE.size)
    slot.give_back()
    for _ in range(2):
        slots.tidy()
    assert room(slots) == 0


def test_memory_of_writes_that_came_to_nothing_goes_back_too(slots: Slots, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks_off(fd: int, offset: int, *_: object) -> bool:
        return os.pwrite(fd, bytes(KEPT), offset) < 0

    slot = slots.take()
    assert slot is not None
    monkeypatch.setattr(memory, "fill", breaks_off)
    assert slot.put(b"", [bytes(2 * KEPT)], 2 * KEPT) == b""
    os.pwrite(slots.fd, bytes(KEPT), LAYOUT.answer_at(slot.number))  # the worker's, of which nobody hears
    assert room(slots) == 2 * KEPT
    slot.give_back()
    for _ in range(2):
        slots.tidy()
    assert room(slots) == 0


def test_memory_in_use_stays(slots: Slots) -> None:
    slot = slots.take()
    assert slot is not None
    frame = bytes(wire.HEADER.size) + slot.put(HEAD, [b"x" * KEPT], KEPT + 52)
    for _ in range(3):
        slots.tidy()
    assert bytes(slot.sent(frame)) == HEAD + b"x" * KEPT


def test_who_still_reads_when_the_connection_ends_may_go_on(slots: Slots) -> None:
    slot = slots.take()
    assert slot is not None
    frame = bytes(wire.HEADER.size) + slot.put(HEAD, [b"x" * KEPT], KEPT + 52)
    slots.close()
    assert bytes(slot.sent(frame)) == HEAD + b"x" * KEPT
    slot.give_back()
    assert slots.take() is None


def test_nothing_is_left_of_a_connection() -> None:
    def mappings() -> int:
        return Path("/proc/self/maps").read_text().count("cutover-tensors")

    before, files = mappings(), len(list(Path("/proc/self/fd").iterdir()))
    slots = Slots(100)
    slots.accepted()
    put(slots, KEPT)
    slot = slots.take()
    assert mappings() == before + 1
    slots.close()
    assert slot is not None
    slot.give_back()
    del slot, slots
    assert (mappings(), len(list(Path("/proc/self/fd").iterdir()))) == (before, files)


def test_an_offer_is_a_frame_and_a_descriptor() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    slots = Sharing(1000).offer(ours)
    assert slots is not None
    data, (fd,), _, _ = socket.recv_fds(theirs, 1000, 4)
    body = wire.MEMORY.pack(LAYOUT.slots, 1000, LAYOUT.slot_bytes)
    assert data == wire.HEADER.pack(len(body), 0, wire.ATTACH, 0, 0, 0) + body
    assert memory.is_sound(fd, LAYOUT)
    os.close(fd)
    slots.close()
    ours.close()
    theirs.close()


def test_a_threshold_above_all_batches_can_still_be_offered() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    slots = Sharing(4 << 30).offer(ours)
    assert slots is not None
    assert slots.threshold_bytes == LAYOUT.slot_bytes
    for opened in (slots, ours, theirs):
        opened.close()


def test_nothing_is_offered_unless_wanted() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    assert Sharing(0).offer(ours) is None
    ours.close()
    assert theirs.recv(100) == b""
    theirs.close()


def test_memory_that_cannot_be_had_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: memory.Layout) -> int:
        raise OSError("no more")

    monkeypatch.setattr(memory, "create", fails)
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    sharing = Sharing(1000)
    with structlog.testing.capture_logs() as said:
        assert sharing.offer(ours) is None
        assert sharing.offer(ours) is None
    assert [line["error"] for line in said] == ["no more"]
    ours.close()
    theirs.close()


def test_a_mapping_or_an_offer_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    files = len(list(Path("/proc/self/fd").iterdir()))
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    theirs.close()
    with pytest.raises(OSError, match="pipe"):
        Sharing(1000).offer(ours)
    ours.close()

    def fails(*_: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr(mmap, "mmap", fails)
    with pytest.raises(OSError, match="no room"):
        Slots(1000)
    assert len(list(Path("/proc/self/fd").iterdir())) == files
