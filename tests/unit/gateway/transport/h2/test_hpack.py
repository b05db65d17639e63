import pytest
from hpack import Decoder as ReferenceDecoder
from hpack import HPACKError
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

from gateway.transport.h2.hpack import Decoder, Field, HeaderListTooLarge, HpackError, encode

HUFFMAN = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)

CODED = "828785408825a849e95ba97d7f8925a849e95bb8e8b4bf"
"""Three static fields and one with Huffman-coded name and value."""


def dynamic(decoder: Decoder) -> list[Field]:
    """The dynamic table, newest first."""
    return [(entry.name, entry.value) for entry in decoder._table[62:]]


def inserted(name: bytes, value: bytes) -> bytes:
    """Literal with incremental indexing, plain short strings."""
    return b"\x40" + bytes((len(name),)) + name + bytes((len(value),)) + value


def refused(block: bytes, why: str, decoder: Decoder | None = None) -> None:
    with pytest.raises(HpackError, match=why):
        (decoder or Decoder()).decode(block)


# --- kinds of fields


def test_an_empty_block_has_no_fields() -> None:
    assert Decoder().decode(b"") == []


def test_a_never_indexed_field_stays_out_of_the_table_with_indexed_and_literal_names() -> None:
    decoder = Decoder()
    assert decoder.decode(b"\x1f\x08\x01s\x10\x01n\x01v") == [(b"authorization", b"s"), (b"n", b"v")]
    assert dynamic(decoder) == []


# --- indexes and integers


def test_all_static_entries_have_their_index() -> None:
    reference = ReferenceDecoder()
    for index in range(1, 62):
        block = bytes((0x80 | index,))
        assert Decoder().decode(block) == [tuple(field) for field in reference.decode(block, raw=True)]


def test_index_0_is_an_error() -> None:
    refused(b"\x80", "index 0")
    refused(b"\x82\x80", "index 0")


@pytest.mark.parametrize(
    "block", [b"\xbe", b"\xff\x00", b"\xff\xff\xff\xff\x0f", b"\x7e\x01v", b"\x7f\x00\x01v", b"\x0f\x7f\x01v"]
)
def test_an_index_beyond_the_table_is_an_error(block: bytes) -> None:
    refused(block, "beyond the table")


def test_an_index_one_beyond_the_dynamic_table_is_an_error() -> None:
    decoder = Decoder()
    decoder.decode(inserted(b"a", b"1"))
    assert decoder.decode(b"\xbe") == [(b"a", b"1")]
    refused(b"\xbf", "beyond the table", decoder)


def test_indexes_above_their_prefix() -> None:
    decoder = Decoder()
    for number in range(100):
        decoder.decode(inserted(b"%d" % number, b""))
    assert decoder.decode(b"\xff\x00") == [(b"%d" % (99 - 65), b"")]  # 127
    assert decoder.decode(b"\xff\x22") == [(b"0", b"")]  # 161
    assert decoder.decode(b"\x0f\x92\x01\x00") == [(b"0", b"")]
    assert decoder.decode(b"\x7f\xe2\x80\x00\x00") == [(b"0", b"")]  # zeroes at the end are wasteful, but allowed


def test_integers_are_at_most_five_octets_and_32_bits_long() -> None:
    decoder = Decoder(2**32 - 1)
    assert decoder.decode(b"\x3f\xe0\xff\xff\xff\x0f") == []
    assert decoder._capacity_bytes == 2**32 - 1
    refused(b"\x3f\xe1\xff\xff\xff\x0f", "integer", decoder)
    for start in (b"\xff", b"\x7f", b"\x3f", b"\x1f", b"\x0f", b"\x00\x7f", b"\x00\xff", b"\x01\x7f"):
        refused(start + b"\x80" * 5 + b"\x00", "integer")
        refused(start + b"\xff" * 100, "integer")


# --- truncation


@pytest.mark.parametrize("block", [CODED, "0f8001", "100870617373776f726406736563726574", "7f80800000"])
def test_a_block_cut_anywhere_inside_a_field_is_an_error(block: str) -> None:
    whole = bytes.fromhex(block)
    for end in range(1, len(whole)):
        try:
            expected = [*map(tuple, ReferenceDecoder().decode(whole[:end], raw=True))]
        except HPACKError:
            refused(whole[:end], "truncated")
        else:  # cut between two fields
            assert Decoder().decode(whole[:end]) == expected


def test_a_string_longer_than_the_block_is_an_error() -> None:
    refused(b"\x00\x05abcd", "inside a string")
    refused(b"\x00\x01a\x7f\xff\xff\xff\xff\x0e", "inside a string")


@pytest.mark.parametrize("kind", [0x00, 0x10, 0x40])
@pytest.mark.parametrize("coded", [b"\xff", b"\x00", b"\xff\xff\xff\xfc"])
def test_bad_huffman_coding_is_an_error(kind: int, coded: bytes) -> None:
    string = bytes((0x80 | len(coded),)) + coded
    refused(bytes((kind,)) + b"\x01a" + string, "Huffman")
    refused(bytes((kind,)) + string + b"\x01a", "Huffman")


