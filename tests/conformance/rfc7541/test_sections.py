"""RFC 7541: HPACK, as a connection meets it."""

import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

from gateway.transport.h2.errors import ErrorCode
from gateway.transport.h2.frames import END_HEADERS, FrameType, frame
from gateway.transport.h2.limits import Limits
from tests.conformance.rfc9113.expect import connection_error, plain_block, served, with_block
from tests.unit.gateway.transport.h2.peer import Peer

HUFFMAN = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
INDEXED, PLAIN, NEVER = 0x40, 0x00, 0x10
"""First bits of the three literal representations."""
USER_AGENT = 58
"""Index of a static entry without a value."""
FIRST = 62
"""Index of the newest entry of the dynamic table."""


def text(value: bytes, *, coded: bool = False) -> bytes:
    """A string literal of less than 127 octets."""
    octets = HUFFMAN.encode(value) if coded else value
    return bytes([len(octets) | (0x80 if coded else 0)]) + octets


def index(first: int, number: int) -> bytes:
    """The beginning of a literal: representation and index of its name."""
    prefix = 0x3F if first == INDEXED else 0x0F
    return bytes([first | number]) if number < prefix else bytes([first | prefix, number - prefix])


def literal(first: int, name: bytes | int, value: bytes, *, coded: bool = False) -> bytes:
    start = index(first, name) if isinstance(name, int) else index(first, 0) + text(name, coded=coded)
    return start + text(value, coded=coded)


def understood(block: bytes, *expected: tuple[str, str], peer: Peer | None = None, stream_id: int = 1) -> Peer:
    """The fields in front of an ordinary request are these."""
    peer = peer or Peer()
    size_update = block if block[:1] and block[0] & 0xE0 == 0x20 else b""
    fields = b"" if size_update else block
    served(peer, stream_id, peer.send(with_block(stream_id, size_update + plain_block() + fields)))
    assert peer.service.kept[-1].metadata.values.items() >= dict(expected).items()
    return peer


def undecodable(block: bytes, peer: Peer | None = None, stream_id: int = 1) -> None:
    """The block is a decoding error: COMPRESSION_ERROR of the connection (RFC 9113 section 4.3)."""
    headers = frame(FrameType.HEADERS, END_HEADERS, stream_id, plain_block() + block)
    connection_error(peer or Peer(), ErrorCode.COMPRESSION_ERROR, headers)


def test_an_indexed_field_is_accepted() -> None:
    """Section 6.1: from the static table. h2spec: generic/5/1."""
    understood(b"\x90", ("accept-encoding", "gzip, deflate"))


@pytest.mark.parametrize("coded", [False, True])
@pytest.mark.parametrize("number", [USER_AGENT, 15, 61])
def test_a_literal_with_indexing_and_indexed_name_is_accepted(number: int, coded: bool) -> None:
    """Section 6.2.1: and its entry can be referred to. h2spec: generic/5/2, generic/5/3."""
    names = {USER_AGENT: "user-agent", 15: "accept-charset", 61: "www-authenticate"}
    peer = understood(literal(INDEXED, number, b"test", coded=coded), (names[number], "test"))
    understood(bytes([0x80 | FIRST]), (names[number], "test"), peer=peer, stream_id=3)


@pytest.mark.parametrize("coded", [False, True])
def test_a_literal_with_indexing_and_new_name_is_accepted(coded: bool) -> None:
    """Section 6.2.1: and its entry can be referred to. h2spec: generic/5/4, generic/5/5."""
    peer = understood(literal(INDEXED, b"x-test", b"1", coded=coded), ("x-test", "1"))
    understood(bytes([0x80 | FIRST]), ("x-test", "1"), peer=peer, stream_id=3)
    understood(literal(PLAIN, FIRST, b"2"), ("x-test", "2"), peer=peer, stream_id=5)


@pytest.mark.parametrize("coded", [False, True])
def test_a_literal_without_indexing_and_indexed_name_is_accepted(coded: bool) -> None:
    """Section 6.2.2. h2spec: generic/5/6, generic/5/7."""
    understood(literal(PLAIN, USER_AGENT, b"test", coded=coded), ("user-agent", "test"))


@pytest.mark.parametrize("coded", [False, True])
def test_a_literal_without_indexing_and_new_name_is_accepted(coded: bool) -> None:
    """Section 6.2.2. h2spec: generic/5/8, generic/5/9."""
    understood(literal(PLAIN, b"x-test", b"1", coded=coded), ("x-test", "1"))


