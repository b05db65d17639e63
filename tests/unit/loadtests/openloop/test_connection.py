"""One connection, with the test as its server."""

import struct
from typing import Any, cast

import pytest
from hpack import Encoder

from loadtests.openloop import frames
from loadtests.openloop.connection import Connection
from loadtests.openloop.frames import END_HEADERS, END_STREAM, HEADERS, SETTINGS, frame

MESSAGE = b"\0\0\0\0\1x"


class FakeTransport:
    def __init__(self) -> None:
        self.written = b""
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        self.aborted = True


class Talk:
    """A connection and what came of it."""

    def __init__(self, message: bytes = MESSAGE) -> None:
        self.answers: list[tuple[int, str]] = []
        self.lost: list[str] = []
        self.transport = FakeTransport()
        headers = frames.fields("localhost", "/a.B/C", 0, [])
        self.connection = Connection(headers, message, self._answered, lambda _, why: self.lost.append(why))
        self.connection.connection_made(cast("Any", self.transport))
        self._encoder = Encoder()

    def _answered(self, number: int, status: str, at_s: float) -> None:
        self.answers.append((number, status))

    def greet(self, *pairs: int) -> None:
        self.connection.data_received(frame(SETTINGS, 0, 0, struct.pack(">" + "HL" * (len(pairs) // 2), *pairs)))

    def answer(self, stream: int, status: int = 0) -> None:
        block = self._encoder.encode([(":status", "200"), ("grpc-status", str(status))])
        self.connection.data_received(frame(HEADERS, END_HEADERS | END_STREAM, stream, block))


async def test_calls_and_answers() -> None:
    talk = Talk()
    assert not talk.connection.has_room(10)
    talk.greet()
    await talk.connection.ready
    for number in (7, 8):
        talk.connection.send(number)
    assert talk.connection.in_flight == 2
    assert talk.transport.written.count(MESSAGE) == 2
    talk.answer(3)
    talk.answer(1, 8)
    talk.answer(1)  # twice: nobody's any more
    assert talk.answers == [(8, "OK"), (7, "RESOURCE_EXHAUSTED")]
    assert talk.connection.in_flight == 0


async def test_no_more_in_flight_than_either_side_allows() -> None:
    talk = Talk()
    talk.greet(3, 2)
    talk.connection.send(0)
    assert not talk.connection.has_room(1)
    talk.connection.send(1)
    assert not talk.connection.has_room(10)
    talk.answer(1)
    assert talk.connection.has_room(10)


async def test_what_the_window_has_no_room_for_follows_later() -> None:
    talk = Talk(bytes(40_000))
    talk.greet()
    talk.connection.send(0)
    talk.connection.send(1)
    sent = len(talk.transport.written)
    assert sent < 45_000
    talk.connection.data_received(frame(frames.WINDOW_UPDATE, 0, 0, struct.pack(">L", 40_000)))
    assert len(talk.transport.written) > sent + 40_000


async def test_a_message_larger_than_a_stream_may_send_is_refused() -> None:
    talk = Talk(bytes(70_000))
    talk.greet()
    with pytest.raises(ConnectionError, match="a request of 70000 bytes"):
        await talk.connection.ready
    assert talk.transport.aborted


async def test_goodbye_lets_those_end_that_the_server_has_seen() -> None:
    talk = Talk()
    talk.greet()
    for number in range(3):
        talk.connection.send(number)
    talk.connection.data_received(frame(frames.GOAWAY, 0, 0, struct.pack(">LL", 3, 0)))
    assert talk.answers == [(2, "UNAVAILABLE")]
    assert talk.lost == ["the server said goodbye"]
    assert not talk.connection.has_room(10)
    talk.answer(1)
    talk.answer(3)
    talk.connection.connection_lost(None)
    assert talk.answers[1:] == [(0, "OK"), (1, "OK")]
    assert len(talk.lost) == 1


@pytest.mark.parametrize("how", ["closed", "unreadable"])
async def test_a_lost_connection_loses_its_calls(how: str) -> None:
    talk = Talk()
    talk.greet()
    talk.connection.send(5)
    if how == "closed":
        talk.connection.connection_lost(OSError("reset"))
    else:
        talk.connection.data_received(frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff"))
    assert talk.answers == [(5, "UNAVAILABLE")]
    assert len(talk.lost) == 1
    assert talk.transport.aborted


async def test_closing_is_nobodys_loss() -> None:
    talk = Talk()
    talk.greet()
    talk.connection.send(5)
    talk.connection.close()
    talk.connection.connection_lost(None)
    assert (talk.answers, talk.lost) == ([], [])
