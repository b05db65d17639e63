"""Tests of `workers.connection`."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests import frames
from workers import connection as module
from workers import wire
from workers.connection import BUFFER_BYTES, Connection
from workers.errors import BadFrame


@pytest.fixture
def pair() -> Iterator[tuple[Connection, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    theirs.setblocking(False)
    connection = Connection(ours)
    yield connection, theirs
    connection.close()
    theirs.close()


def big(batch: int, size: int) -> bytes:
    return frames.run(batch, {"X": np.full((1, size), batch, np.uint8)})


def taken(connection: Connection) -> list[bytes]:
    found = []
    while (span := connection.frame()) is not None:
        found.append(bytes(connection.buffer[span[0] : span[1]]))
    return found


def exchange(connection: Connection, theirs: socket.socket, data: bytes) -> list[bytes]:
    """Writes and receives in turns until all is written and received."""
    found = []
    view = memoryview(data)
    left = len(data)
    while left:
        with contextlib.suppress(BlockingIOError):
            view = view[theirs.send(view) :] if view else view
        before = connection._end - connection._start
        assert connection.receive()
        left -= connection._end - connection._start - before
        found += taken(connection)
    return found


def test_frames_come_out_whole_however_they_are_cut(pair: tuple[Connection, socket.socket]) -> None:
    connection, theirs = pair
    data = big(1, 10) + big(2, 20)
    for byte in data[:-1]:
        theirs.send(bytes([byte]))
        assert connection.receive()
        if connection.has_frame():
            assert taken(connection) == [big(1, 10)]
    theirs.send(data[-1:])
    assert connection.receive()
    assert taken(connection) == [big(2, 20)]
    assert not connection.has_frame()


def test_several_frames_in_one_piece_come_out_in_order(pair: tuple[Connection, socket.socket]) -> None:
    connection, theirs = pair
    theirs.send(b"".join(big(number, 50) for number in range(10)))
    connection.receive()
    assert taken(connection) == [big(number, 50) for number in range(10)]


def kinds(data: list[bytes]) -> list[tuple[int, int]]:
    return [(wire.HEADER.unpack_from(each)[1], each[wire.KIND_AT]) for each in data]


def cancel(batch: int) -> bytes:
    return frames.frame(wire.CANCEL, batch)


def test_a_frame_that_waits_is_cancelled_and_stays_in_its_place(pair: tuple[Connection, socket.socket]) -> None:
    connection, theirs = pair
    theirs.send(big(1, 10) + big(2, 10) + big(3, 10))
    connection.receive()
    theirs.send(cancel(2)[:7])
    connection.receive()
    theirs.send(cancel(2)[7:] + big(4, 10))
    connection.receive()
    assert kinds(taken(connection)) == [(1, wire.RUN), (2, wire.CANCEL), (3, wire.RUN), (4, wire.RUN)]


def test_a_cancel_of_what_has_begun_or_never_came_is_nothing(pair: tuple[Connection, socket.socket]) -> None:
    connection, theirs = pair
    theirs.send(big(1, 10) + big(2, 10))
    connection.receive()
    begin, stop = connection.frame() or (0, 0)
    theirs.send(cancel(1) + cancel(99) + cancel(3))
    connection.receive()
    assert connection.buffer[begin:stop] == big(1, 10)
    theirs.send(big(3, 10))
    connection.receive()
    assert kinds(taken(connection)) == [(2, wire.RUN), (3, wire.RUN)]
    assert not connection.has_frame()


def test_cancels_alone_are_no_frames(pair: tuple[Connection, socket.socket]) -> None:
    connection, theirs = pair
    theirs.send(cancel(1) * 3)
    connection.receive()
    assert not connection.has_frame()
    theirs.send(big(2, 10))
    connection.receive()
    assert taken(connection) == [big(2, 10)]


def test_while_frames_wait_no_more_is_read_than_the_buffer_holds(pair: tuple[Connection, socket.socket]) -> None:
    connection, theirs = pair
    stream = b"".join(big(number, 60_000) for number in range(12))
    sent = 0
    for _ in range(100):
        with contextlib.suppress(BlockingIOError):
            sent += theirs.send(stream[sent:])
        assert connection.receive()
    assert len(connection.buffer) == BUFFER_BYTES
    assert sent < len(stream)
    found = taken(connection)
    assert len(found) == BUFFER_BYTES // len(big(0, 60_000))
    while len(found) < 12:
        with contextlib.suppress(BlockingIOError):
            sent += theirs.send(stream[sent:])
        assert connection.receive()
        found += taken(connection)
    assert found == [big(number, 60_000) for number in range(12)]


def test_a_cancel_behind_a_large_frame_is_seen_before_that_is_run(pair: tuple[Connection, socket.socket]) -> None:
    connection, theirs = pair
    data = big(1, 3 * BUFFER_BYTES) + cancel(1)
    view = memoryview(data)
    while not connection.has_frame():
        with contextlib.suppress(BlockingIOError):
            view = view[theirs.send(view) :] if view else view
        connection.receive()
    connection.receive()  # the loop's look before it runs
    assert kinds(taken(connection)) == [(1, wire.CANCEL)]


def test_frames_before_garbage_come_out(pair: tuple[Connection, socket.socket]) -> None:
    connection, theirs = pair
    theirs.send(big(1, 10) + bytes(64))
    assert connection.receive()
    assert connection.receive(), "nothing more is read"
    assert connection.has_frame()
    assert connection.frame() is not None
    for look in (connection.has_frame, connection.frame):
        with pytest.raises(BadFrame):
            look()


def test_nothing_to_read_is_not_the_end(pair: tuple[Connection, socket.socket]) -> None:
    connection, theirs = pair
    assert connection.receive()
    theirs.close()
    assert not connection.receive()


def test_a_frame_larger_than_the_buffer_makes_it_grow_and_shrink_again(
    pair: tuple[Connection, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SPARE_FRAMES", 3)
    connection, theirs = pair
    large = [big(number, 5 * BUFFER_BYTES) for number in (1, 2)]
    assert exchange(connection, theirs, big(0, 100) + large[0] + large[1]) == [big(0, 100), *large]
    assert len(connection.buffer) > BUFFER_BYTES
    for number in range(6):
        assert exchange(connection, theirs, big(number, 10)) == [big(number, 10)]
    assert len(connection.buffer) == BUFFER_BYTES


def test_a_buffer_that_is_needed_now_and_then_stays(
    pair: tuple[Connection, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SPARE_FRAMES", 3)
    connection, theirs = pair
    large = big(1, 5 * BUFFER_BYTES)
    assert exchange(connection, theirs, large) == [large]
    grown = connection.buffer
    for _ in range(4):
        for frame in (big(2, 10), big(3, 10), large):
            assert exchange(connection, theirs, frame) == [frame]
    assert connection.buffer is grown


def test_a_length_that_lies_costs_no_memory(pair: tuple[Connection, socket.socket]) -> None:
    connection, theirs = pair
    theirs.send(wire.HEADER.pack(wire.MAX_FRAME_BYTES, 1, wire.RUN, 0, 0, 0) + bytes(1000))
    for _ in range(3):
        assert connection.receive()
    assert len(connection.buffer) == BUFFER_BYTES
    assert connection.frame() is None


def test_a_frame_for_which_memory_is_short_is_refused_and_the_next_is_whole(
    pair: tuple[Connection, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    connection, theirs = pair

    def short(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Connection, "_replace", short)
    data = big(1, 100) + big(2, 3 * BUFFER_BYTES) + cancel(1) + big(3, 100)
    found, view = list[bytes](), memoryview(data)
    while len(found) < 3:
        with contextlib.suppress(BlockingIOError):
            view = view[theirs.send(view) :] if view else view
        assert connection.receive()
        found += taken(connection)
    assert (found[0], found[2]) == (big(1, 100), big(3, 100))
    assert found[1][: wire.KIND_AT] == big(2, 3 * BUFFER_BYTES)[: wire.KIND_AT]
    assert len(found[1]) == wire.HEADER.size
    assert len(connection.buffer) == BUFFER_BYTES


def test_a_peer_may_leave_in_the_middle_of_a_frame_that_was_refused(pair: tuple[Connection, socket.socket]) -> None:
    connection, theirs = pair
    theirs.send(big(1, 1000)[:500])
    connection.receive()
    connection._refuse()
    assert len(taken(connection)) == 1
    assert connection.receive(), "nothing is there"
    theirs.close()
    assert not connection.receive()


def test_garbage_is_found_with_the_header(pair: tuple[Connection, socket.socket]) -> None:
    connection, theirs = pair
    theirs.send(b"GET / HTTP/1.1\r\nHost: worker\r\n\r\n")
    connection.receive()
    with pytest.raises(BadFrame):
        connection.has_frame()
    with pytest.raises(BadFrame):
        connection.frame()


def test_answers_that_are_not_taken_are_kept_in_order(pair: tuple[Connection, socket.socket]) -> None:
    connection, theirs = pair
    random = np.random.default_rng(0)
    array = random.integers(0, 255, (2000, 4000), np.uint8).astype(np.float16)
    sent: list[list[Any]] = [[b"head", array], [b"", np.zeros((0, 3))], [b"tail", np.array(True)], [b"end"]]
    for pieces in sent:
        assert connection.send(pieces)
    expected = b"head" + array.tobytes() + b"tail\x01end"
    assert connection.draining
    received = bytearray()
    while len(received) < len(expected):
        received += theirs.recv(1 << 20)
        assert connection.flush()
    assert not bool(connection.draining)
    assert received == expected


def test_more_pieces_than_one_call_takes_are_joined(pair: tuple[Connection, socket.socket]) -> None:
    connection, theirs = pair
    assert connection.send([b"head", *(np.full(1, number, np.uint16) for number in range(2000))])
    assert theirs.recv(1 << 20) == b"head" + np.arange(2000, dtype=np.uint16).tobytes()


def test_a_peer_that_left_is_noticed_when_sending(pair: tuple[Connection, socket.socket]) -> None:
    connection, theirs = pair
    assert connection.send([bytes(8 << 20)])
    theirs.close()
    assert not connection.flush()
    connection._unsent.clear()
    assert not connection.send([b"more"])