@pytest.mark.parametrize("coded", [False, True])
def test_a_literal_never_indexed_with_indexed_name_is_accepted(coded: bool) -> None:
    """Section 6.2.3. h2spec: generic/5/10, generic/5/11."""
    understood(literal(NEVER, USER_AGENT, b"test", coded=coded), ("user-agent", "test"))


@pytest.mark.parametrize("coded", [False, True])
def test_a_literal_never_indexed_with_new_name_is_accepted(coded: bool) -> None:
    """Section 6.2.3. h2spec: generic/5/12, generic/5/13."""
    understood(literal(NEVER, b"x-test", b"1", coded=coded), ("x-test", "1"))


@pytest.mark.parametrize("first", [PLAIN, NEVER])
def test_other_literals_leave_the_dynamic_table_alone(first: int) -> None:
    """Sections 6.2.2 and 6.2.3: so there is nothing to refer to."""
    peer = understood(literal(first, b"x-test", b"1"), ("x-test", "1"))
    undecodable(bytes([0x80 | FIRST]), peer, 3)


def test_a_size_update_is_accepted() -> None:
    """Section 6.3: in front of the first field. h2spec: generic/5/14."""
    understood(b"\x3f\x61")  # 128


def test_two_size_updates_are_accepted() -> None:
    """Section 6.3: to the smallest size and then to the present one, as 4.2 has it. h2spec: generic/5/15."""
    understood(b"\x20\x3f\xe1\x1f")  # 0, 4096


def test_more_size_updates_are_a_decoding_error() -> None:
    """Section 4.2: at most two have to be sent, so more are only work for the receiver."""
    connection_error(Peer(), ErrorCode.COMPRESSION_ERROR, with_block(1, b"\x20\x20\x20" + plain_block()))


@pytest.mark.parametrize("block", [b"\xbe", b"\xc6", b"\xff\x00", b"\xff\x80\x01"])
def test_an_index_beyond_the_tables_is_a_decoding_error(block: bytes) -> None:
    """Section 2.3.3: of an indexed field. h2spec: hpack/2.3.3/1."""
    undecodable(block)


@pytest.mark.parametrize("first", [INDEXED, PLAIN, NEVER])
def test_a_name_index_beyond_the_tables_is_a_decoding_error(first: int) -> None:
    """Section 2.3.3: of a literal. h2spec: hpack/2.3.3/2."""
    undecodable(literal(first, 70, b"test"))


def test_the_newest_entry_has_the_lowest_index() -> None:
    """Section 2.3.3: behind the 61 static ones."""
    peer = understood(literal(INDEXED, b"x-old", b"1") + literal(INDEXED, b"x-new", b"2"))
    understood(b"\xbe\xbf", ("x-new", "2"), ("x-old", "1"), peer=peer, stream_id=3)
    undecodable(b"\xc0", peer, 5)


def test_each_direction_has_its_own_table() -> None:
    """Section 2.2: what the client inserts, the server's blocks do not refer to, and the other way round."""
    peer = understood(literal(INDEXED, b"x-test", b"1"))
    assert not peer.decoder.header_table.dynamic_entries
    first, second = (peer.send(with_block(stream_id, plain_block()))[0].payload for stream_id in (3, 5))
    assert first == second


def test_entries_are_charged_32_octets_more() -> None:
    """Section 4.1: so 32 of them with 96 octets each fill a table of 4,096 exactly."""
    entry = literal(INDEXED, b"x-n", b"v" * 93)  # 3 + 93 + 32 = 128
    peer = Peer(Limits(max_header_fields=1000))
    understood(entry * 32, peer=peer)
    understood(bytes([0x80 | FIRST + 31]), ("x-n", "v" * 93), peer=peer, stream_id=3)
    undecodable(bytes([0x80 | FIRST + 32]), peer, 5)


def test_a_size_update_after_a_field_is_a_decoding_error() -> None:
    """Section 4.2: it must occur at the beginning of a block. h2spec: hpack/4.2/1."""
    undecodable(b"\x20")


def test_a_smaller_table_evicts() -> None:
    """Section 4.3: at once, the oldest first."""
    two = literal(INDEXED, b"x-old", b"1") + literal(INDEXED, b"x-new", b"2")  # 38 octets each
    peer = understood(two)
    understood(b"\x3f\x14", peer=peer, stream_id=3)  # 51: room for one
    understood(b"\xbe", ("x-new", "2"), peer=peer, stream_id=5)
    undecodable(b"\xbf", peer, 7)


