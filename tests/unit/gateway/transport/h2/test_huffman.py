import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

from gateway.transport.h2 import huffman
from gateway.transport.h2.huffman import HuffmanError, decode
from gateway.transport.h2.tables import EOS, HUFFMAN_CODE_BITS, huffman_codes

REFERENCE = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)


def packed(bits: str) -> bytes:
    """The octets of a bit string whose length is a multiple of 8."""
    assert len(bits) % 8 == 0
    return int(bits, 2).to_bytes(len(bits) // 8, "big") if bits else b""


def code(symbol: int) -> str:
    return f"{huffman_codes()[symbol]:0{HUFFMAN_CODE_BITS[symbol]}b}"


@pytest.mark.parametrize(
    ("coded", "text"),
    [  # RFC 7541, C.4 and C.6
        ("f1e3c2e5f23a6ba0ab90f4ff", b"www.example.com"),
        ("a8eb10649cbf", b"no-cache"),
        ("25a849e95ba97d7f", b"custom-key"),
        ("25a849e95bb8e8b4bf", b"custom-value"),
        ("6402", b"302"),
        ("aec3771a4b", b"private"),
        ("d07abe941054d444a8200595040b8166e082a62d1bff", b"Mon, 21 Oct 2013 20:13:21 GMT"),
        ("9d29ad171863c78f0b97c8e9ae82ae43d3", b"https://www.example.com"),
        ("9bd9ab", b"gzip"),
    ],
)
def test_decodes_the_examples_of_the_rfc(coded: str, text: bytes) -> None:
    assert decode(bytes.fromhex(coded)) == text


def test_nothing_codes_nothing() -> None:
    assert decode(b"") == b""


def test_decodes_every_octet_at_every_bit_position() -> None:
    for octet in range(256):
        for before in range(8):  # "0" has 5 bits, so all alignments occur
            text = b"0" * before + bytes((octet,)) + b"z"
            assert decode(REFERENCE.encode(text)) == text


def test_decodes_what_follows_every_octet() -> None:
    everything = bytes(range(256)) + bytes(reversed(range(256)))
    assert decode(REFERENCE.encode(everything)) == everything


@pytest.mark.parametrize("ones", range(8))
def test_padding_is_up_to_seven_ones(ones: int) -> None:
    text = "0" * (-ones * 5 % 8 or 8)  # of 5 bits each
    bits = code(ord("0")) * len(text)
    assert decode(packed(bits + "1" * ones)) == text.encode()


@pytest.mark.parametrize(
    "bits",
    [
        "1" * 8,  # padding alone
        code(ord("&")) + "1" * 8,  # a whole octet of padding
        code(ord("0")) + "1" * 11,
        code(ord("0")) + "1" * 27,
    ],
)
def test_more_padding_is_refused(bits: str) -> None:
    with pytest.raises(HuffmanError, match="padding"):
        decode(packed(bits))


@pytest.mark.parametrize("padding", ["000", "110", "011", "101"])
def test_other_padding_is_refused(padding: str) -> None:
    with pytest.raises(HuffmanError, match="padding"):
        decode(packed(code(ord("0")) + padding))


@pytest.mark.parametrize("before", range(8))
@pytest.mark.parametrize("after", ["", "0", "00000000"])
def test_eos_is_refused_wherever_it_is(before: int, after: str) -> None:
    bits = code(ord("0")) * before + code(EOS) + "".join(code(ord(letter)) for letter in after)
    with pytest.raises(HuffmanError, match="EOS"):
        decode(packed(bits + "1" * (-len(bits) % 8)))


def test_eos_begun_in_one_octet_and_unfinished_is_refused() -> None:
    with pytest.raises(HuffmanError):
        decode(b"\xff\xff\xff")


def test_a_row_is_made_once() -> None:
    decode(b"\x07")
    row = huffman._rows[1]
    assert len(row) == 257
    decode(b"\x07")
    assert huffman._rows[1] is row
    assert len(row) == 257
