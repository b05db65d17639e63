from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.table import HeaderTable

from gateway.transport.h2.tables import EOS, HUFFMAN_CODE_BITS, STATIC_FIELDS, huffman_codes


def test_the_static_table_is_that_of_the_rfc() -> None:
    assert list(STATIC_FIELDS) == [(bytes(name), bytes(value)) for name, value in HeaderTable.STATIC_TABLE]
    assert len(STATIC_FIELDS) == 61
    assert STATIC_FIELDS[0] == (b":authority", b"")
    assert STATIC_FIELDS[61 - 1] == (b"www-authenticate", b"")


def test_the_huffman_codes_are_those_of_the_rfc() -> None:
    assert list(HUFFMAN_CODE_BITS) == list(REQUEST_CODES_LENGTH)
    assert list(huffman_codes()) == list(REQUEST_CODES)
    assert huffman_codes()[ord("0")] == 0
    assert huffman_codes()[EOS] == 0x3FFFFFFF


def test_every_bit_string_begins_with_exactly_one_code() -> None:
    assert sum(2.0**-bits for bits in HUFFMAN_CODE_BITS) == 1.0
