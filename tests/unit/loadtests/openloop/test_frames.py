"""What the client sends is what RFC 9113 and gRPC over HTTP/2 ask for."""

import struct
from collections.abc import Iterator

import pytest
from hpack import Decoder
from hypothesis import given
from hypothesis import strategies as st

from loadtests.openloop import frames
from loadtests.openloop.frames import Calls


def cut(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """(type, flags, stream, payload) of every frame."""
    position = 0
    while position < len(data):
        word, flags, stream_id = frames.HEADER.unpack_from(data, position)
        start = position + frames.HEADER_BYTES
        position = start + (word >> 8)
        yield word & 0xFF, flags, stream_id, data[start:position]
    assert position == len(data)


@given(st.binary(min_size=5, max_size=60_000), st.integers(1, 12))
def test_every_call_is_its_headers_and_its_message(message: bytes, calls: int) -> None:
    headers = frames.fields("127.0.0.1:8001", "/a.B/C", 0.25, [("x-user-id", "u1")])
    rendered, decoder = Calls(headers, message), Decoder()
    for number in range(calls):
        first, *rest = cut(rendered.render(2 * number + 1))
        assert first[:3] == (frames.HEADERS, frames.END_HEADERS, 2 * number + 1)
        assert [(name, value) for name, value in decoder.decode(first[3])] == headers
        assert b"".join(payload for *_, payload in rest) == message
        assert all(len(payload) <= frames.DEFAULT_FRAME_BYTES for *_, payload in rest)
        assert [flags for _, flags, _, _ in rest] == [0] * (len(rest) - 1) + [frames.END_STREAM]
        assert {(kind, stream) for kind, _, stream, _ in rest} == {(frames.DATA, 2 * number + 1)}


def test_after_a_few_calls_a_block_is_nothing_but_indices() -> None:
    calls = Calls(frames.fields("localhost", "/a.B/C", 0, []), b"\0\0\0\0\0")
    blocks = [next(cut(calls.render(2 * number + 1)))[3] for number in range(10)]
    assert len(blocks[-1]) == 6
    assert len(set(blocks[2:])) == 1


@pytest.mark.parametrize("table_bytes", [0, 100])
def test_a_server_with_a_small_table_gets_blocks_that_fit_it(table_bytes: int) -> None:
    headers = frames.fields("localhost", "/a.B/C", 0, [("x-user-id", "u" * 60)])
    calls, decoder = Calls(headers, b"\0\0\0\0\0", table_bytes), Decoder()
    decoder.max_allowed_table_size = table_bytes
    for number in range(10):
        block = next(cut(calls.render(2 * number + 1)))[3]
        assert [(name, value) for name, value in decoder.decode(block)] == headers


@given(st.floats(1e-9, 1e9))
def test_a_deadline_is_at_most_eight_digits_and_never_shorter(deadline_s: float) -> None:
    text = frames.grpc_timeout(deadline_s)
    assert 2 <= len(text) <= 9
    written_s = int(text[:-1]) * {"u": 1e-6, "m": 1e-3, "S": 1.0}[text[-1]]
    assert written_s >= min(deadline_s, 99_999_999) * (1 - 1e-9)


def test_the_greeting_opens_wide_windows() -> None:
    greeting = frames.greeting()
    assert greeting.startswith(frames.PREFACE)
    settings, update = cut(greeting[len(frames.PREFACE) :])
    assert settings[:3] == (frames.SETTINGS, 0, 0)
    assert dict(struct.iter_unpack(">HL", settings[3])) == {2: 0, 4: 2**31 - 1}
    assert update == (frames.WINDOW_UPDATE, 0, 0, struct.pack(">L", 2**31 - 1 - 65535))
