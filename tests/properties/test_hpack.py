"""HPACK against the `hpack` package, in both directions, and against whatever bytes a peer may send."""

from collections.abc import Sequence

import pytest
from hpack import Decoder as ReferenceDecoder
from hpack import Encoder as ReferenceEncoder
from hpack import HPACKError, NeverIndexedHeaderTuple
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.huffman_table import decode_huffman
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.transport.h2 import huffman
from gateway.transport.h2.hpack import Decoder, Field, HeaderListTooLarge, HpackError, encode
from gateway.transport.h2.tables import STATIC_FIELDS

HUFFMAN = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
WIDE = {"max_list_bytes": 1 << 16, "max_fields": 1 << 16}
"""Limits as the reference has them."""

texts = st.text("abcdefghijklmnopqrstuvwxyz-0123456789", max_size=24).map(str.encode)
names = st.sampled_from([name for name, _ in STATIC_FIELDS]) | st.sampled_from([b"x-user-id", b"x-request-id"]) | texts
values = st.sampled_from([value for _, value in STATIC_FIELDS]) | texts | st.binary(max_size=300)
fields = st.lists(st.tuples(names, values), max_size=12)
sizes = st.integers(0, 400) | st.just(4096)


def plain(block_fields: Sequence[Sequence[bytes]]) -> list[Field]:
    return [(bytes(field[0]), bytes(field[1])) for field in block_fields]


def dynamic(decoder: Decoder) -> list[Field]:
    """The dynamic table."""
    return [(entry.name, entry.value) for entry in decoder._table[62:]]


def reference(decoder: ReferenceDecoder, block: bytes) -> list[Field] | None:
    """What the reference makes of the block; None: it refuses."""
    try:
        return plain(decoder.decode(block, raw=True))
    except HPACKError:
        return None


def ours(decoder: Decoder, block: bytes) -> list[Field] | None:
    try:
        return decoder.decode(block)
    except HpackError:
        return None


@settings(deadline=None)
@given(st.lists(st.tuples(fields, st.booleans(), st.lists(sizes, max_size=2, unique=True), st.booleans()), max_size=8))
def test_we_read_what_the_reference_writes(
    blocks: list[tuple[list[Field], bool, list[int], bool]],
) -> None:
    encoder, decoder = ReferenceEncoder(), Decoder(**WIDE)
    for block_fields, with_huffman, new_sizes, sensitive in blocks:
        for size in sorted(new_sizes):  # falling, the reference would write one that is no longer allowed
            if size != encoder.header_table_size:
                encoder.header_table_size = size
                decoder.set_max_table_size(size)
        sent = [NeverIndexedHeaderTuple(*field) for field in block_fields] if sensitive else block_fields
        assert decoder.decode(bytes(encoder.encode(sent, huffman=with_huffman))) == block_fields
        assert dynamic(decoder) == plain(encoder.header_table.dynamic_entries)


@settings(deadline=None)
@given(fields)
def test_the_reference_reads_what_we_write(block_fields: list[Field]) -> None:
    decoder = ReferenceDecoder()
    assert plain(decoder.decode(encode(block_fields), raw=True)) == block_fields
    assert not decoder.header_table.dynamic_entries


@settings(deadline=None)
@given(st.lists(fields, min_size=2, max_size=8))
def test_the_same_bytes_give_the_same_fields_while_the_generation_stays(lists: list[list[Field]]) -> None:
    """The promise that lets a connection keep decoded blocks by their bytes."""
    encoder, decoder = ReferenceEncoder(), Decoder(max_table_size=4096, **WIDE)
    kept: dict[bytes, list[Field]] = {}
    for block_fields in [fields for fields in lists for _ in range(3)]:
        block = bytes(encoder.encode(block_fields))
        if block in kept:
            assert kept[block] == block_fields
            continue  # what a cache does: the decoder does not see the block
        generation = decoder.generation
        assert decoder.decode(block) == block_fields
        if decoder.generation != generation:
            kept.clear()
        else:
            kept[block] = block_fields


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_huffman_round_trip(text: bytes) -> None:
    assert huffman.decode(HUFFMAN.encode(text)) == text


@settings(deadline=None)
@given(st.binary(max_size=40) | st.lists(st.sampled_from([b"\xff", b"\xfe", b"\x00", b"\x7f"])).map(b"".join))
def test_huffman_accepts_what_the_reference_accepts(coded: bytes) -> None:
    try:
        expected = decode_huffman(coded)
    except HPACKError:
        with pytest.raises(huffman.HuffmanError):
            huffman.decode(coded)
    else:
        assert huffman.decode(coded) == expected


