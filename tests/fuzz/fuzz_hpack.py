"""HPACK under fuzz, next to the `hpack` package: the same blocks give the same fields and tables, or an error in both.

An input: an octet for the size of lists (in 64s) and one for the number of fields that are allowed, then blocks, each
with an octet for its length before it.
"""

from collections.abc import Iterator
from typing import Final

from hpack import Decoder as ReferenceDecoder
from hpack import Encoder as ReferenceEncoder
from hpack import HPACKError

from gateway.transport.h2.hpack import Decoder, Field, HeaderListTooLarge, HpackError, encode
from tests.fuzz.memory import held_bytes

MEMORY_BYTES: Final = 192 << 10
"""A table of 4 KiB, 61 static entries, 64 remembered strings and 128 interned entries, as Python objects."""
STRICTER: Final = ("updates in one block", "longer than 5 octets", "far above")
"""Errors of ours where the reference has none: limits that RFC 7541 leaves to the decoder."""


def blocks(data: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(data):
        size = data[position]
        yield data[position + 1 : position + 1 + size]
        position += 1 + size


def reference(decoder: ReferenceDecoder, block: bytes) -> list[Field] | None:
    """What the reference makes of the block; None: it refuses."""
    try:
        return [(bytes(name), bytes(value)) for name, value in decoder.decode(block, raw=True)]
    except HPACKError:
        return None


def check(data: bytes) -> None:
    """The fuzz target: runs one input. Raises AssertionError, or what the decoder raises against its promise."""
    head = [*data[:2], 0, 0]
    max_list_bytes, max_fields = 64 * head[0], head[1]
    decoder = Decoder(4096, max_list_bytes, max_fields)
    other = ReferenceDecoder(max_header_list_size=1 << 24)
    for block in blocks(data[2:]):
        generation, table = decoder.generation, [*decoder._table]
        expected = reference(other, block)
        try:
            fields = decoder.decode(block)
        except HeaderListTooLarge:
            assert expected is not None, "only the limit was wrong"
            assert len(expected) > max_fields or _list_bytes(expected) > max_list_bytes
        except HpackError as error:
            refused = expected is None or any(words in str(error) for words in STRICTER)
            assert refused, "the reference has no objection"
            break
        else:
            assert fields == expected
            assert len(fields) <= max_fields
            assert _list_bytes(fields) <= max_list_bytes
        assert [(entry.name, entry.value) for entry in decoder._table[62:]] == [
            *map(_plain, other.header_table.dynamic_entries)
        ]
        assert decoder.generation != generation or decoder._table == table, "a change that nobody is told of"
    held = held_bytes(decoder)
    assert held <= MEMORY_BYTES, f"the decoder holds {held} bytes"


def _plain(entry: tuple[bytes, bytes]) -> Field:
    return bytes(entry[0]), bytes(entry[1])


def _list_bytes(fields: list[Field]) -> int:
    return sum(len(name) + len(value) + 32 for name, value in fields)


def seeds() -> list[bytes]:
    """Blocks of every representation."""
    request = [
        (b":method", b"POST"),
        (b":path", b"/a/B"),
        (b"te", b"trailers"),
        (b"x-id", b"12345"),
        (b"x-id", b"12345"),
    ]
    literals = b"\x0f\x2b\x04test\x10\x03x-a\x01b\x00\x03x-c\x01d\x40\x84\xf2\xb4\xa7\xff\x82\x64\x02"
    sets: list[list[bytes]] = [
        [encode(request), literals, b"\xbe\x90"],
        [b"\x20\x3f\xe1\x1f\x82", b"\x3f\x20\x40\x01a\x01b\xbe", b"\x40\x01a\x7f\x10" + b"v" * 143 + b"\xbe" * 9],
        [b"\x80", b"\xff\x80\x80\x01", b"\x5f\x83\xff\xff\xff"],
    ]
    encoder = ReferenceEncoder()
    sets += [
        [bytes(encoder.encode([*request, (b"x-n", b"%d" % n)], huffman=huffman)) for n in range(4)]
        for huffman in (True, False)
    ]
    encoder.header_table_size = 100
    sets.append([bytes(encoder.encode(request)) for _ in range(2)])
    return [
        bytes([limit, limit]) + b"".join(bytes([len(each)]) + each for each in some)
        for some in sets
        for limit in (255, 3)
    ]