# --- the dynamic table


def test_the_oldest_entries_are_evicted() -> None:
    decoder = Decoder(102)
    for name in (b"a", b"b", b"c"):
        decoder.decode(inserted(name, b"1"))
    assert dynamic(decoder) == [(b"c", b"1"), (b"b", b"1"), (b"a", b"1")]
    decoder.decode(inserted(b"d", b"1"))
    assert dynamic(decoder) == [(b"d", b"1"), (b"c", b"1"), (b"b", b"1")]
    decoder.decode(inserted(b"e", b"12"))  # one byte more costs a whole entry more
    assert dynamic(decoder) == [(b"e", b"12"), (b"d", b"1")]
    assert decoder._used_bytes == 69


def test_a_full_table_that_changes_keeps_its_length_but_not_its_generation() -> None:
    decoder = Decoder(68)
    decoder.decode(inserted(b"a", b"1") + inserted(b"b", b"1"))
    length, generation = len(dynamic(decoder)), decoder.generation
    assert decoder.decode(b"\xbe") == [(b"b", b"1")]
    assert decoder.generation == generation
    decoder.decode(inserted(b"c", b"1"))
    assert len(dynamic(decoder)) == length
    assert decoder.generation > generation
    assert decoder.decode(b"\xbe") == [(b"c", b"1")]


def test_an_entry_larger_than_the_table_empties_it() -> None:
    decoder = Decoder(68)
    decoder.decode(inserted(b"a", b"1") + inserted(b"b", b"1"))
    generation = decoder.generation
    assert decoder.decode(inserted(b"long", b"x" * 33)) == [(b"long", b"x" * 33)]
    assert dynamic(decoder) == []
    assert decoder._used_bytes == 0
    assert decoder.generation > generation
    decoder.decode(inserted(b"a", b"1"))
    assert dynamic(decoder) == [(b"a", b"1")]


def test_a_name_may_come_from_the_entry_that_is_evicted_for_it() -> None:
    decoder = Decoder(34)
    decoder.decode(inserted(b"a", b"1"))
    assert decoder.decode(b"\x7e\x012") == [(b"a", b"2")]
    assert dynamic(decoder) == [(b"a", b"2")]


def test_a_table_of_no_bytes_holds_nothing() -> None:
    decoder = Decoder(0)
    assert decoder.decode(inserted(b"a", b"1")) == [(b"a", b"1")]
    refused(b"\xbe", "beyond the table", decoder)


def test_decoders_do_not_share_their_tables() -> None:
    Decoder().decode(inserted(b"a", b"1"))
    refused(b"\xbe", "beyond the table")


# --- table size updates


def test_an_update_changes_the_size_and_evicts() -> None:
    decoder = Decoder()
    decoder.decode(inserted(b"a", b"1") + inserted(b"b", b"1"))
    generation = decoder.generation
    assert decoder.decode(b"\x3f\x10\xbe") == [(b"b", b"1")]  # 47 bytes
    assert decoder.generation > generation
    refused(b"\xbf", "beyond the table", decoder)


def test_two_updates_empty_the_table_and_restore_its_size() -> None:
    decoder = Decoder()
    decoder.decode(inserted(b"a", b"1"))
    generation = decoder.generation
    assert decoder.decode(b"\x20\x3f\xe1\x1f\x82") == [(b":method", b"GET")]
    assert dynamic(decoder) == []
    assert decoder._capacity_bytes == 4096
    assert decoder.generation > generation


def test_an_update_to_the_present_size_changes_nothing() -> None:
    decoder = Decoder()
    decoder.decode(inserted(b"a", b"1"))
    generation = decoder.generation
    assert decoder.decode(b"\x3f\xe1\x1f\xbe") == [(b"a", b"1")]
    assert decoder.generation == generation


def test_three_updates_are_an_error() -> None:
    refused(b"\x20\x20\x20\x82", "more than 2")


@pytest.mark.parametrize("field", [b"\x82", b"\x00\x01a\x011", inserted(b"a", b"1")])
def test_an_update_after_a_field_is_an_error(field: bytes) -> None:
    refused(field + b"\x20", "after a field")
    refused(field + b"\x3f\xe1\x1f\x82", "after a field")


def test_an_update_above_the_allowed_size_is_an_error() -> None:
    refused(b"\x3f\xe2\x1f", "allowed are 4096")
    refused(b"\x3f", "truncated")


def test_the_peer_may_grow_its_table_when_it_is_allowed_to() -> None:
    decoder = Decoder(100)
    generation = decoder.generation
    decoder.set_max_table_size(200)
    assert decoder.generation > generation
    assert decoder.decode(b"\x82") == [(b":method", b"GET")]  # but need not
    assert decoder._capacity_bytes == 100
    assert decoder.decode(b"\x3f\xa9\x01") == []
    assert decoder._capacity_bytes == 200
    refused(b"\x3f\xaa\x01", "allowed are 200", decoder)


