import struct
from itertools import pairwise

import pytest
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.load import BenchError
from tests.bench.raw_client import DATA, HEADERS, SETTINGS, WINDOW_UPDATE, frame, prefixed, window_update
from tests.bench.replies import ACK, GOAWAY, PING, REPLENISH_BYTES, RST_STREAM, Replies

HEAD = [(":status", "200"), ("content-type", "application/grpc")]
BODY = prefixed(b"message")


class Server:
    """Writes answers; its encoder uses the dynamic table, as grpc-core's does."""

    def __init__(self) -> None:
        self.encoder = Encoder()

    def answer(self, stream_id: int, trailers: list[tuple[str, str]] | None = None) -> bytes:
        trailers = trailers or [("grpc-status", "0")]
        head = frame(HEADERS, 4, stream_id, self.encoder.encode(HEAD))
        body = frame(DATA, 0, stream_id, BODY)
        return head + body + frame(HEADERS, 5, stream_id, self.encoder.encode(trailers))


@given(st.lists(st.integers(0, 400), max_size=8))
def test_answers_are_counted_however_they_are_cut(cuts: list[int]) -> None:
    server, replies = Server(), Replies()
    data = b"".join(server.answer(2 * number + 1) for number in range(8))
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for start, end in pairwise(edges):
        replies.feed(data[start:end])
    assert (replies.ended, replies.data_bytes) == (8, 8 * len(BODY))


def test_trailers_that_change_each_time_are_read_each_time() -> None:
    server, replies = Server(), Replies()
    for number in range(200):  # more than fit the dynamic table
        replies.feed(server.answer(2 * number + 1, [("grpc-status", "0"), ("x-number", f"{number:032}")]))
    assert replies.ended == 200
    with pytest.raises(BenchError, match="grpc-status 8: busy"):
        replies.feed(server.answer(401, [("grpc-status", "8"), ("grpc-message", "busy")]))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (frame(HEADERS, 5, 1, Encoder().encode([*HEAD, ("grpc-status", "12")])), "grpc-status 12"),
        (frame(HEADERS, 5, 1, Encoder().encode([(":status", "404")])), "HTTP status 404"),
        (frame(HEADERS, 5, 1, Encoder().encode(HEAD)), "without a grpc-status"),
        (frame(DATA, 1, 1, BODY), "flags 0x1"),
        (frame(DATA, 8, 1, b"\0" + BODY), "flags 0x8"),
        (frame(RST_STREAM, 0, 3, struct.pack(">L", 8)), "stream 3 was reset with 8"),
        (frame(GOAWAY, 0, 0, bytes(8) + b"enough"), "goodbye: enough"),
    ],
)
def test_anything_but_a_good_answer_ends_the_bench(data: bytes, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        Replies().feed(data)


def test_settings_and_pings_are_acknowledged() -> None:
    replies = Replies()
    replies.feed(frame(SETTINGS, 0, 0, struct.pack(">HL", 4, 1 << 20)) + frame(PING, 0, 0, b"12345678"))
    replies.feed(frame(SETTINGS, ACK, 0) + frame(PING, ACK, 0, bytes(8)))
    assert replies.control == frame(SETTINGS, ACK, 0) + frame(PING, ACK, 0, b"12345678")
    assert (replies.greeted, replies.stream_window_bytes) == (True, 1 << 20)


def test_windows_are_followed() -> None:
    replies = Replies()
    replies.feed(window_update(1000) + frame(WINDOW_UPDATE, 0, 1, struct.pack(">L", 7)))
    assert (replies.window_bytes, replies.stream_credit_bytes) == (65535 + 1000, 7)


def test_the_connection_window_is_opened_again() -> None:
    replies = Replies()
    replies.data_bytes = REPLENISH_BYTES
    replies.feed(frame(DATA, 0, 1, BODY))
    replies.feed(frame(DATA, 0, 1, BODY))
    assert replies.control == window_update(REPLENISH_BYTES + len(BODY))