@st.composite
def pieces(draw: st.DrawFn) -> bytes:
    """Something that looks like part of a block, often a valid one."""

    def integer(value: int, prefix: int, first: int) -> bytes:
        if value < prefix:
            return bytes((first | value,))
        rest, octets = value - prefix, [first | prefix]
        while rest >= 0x80:
            octets.append(0x80 | rest & 0x7F)
            rest >>= 7
        return bytes((*octets, rest))

    def string() -> bytes:
        text = draw(texts | st.binary(max_size=150))
        coded = draw(st.sampled_from([None, None, HUFFMAN.encode(text), text]))
        return integer(len(text), 0x7F, 0) + text if coded is None else integer(len(coded), 0x7F, 0x80) + coded

    first, prefix = draw(st.sampled_from([(0x80, 0x7F), (0x40, 0x3F), (0x20, 0x1F), (0x10, 0x0F), (0x00, 0x0F)]))
    if first == 0x20:
        return integer(draw(sizes | st.integers(0, 2**34)), prefix, first)
    index = draw(st.integers(0, 70))
    start = integer(index, prefix, first)
    if first == 0x80:
        return start
    return start + string() if index else start + string() + string()


blocks = st.lists(pieces() | st.binary(max_size=3), max_size=8).map(b"".join) | st.binary(max_size=64)


def updates(block: bytes) -> int:
    """How many table size updates the block begins with."""
    count = position = 0
    while position < len(block) and block[position] & 0xE0 == 0x20:
        count += 1
        long = block[position] == 0x3F
        position += 1
        while long and position < len(block):
            long = block[position] >= 0x80
            position += 1
    return count


@settings(deadline=None)
@given(st.lists(blocks, max_size=4))
def test_we_refuse_what_the_reference_refuses(sent: list[bytes]) -> None:
    """The one difference: more than two table size updates in a block, which the reference follows (section 4.2)."""
    decoder, other = Decoder(**WIDE), ReferenceDecoder()
    for block in sent:
        expected, got = reference(other, block), ours(decoder, block)
        if updates(block) > 2:
            assert got is None
            return
        assert got == expected
        if got is None:
            return
        assert dynamic(decoder) == plain(other.header_table.dynamic_entries)
        assert decoder._used_bytes == other.header_table._current_size


damages = st.lists(st.tuples(st.integers(0, 2000), st.sampled_from(["set", "flip", "cut", "add"]), st.integers(0, 255)))


def damaged(block: bytes, damage: list[tuple[int, str, int]]) -> bytes:
    found = bytearray(block)
    for number, how, octet in damage:
        where = number % (len(found) + 1)
        match how:
            case "set":
                found[where : where + 1] = [octet]
            case "flip":
                found[where : where + 1] = [each ^ 1 << octet % 8 for each in found[where : where + 1]]
            case "cut":
                del found[where : where + 1 + octet % 4]
            case _:
                found.insert(where, octet)
    return bytes(found)


@settings(deadline=None)
@given(st.lists(st.tuples(fields, st.booleans(), damages), min_size=1, max_size=4))
def test_we_make_of_damaged_blocks_what_the_reference_makes(
    sent: list[tuple[list[Field], bool, list[tuple[int, str, int]]]],
) -> None:
    """Blocks that were right until some octets changed; the difference as above."""
    encoder, decoder, other = ReferenceEncoder(), Decoder(**WIDE), ReferenceDecoder()
    for block_fields, with_huffman, damage in sent:
        block = damaged(encoder.encode(block_fields, huffman=with_huffman), damage[:3])
        expected, got = reference(other, block), ours(decoder, block)
        if updates(block) > 2:
            assert got is None
            return
        assert got == expected
        if got is None:
            return
        assert dynamic(decoder) == plain(other.header_table.dynamic_entries)


@settings(deadline=None)
@given(st.lists(blocks, max_size=6), st.integers(0, 300), st.integers(0, 400), st.integers(0, 6))
def test_nothing_but_the_two_errors_is_raised(sent: list[bytes], table: int, list_bytes: int, fields: int) -> None:
    decoder = Decoder(table, list_bytes, fields)
    for block in sent:
        before = decoder.generation, [*decoder._table]
        try:
            got = decoder.decode(block)
        except HeaderListTooLarge:
            got = []
        except HpackError:
            break
        assert len(got) <= fields
        assert sum(len(name) + len(value) + 32 for name, value in got) <= list_bytes
        assert (
            decoder._used_bytes
            == sum(entry.size_bytes for entry in decoder._table[62:])
            <= decoder._capacity_bytes
            <= table
        )
        assert (decoder.generation != before[0]) >= (decoder._table != before[1])


@settings(deadline=None)
@given(st.lists(blocks, max_size=4), st.lists(st.integers(0, 300), max_size=3))
def test_a_list_that_is_too_large_leaves_the_same_table_as_one_that_is_not(
    sent: list[bytes], limits: list[int]
) -> None:
    strict, wide = Decoder(max_list_bytes=1 << 14, max_fields=1), Decoder(**WIDE)
    for block in sent:
        try:
            strict.decode(block)
        except HeaderListTooLarge:
            assert len(wide.decode(block)) > 1
        except HpackError:
            assert ours(wide, block) is None
            break
        else:
            assert len(wide.decode(block)) <= 1
        assert dynamic(strict) == dynamic(wide)
        for limit in limits:
            strict.set_max_table_size(limit)
            wide.set_max_table_size(limit)
