import struct

import pytest
from hpack import Decoder as Reference

from gateway.transport.h2.hpack import Decoder
from tests.bench.raw_client import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADER,
    HEADERS,
    PREFACE,
    Headers,
    Script,
    blocks,
    greeting,
    prefixed,
    render_bidi,
    render_many,
    render_unary,
)

CALLS = 120
"""More than fit the dynamic table, so that it evicts."""
PSEUDO = [":method", ":scheme", ":path", ":authority"]
NAMES = [*PSEUDO, "content-type", "user-agent", "te", "grpc-timeout", "traceparent", "x-request-id"]
CHANGING = {
    Headers.SAME: set(),
    Headers.LITERAL: {"x-request-id"},
    Headers.INDEXED: {"x-request-id"},
    Headers.CHURN: {"grpc-timeout", "traceparent", "x-request-id"},
}


def frames(data: bytes) -> list[tuple[int, int, int, bytes]]:
    found = []
    while data:
        word, flags, stream_id = HEADER.unpack_from(data)
        end = 9 + (word >> 8)
        found.append((word & 0xFF, flags, stream_id, data[9:end]))
        data = data[end:]
    return found


def items(script: Script) -> list[bytes]:
    starts = [0, *script.ends[:-1]]
    return [script.blob[start:end] for start, end in zip(starts, script.ends, strict=True)]


@pytest.mark.parametrize("kind", Headers)
def test_blocks_hold_ten_fields_of_which_the_said_ones_change(kind: Headers) -> None:
    decoder, reference = Decoder(), Reference()
    lists = []
    for block in blocks(render_unary("/a.B/C", kind, b"m", CALLS)):
        fields = decoder.decode(block)
        assert fields == [tuple(field) for field in reference.decode(block, raw=True)]
        assert [name.decode() for name, _ in fields] == NAMES
        lists.append(fields)
    values = {name: {dict(fields)[name.encode()] for fields in lists} for name in NAMES}
    assert {name for name, found in values.items() if len(found) > 1} == CHANGING[kind]
    assert len(values["x-request-id"]) == (1 if kind is Headers.SAME else CALLS)
    assert values[":path"] == {b"/a.B/C"}


@pytest.mark.parametrize("kind", Headers)
def test_blocks_enter_the_table_as_said(kind: Headers) -> None:
    decoder = Decoder()
    changed = []
    for block in blocks(render_unary("/a.B/C", kind, b"m", CALLS)):
        before = decoder.generation
        decoder.decode(block)
        changed.append(decoder.generation != before)
    assert all(changed) if kind in (Headers.INDEXED, Headers.CHURN) else not any(changed[1:])


def test_a_literal_is_marked_never_indexed_and_huffman_coded() -> None:
    _, block = blocks(render_unary("/a.B/C", Headers.LITERAL, b"m", 2))
    assert all(octet & 0x80 for octet in block[:9])
    literal = block[9:]
    assert literal[0] == 0x10
    assert literal[1] & 0x80
    assert literal[2 + (literal[1] & 0x7F)] & 0x80


def test_every_seed_makes_other_ids() -> None:
    one, other = (render_unary("/a.B/C", Headers.INDEXED, b"m", 2, seed).blob for seed in (1, 2))
    assert one != other
    assert one == render_unary("/a.B/C", Headers.INDEXED, b"m", 2, 1).blob


def test_unary_items_are_whole_calls_on_streams_of_their_own() -> None:
    script = render_unary("/a.B/C", Headers.SAME, b"message", 3)
    assert script.items == 3
    for number, item in enumerate(items(script)):
        head, body = frames(item)
        assert head[:3] == (HEADERS, END_HEADERS, 2 * number + 1)
        assert body == (DATA, END_STREAM, 2 * number + 1, prefixed(b"message"))
    assert (script.item_bytes, script.answer_bytes, script.tail) == (12, 12, b"")


def test_bidi_items_are_messages_of_one_stream() -> None:
    script = render_bidi("/a.B/C", b"message", 3)
    first, *rest = items(script)
    assert [frame[:3] for frame in frames(first)] == [(HEADERS, END_HEADERS, 1), (DATA, 0, 1)]
    assert [frames(item) for item in rest] == [[(DATA, 0, 1, prefixed(b"message"))]] * 2
    assert frames(script.tail) == [(DATA, END_STREAM, 1, b"")]
    assert sum(map(len, items(script))) == len(script.blob)


def test_many_is_one_call_with_an_answer_as_large_as_all_replies() -> None:
    script = render_many("/a.B/C", b"message", 5)
    assert [frame[:3] for frame in frames(script.blob)] == [(HEADERS, END_HEADERS, 1), (DATA, END_STREAM, 1)]
    assert (script.items, script.item_bytes, script.answer_bytes) == (1, 12, 60)


def test_the_greeting_opens_windows_to_their_end() -> None:
    assert greeting().startswith(PREFACE)
    settings, update = frames(greeting().removeprefix(PREFACE))
    assert dict(struct.iter_unpack(">HL", settings[3]))[4] == 2**31 - 1
    assert 65535 + int.from_bytes(update[3], "big") == 2**31 - 1
