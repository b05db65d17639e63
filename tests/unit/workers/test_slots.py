"""Tests of `workers.slots`."""

import fcntl
import mmap
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import frames
from workers import slots as module
from workers import wire
from workers.connection import Connection
from workers.errors import BadFrame
from workers.memory import SEALS, Layout, create, fill
from workers.slots import Slots
from workers.wire import HEADER, MEMORY, PLACE

LAYOUT = Layout(2, 1 << 16)
OFFER = frames.frame(wire.ATTACH, 0, MEMORY.pack(LAYOUT.slots, 100, LAYOUT.slot_bytes))
ACCEPTED, DECLINED = (HEADER.pack(0, 0, wire.ATTACH, flag, 0, 0) for flag in (1, 0))


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture(autouse=True)
def _nothing_leaks() -> Iterator[None]:
    before = descriptors()
    yield
    assert descriptors() == before


@pytest.fixture
def pair() -> Iterator[tuple[Connection, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    theirs.settimeout(30)
    connection = Connection(ours)
    yield connection, theirs
    connection.close()
    theirs.close()


@pytest.fixture
def fd() -> Iterator[int]:
    made = create(LAYOUT)
    yield made
    os.close(made)


def unsealed() -> int:
    fd = os.memfd_create("unsealed", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, LAYOUT.size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS & ~fcntl.F_SEAL_SHRINK)
    return fd


def test_an_offer_is_taken_and_frames_follow(pair: tuple[Connection, socket.socket], fd: int) -> None:
    connection, theirs = pair
    socket.send_fds(theirs, [OFFER], [fd])
    theirs.send(frames.run(1, {"X": np.zeros((1, 3))}))
    assert connection.receive()
    assert connection.slots is not None
    assert theirs.recv(100) == ACCEPTED
    assert not connection.has_frame()
    assert connection.receive()
    assert connection.has_frame()


def test_whoever_offers_nothing_is_served_over_the_socket(pair: tuple[Connection, socket.socket]) -> None:
    connection, theirs = pair
    assert connection.receive(), "nothing there yet"
    theirs.send(frames.run(1, {"X": np.zeros((1, 3))}))
    assert connection.receive()
    assert connection.has_frame()
    assert connection.slots is None


def test_memory_that_cannot_be_mapped_is_declined(
    pair: tuple[Connection, socket.socket], fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise OSError("no memory")

    monkeypatch.setattr(mmap, "mmap", fails)
    connection, theirs = pair
    socket.send_fds(theirs, [OFFER], [fd])
    assert connection.receive()
    assert theirs.recv(100) == DECLINED
    assert connection.slots is None


def test_a_proxy_that_left_after_its_offer(pair: tuple[Connection, socket.socket], fd: int) -> None:
    connection, theirs = pair
    socket.send_fds(theirs, [OFFER], [fd])
    theirs.close()
    assert not connection.receive()


@pytest.mark.parametrize(
    "offer",
    [
        b"x",
        frames.run(1, {"X": np.zeros((1, 3))}),
        OFFER + b"x",
        OFFER[:-1],
        OFFER.replace(MEMORY.pack(2, 100, 1 << 16), MEMORY.pack(4, 100, 1 << 16)),
        OFFER.replace(MEMORY.pack(2, 100, 1 << 16), MEMORY.pack(0, 100, 1 << 16)),
        HEADER.pack(MEMORY.size, 0, wire.ATTACH, 1, 0, 0) + OFFER[HEADER.size :],
        HEADER.pack(MEMORY.size, 0, wire.RUN, 0, 0, 0) + OFFER[HEADER.size :],
    ],
)
def test_an_offer_that_is_none_is_a_bad_frame(pair: tuple[Connection, socket.socket], fd: int, offer: bytes) -> None:
    connection, theirs = pair
    socket.send_fds(theirs, [offer], [fd])
    with pytest.raises(BadFrame):
        connection.receive()


def test_memory_that_could_shrink_is_a_bad_frame(pair: tuple[Connection, socket.socket]) -> None:
    connection, theirs = pair
    fd = unsealed()
    socket.send_fds(theirs, [OFFER], [fd])
    os.close(fd)
    with pytest.raises(BadFrame, match="not sealed"):
        connection.receive()


def test_two_descriptors_are_a_bad_frame(pair: tuple[Connection, socket.socket], fd: int) -> None:
    connection, theirs = pair
    socket.send_fds(theirs, [OFFER], [fd, fd])
    with pytest.raises(BadFrame):
        connection.receive()


def test_an_offer_whose_descriptor_got_lost_is_declined(pair: tuple[Connection, socket.socket], fd: int) -> None:
    """As when the worker may open no more files: the system says that descriptors are missing."""
    connection, theirs = pair
    socket.send_fds(theirs, [OFFER], [fd] * (module.MAX_DESCRIPTORS + 4))
    assert connection.receive()
    assert theirs.recv(1000) == DECLINED
    assert connection.slots is None
    theirs.send(frames.run(7, {"X": np.zeros((1, 2), np.uint8)}))
    assert connection.receive()
    assert connection.has_frame()


def test_an_offer_without_memory_or_a_second_one_is_a_bad_frame(
    pair: tuple[Connection, socket.socket], fd: int
) -> None:
    connection, theirs = pair
    socket.send_fds(theirs, [OFFER], [fd])
    assert connection.receive()
    socket.send_fds(theirs, [OFFER], [fd])
    assert connection.receive()
    with pytest.raises(BadFrame, match="unknown kind"):
        connection.frame()


@pytest.fixture
def shared(fd: int) -> Iterator[Slots]:
    made = Slots(os.dup(fd), LAYOUT, 100)
    yield made
    made.close()


def test_sections_are_read_where_they_lie(shared: Slots, fd: int) -> None:
    fill(fd, LAYOUT.sent_at(2) + 5, [b"section"], 7)
    buffer, start, stop = shared.sections(2, b"--" + PLACE.pack(5, 12), 2, 2 + PLACE.size)
    assert bytes(buffer[start:stop]) == b"section"
    assert buffer.readonly


@pytest.mark.parametrize(
    ("slot", "place"),
    [
        (0, PLACE.pack(0, 1)),
        (3, PLACE.pack(0, 1)),
        (1, PLACE.pack(2, 1)),
        (1, PLACE.pack(0, LAYOUT.slot_bytes + 1)),
        (1, PLACE.pack(0, 1)[:-1]),
    ],
)
def test_a_place_that_is_none_is_a_bad_frame(shared: Slots, slot: int, place: bytes) -> None:
    with pytest.raises(BadFrame):
        shared.sections(slot, place, 0, len(place))


def result(array: np.ndarray[Any, Any]) -> list[Any]:
    return [HEADER.pack(4 + array.nbytes, 7, wire.RESULT, 0, 0, 9) + b"head", array]


def test_a_large_answer_goes_into_its_slot(shared: Slots, fd: int) -> None:
    (sent,) = shared.place(2, result(np.arange(50, dtype="<u2")))
    length, batch, kind, flags, slot, micros = HEADER.unpack_from(sent)
    assert (length, batch, kind, flags, slot, micros) == (PLACE.size, 7, wire.RESULT, wire.SLOT, 2, 9)
    start, stop = PLACE.unpack_from(sent, HEADER.size)
    data = os.pread(fd, stop - start, LAYOUT.answer_at(2) + start)
    assert data == b"head" + np.arange(50, dtype="<u2").tobytes()


@pytest.mark.parametrize("size", [0, 96, LAYOUT.slot_bytes - 3])
def test_an_answer_that_is_small_or_fits_no_slot_goes_over_the_socket(shared: Slots, size: int) -> None:
    pieces = result(np.zeros(size, np.uint8))
    assert shared.place(1, pieces) is pieces


def test_an_answer_there_is_no_memory_for_goes_over_the_socket(shared: Slots, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "fill", lambda *_: False)
    pieces = result(np.zeros(500, np.uint8))
    assert shared.place(1, pieces) is pieces