def test_an_entry_larger_than_the_table_empties_it() -> None:
    """Section 4.4: and is no error."""
    peer = understood(literal(INDEXED, b"x-small", b"1"))
    understood(b"\x3f\x09", peer=peer, stream_id=3)  # 40
    understood(literal(INDEXED, b"x-large", b"2" * 50), ("x-large", "2" * 50), peer=peer, stream_id=5)
    undecodable(b"\xbe", peer, 7)


def test_a_name_may_come_from_the_entry_that_is_evicted_for_it() -> None:
    """Section 4.4: the reference is resolved first."""
    peer = Peer()
    understood(b"\x3f\x09", peer=peer)  # 40
    understood(literal(INDEXED, b"x-test", b"1"), peer=peer, stream_id=3)
    block = literal(INDEXED, FIRST, b"2")
    understood(block, ("x-test", "2"), peer=peer, stream_id=5)
    understood(b"\xbe", ("x-test", "2"), peer=peer, stream_id=7)


def test_integers_may_be_padded() -> None:
    """Section 5.1: with continuation octets of 0, up to the length a decoder allows."""
    understood(b"\x0f\x2b\x04test", ("user-agent", "test"))
    understood(b"\x0f\xab\x80\x00\x04test", ("user-agent", "test"))


@pytest.mark.parametrize("octets", [b"\x80" * 5 + b"\x00", b"\xff" * 10 + b"\x01", b"\xff\xff\xff\xff\x7f"])
def test_integers_above_the_limit_are_a_decoding_error(octets: bytes) -> None:
    """Section 5.1: in value or in octets."""
    undecodable(b"\x0f" + octets + b"\x04test")


def test_a_block_that_ends_inside_a_field_is_a_decoding_error() -> None:
    """Section 5: wherever it is cut."""
    whole = literal(PLAIN, b"x-test", b"value")
    for end in range(1, len(whole)):
        undecodable(whole[:end])


@pytest.mark.parametrize("padding", [b"\xff", b"\xff\xff"])
def test_huffman_padding_longer_than_7_bits_is_a_decoding_error(padding: bytes) -> None:
    """Section 5.2: whole octets of it. h2spec: hpack/5.2/1."""
    coded = HUFFMAN.encode(b"test") + padding
    undecodable(index(PLAIN, USER_AGENT) + bytes([0x80 | len(coded)]) + coded)


@pytest.mark.parametrize("octet", [0x18, 0x1E, 0x1D])
def test_huffman_padding_that_is_not_the_beginning_of_eos_is_a_decoding_error(octet: int) -> None:
    """Section 5.2: three bits that are not all ones, after the five of "a". h2spec: hpack/5.2/2."""
    undecodable(index(PLAIN, USER_AGENT) + b"\x81" + bytes([octet]))


@pytest.mark.parametrize("coded", [b"\xff\xff\xff\xfc", b"\xff\xff\xff\xff", b"\x1f\xff\xff\xff\xff"])
def test_the_eos_symbol_is_a_decoding_error(coded: bytes) -> None:
    """Section 5.2: 30 ones. h2spec: hpack/5.2/3."""
    undecodable(index(PLAIN, USER_AGENT) + bytes([0x80 | len(coded)]) + coded)


def test_every_octet_can_be_huffman_coded() -> None:
    """Section 5.2 and appendix B: those that a field value may have."""
    for octet in {*range(256)} - {0, 10, 13}:
        value = bytes([0x61, octet, 0x61])
        peer = Peer()
        served(peer, 1, peer.send(with_block(1, plain_block() + literal(PLAIN, USER_AGENT, value, coded=True))))
        assert peer.service.kept[0].metadata.values["user-agent"].encode("latin-1" if octet > 127 else "ascii") == value


def test_index_0_is_a_decoding_error() -> None:
    """Section 6.1: it is not used. h2spec: hpack/6.1/1."""
    undecodable(b"\x80")


@pytest.mark.parametrize("update", [b"\x3f\xe2\x1f", b"\x3f\xff\xff\x03"])
def test_a_size_update_above_the_setting_is_a_decoding_error(update: bytes) -> None:
    """Section 6.3: above SETTINGS_HEADER_TABLE_SIZE. h2spec: hpack/6.3/1."""
    connection_error(Peer(), ErrorCode.COMPRESSION_ERROR, with_block(1, update + plain_block()))


def test_many_references_to_one_large_entry_are_charged_in_full() -> None:
    """Section 7.3: a small block cannot become a large list."""
    large = literal(INDEXED, b"x-large", b"v" * 120)
    peer = understood(large)
    bomb = frame(FrameType.HEADERS, END_HEADERS, 3, plain_block() + bytes([0x80 | FIRST]) * 10_000)
    connection_error(peer, ErrorCode.COMPRESSION_ERROR, bomb)
