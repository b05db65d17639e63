"""Decodes Huffman-coded strings (RFC 7541, section 5.2), one step per byte.

A state is what was read of a code that is not complete yet. Its row says, for each byte that may follow, which row
comes next and which octets were completed on the way. There are 257 states; all their rows take 5 MB and some 100 ms to
make, so each is made when it is first needed: request headers need about forty.
"""

from typing import Any

from gateway.transport.h2.tables import EOS, HUFFMAN_CODE_BITS, huffman_codes


class HuffmanError(ValueError):
    """The string is not a Huffman-coded one."""


_Row = list[Any]
"""256 pairs (next row, completed octets), then whether a string may end here. Empty: not made yet."""

# A state is a number: 1 followed by the bits of the unfinished code. Negative: EOS was met; nothing is valid after it.
_START = 1
_DEAD = -1

_COMPLETE = {
    1 << bits | code: symbol for symbol, (bits, code) in enumerate(zip(HUFFMAN_CODE_BITS, huffman_codes(), strict=True))
}
_MAY_END = frozenset((1 << bits) - 1 for bits in range(1, 9))
"""A string ends between codes, or after at most 7 bits of padding, which are ones."""

_rows: dict[int, _Row] = {_START: [], _DEAD: []}
_state_of: dict[int, int] = {id(row): state for state, row in _rows.items()}
_FIRST_ROW = _rows[_START]


def decode(data: bytes) -> bytes:
    """The string that `data` codes. HuffmanError when EOS is inside or the padding is not up to 7 ones."""
    while True:
        row = _FIRST_ROW
        parts: list[bytes] = []
        try:
            for octet in data:
                row, part = row[octet]
                parts.append(part)
            if row[256]:
                return b"".join(parts)
        except IndexError:
            _make(row)
            continue
        raise HuffmanError("Huffman-coded string contains EOS, or its padding is not up to 7 ones")


def _make(row: _Row) -> None:
    """Fills an empty row: follows the 8 bits of all bytes at once, doubling the number of ways with each."""
    start = _state_of[id(row)]
    ways = [(start, b"")]
    for _ in range(8):
        ways = [_follow(state, bit, octets) for state, octets in ways for bit in (0, 1)]
    row.extend([(_row(state), octets) for state, octets in ways])
    row.append(start in _MAY_END)


def _follow(state: int, bit: int, octets: bytes) -> tuple[int, bytes]:
    """The state after one more bit, and the octets completed so far."""
    if state < 0:
        return _DEAD, octets
    state = state << 1 | bit
    symbol = _COMPLETE.get(state)
    if symbol is None:
        return state, octets
    if symbol == EOS:
        return _DEAD, octets
    return _START, octets + symbol.to_bytes(1, "big")


def _row(state: int) -> _Row:
    row = _rows.get(state)
    if row is None:
        row = _rows[state] = []
        _state_of[id(row)] = state
    return row
