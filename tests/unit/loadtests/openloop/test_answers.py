"""Answers are read whatever way the server writes them."""

import struct

import pytest
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from loadtests.openloop import frames
from loadtests.openloop.answers import Answers, Unreadable, status_of
from loadtests.openloop.frames import DATA, END_HEADERS, END_STREAM, HEADERS, frame

Fields = list[tuple[str, str]]
BEGIN: Fields = [(":status", "200"), ("content-type", "application/grpc")]


class Server:
    """Writes answers."""

    def __init__(self) -> None:
        self._encoder = Encoder()

    def answer(
        self, stream: int, status: int = 0, message: bytes = b"\0\0\0\0\1x", more: Fields | None = None
    ) -> bytes:
        """Headers, one message, trailers."""
        trailers = [("grpc-status", str(status)), *(more or [])]
        return (
            frame(HEADERS, END_HEADERS, stream, self._encoder.encode(BEGIN))
            + frame(DATA, 0, stream, message)
            + frame(HEADERS, END_HEADERS | END_STREAM, stream, self._encoder.encode(trailers))
        )

    def refusal(self, stream: int, fields: Fields) -> bytes:
        """Trailers only."""
        return frame(HEADERS, END_HEADERS | END_STREAM, stream, self._encoder.encode(fields))


@given(st.lists(st.tuples(st.integers(0, 16), st.integers(0, 3)), max_size=30), st.data())
def test_every_status_is_found_however_the_bytes_are_cut(calls: list[tuple[int, int]], data: st.DataObject) -> None:
    server, answers = Server(), Answers()
    sent = b"".join(
        server.answer(2 * number + 1, status, more=[("x-id", str(extra))])
        for number, (status, extra) in enumerate(calls)
    )
    position = 0
    while position < len(sent):
        size = data.draw(st.integers(1, len(sent)))
        answers.feed(sent[position : position + size])
        position += size
    names = ["OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"]
    found = [(stream, name) for stream, name in answers.ended]
    assert [stream for stream, _ in found] == [2 * number + 1 for number in range(len(calls))]
    assert all(name == names[status] for (_, name), (status, _) in zip(found, calls, strict=True) if status < 7)
    assert answers.data_bytes == 6 * len(calls)


def test_a_block_that_changed_the_table_is_not_looked_up() -> None:
    """The same indices mean something else once the table has moved on; a full table keeps its length."""
    server, answers = Server(), Answers()
    for number in range(400):
        answers.feed(server.answer(2 * number + 1, number % 17, more=[("x-id", f"{number:064}")]))
    assert [name for _, name in answers.ended[:17]] == [name for _, name in answers.ended[17:34]]
    assert answers.ended[-1][1] == answers.ended[399 % 17][1]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([*BEGIN, ("grpc-status", "8"), ("grpc-message", "full")], "RESOURCE_EXHAUSTED"),
        ([*BEGIN, ("grpc-status", "99")], "UNKNOWN"),
        ([*BEGIN, ("grpc-status", "no")], "UNKNOWN"),
        ([(":status", "503")], "UNAVAILABLE"),
        ([(":status", "418")], "UNKNOWN"),
        ([(":status", "200")], "UNKNOWN"),
    ],
)
def test_trailers_only(fields: Fields, status: str) -> None:
    answers = Answers()
    answers.feed(Server().refusal(1, fields))
    assert answers.ended == [(1, status)]


def test_a_block_in_pieces_with_padding() -> None:
    answers, block = Answers(), Encoder().encode([*BEGIN, ("grpc-status", "5")])
    padded = bytes([3]) + block[:4] + bytes(3)
    answers.feed(frame(HEADERS, END_STREAM | frames.PADDED, 7, padded))
    answers.feed(frame(frames.CONTINUATION, END_HEADERS, 7, block[4:]))
    assert answers.ended == [(7, "NOT_FOUND")]


def test_a_stream_without_trailers_or_reset_is_an_error() -> None:
    answers = Answers()
    answers.feed(frame(DATA, END_STREAM, 1, b"x"))
    answers.feed(frame(frames.RST_STREAM, 0, 3, struct.pack(">L", 7)))
    answers.feed(frame(frames.RST_STREAM, 0, 5, struct.pack(">L", 2)))
    assert answers.ended == [(1, "INTERNAL"), (3, "UNAVAILABLE"), (5, "INTERNAL")]


def test_what_the_server_says_about_itself() -> None:
    answers = Answers()
    pairs = struct.pack(">HLHLHLHL", 1, 100, 3, 128, 4, 1 << 20, 9, 9)
    answers.feed(frame(frames.SETTINGS, 0, 0, pairs) + frame(frames.SETTINGS, frames.ACK, 0))
    assert answers.greeted
    assert (answers.table_bytes, answers.max_streams, answers.stream_window_bytes) == (100, 128, 1 << 20)
    answers.feed(frame(frames.WINDOW_UPDATE, 0, 0, struct.pack(">L", 1000)))
    answers.feed(frame(frames.WINDOW_UPDATE, 0, 1, struct.pack(">L", 1000)))
    assert answers.window_bytes == 66535
    answers.feed(frame(frames.PING, 0, 0, b"12345678"))
    acks = frame(frames.SETTINGS, frames.ACK, 0) + frame(frames.PING, frames.ACK, 0, b"12345678")
    assert bytes(answers.control) == acks
    answers.feed(frame(frames.GOAWAY, 0, 0, struct.pack(">LL", 9, 0)))
    assert answers.goaway == 9


def test_the_window_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtests.openloop.answers.REPLENISH_BYTES", 10)
    answers = Answers()
    answers.feed(frame(DATA, 0, 1, bytes(11)))
    assert bytes(answers.control) == frames.window_update(11)


@pytest.mark.parametrize("data", [frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff"), frame(5, 4, 1, b"")])
def test_what_no_client_can_read(data: bytes) -> None:
    with pytest.raises(Unreadable):
        Answers().feed(data)


def test_headers_of_an_answer_that_goes_on_say_no_status() -> None:
    assert status_of({b":status": b"200"}) is None