def test_a_smaller_size_must_be_acknowledged_by_the_next_block() -> None:
    for block in (b"", b"\x82", b"\x3f\x46\x82", b"\x3f\x46\x3f\x46\x82"):  # nothing, 101 bytes
        decoder = Decoder()
        decoder.set_max_table_size(100)
        refused(block, "reducing|allowed are 100", decoder)
    decoder = Decoder()
    decoder.set_max_table_size(100)
    assert decoder.decode(b"\x3f\x45\x82") == [(b":method", b"GET")]
    assert decoder.decode(b"\x82") == [(b":method", b"GET")]


def test_the_smallest_size_of_the_meantime_must_be_acknowledged() -> None:
    decoder = Decoder()
    decoder.decode(inserted(b"a", b"1"))
    decoder.set_max_table_size(0)
    decoder.set_max_table_size(4096)
    assert decoder.decode(b"\x20\x3f\xe1\x1f") == []
    assert dynamic(decoder) == []
    decoder.set_max_table_size(0)
    decoder.set_max_table_size(4096)
    refused(b"\x3f\xe1\x1f\x82", "reducing the dynamic table to 0 bytes", decoder)


# --- limits


def test_every_field_is_charged_its_octets_and_32() -> None:
    exact = Decoder(max_list_bytes=2 * 42 + 34)
    assert len(exact.decode(b"\x82\x82" + inserted(b"a", b"1"))) == 3
    with pytest.raises(HeaderListTooLarge, match="3 fields and 119 bytes"):
        exact.decode(b"\x82\x82" + inserted(b"a", b"12"))


def test_the_number_of_fields_is_limited() -> None:
    decoder = Decoder(max_fields=2)
    assert len(decoder.decode(b"\x82\x82")) == 2
    with pytest.raises(HeaderListTooLarge, match="3 fields"):
        decoder.decode(b"\x82\x82\x82")


def test_after_a_list_that_is_too_large_the_table_is_in_step() -> None:
    decoder = Decoder(max_list_bytes=100)
    generation = decoder.generation
    with pytest.raises(HeaderListTooLarge):
        decoder.decode(inserted(b"a", b"1") * 3 + inserted(b"b", b"2"))
    assert decoder.generation > generation
    assert decoder.decode(b"\xbe\xbf") == [(b"b", b"2"), (b"a", b"1")]


def test_one_octet_references_are_charged_what_they_expand_to() -> None:
    decoder = Decoder()
    decoder.decode(b"\x40\x01a\x7f\x81\x1e" + b"x" * 3968)
    with pytest.raises(HeaderListTooLarge):
        decoder.decode(b"\xbe" * 5)
    refused(b"\xbe" * 16000, "far above the limit of 16384", decoder)


def test_a_block_far_above_the_limit_is_not_read_at_all() -> None:
    refused(b"\x82" * 65537, "block of 65537 bytes")


def test_what_is_remembered_of_strings_is_bounded() -> None:
    decoder = Decoder()
    for text in [b"%04d" % (number % 1000) for number in range(2000)] + [b"0" * length for length in range(90, 200)]:
        coded = HUFFMAN.encode(text)
        assert decoder.decode(b"\x00\x01n" + bytes((0x80 | len(coded),)) + coded) == [(b"n", text)]
        assert len(decoder._strings) <= 64
    long = HUFFMAN.encode(b"0" * 300)
    assert decoder.decode(b"\x00\x01n\xff" + bytes((len(long) - 127,)) + long) == [(b"n", b"0" * 300)]
    assert max(map(len, decoder._strings)) <= 128


# --- encoding


def test_encodes_static_fields_as_their_index() -> None:
    assert encode([(b":status", b"200"), (b":method", b"POST")]) == b"\x88\x83"


def test_encodes_static_names_by_index_and_other_names_in_full() -> None:
    assert encode([(b"content-type", b"application/grpc")]) == b"\x0f\x10\x10application/grpc"
    assert encode([(b":status", b"201")]) == b"\x08\x03201"
    assert encode([(b"grpc-status", b"0")]) == b"\x00\x0bgrpc-status\x010"


@pytest.mark.parametrize("length", [0, 126, 127, 128, 254, 255, 16384, 70000])
def test_encodes_lengths_of_any_size(length: int) -> None:
    pairs = [(b"grpc-message", b"x" * length)]
    fields = Decoder(max_list_bytes=1 << 20).decode(encode(pairs))
    assert fields == pairs


def test_a_block_from_encode_leaves_no_trace_in_the_decoder() -> None:
    decoder = Decoder()
    block = encode([(b":status", b"200"), (b"content-type", b"application/grpc"), (b"cutover-arm", b"stable")])
    generation = decoder.generation
    assert decoder.decode(block) == decoder.decode(block)
    assert decoder.generation == generation
    assert dynamic(decoder) == []
