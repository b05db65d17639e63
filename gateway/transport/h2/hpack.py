"""HPACK (RFC 7541): header blocks to fields and, for replies, fields to a block that needs no state.

The decoder's work and memory are bounded by its limits and not by what the peer sends: every field, also one that is a
single octet in the block, is charged its full size (RFC 9113, section 6.5.2) as it is met.
"""

from collections.abc import Iterable
from typing import Final

from gateway.transport.h2.huffman import HuffmanError
from gateway.transport.h2.huffman import decode as huffman_decode
from gateway.transport.h2.tables import STATIC_FIELDS

Field = tuple[bytes, bytes]
"""Name and value."""

FIELD_OVERHEAD_BYTES: Final = 32
"""What a field counts for besides its octets, in tables and lists (RFC 7541, section 4.1; RFC 9113, section 6.5.2)."""

MAX_INTEGER: Final = 2**32 - 1
MAX_UPDATES: Final = 2
"""Table size updates a block may begin with: the smallest size since the last block, then the present (section 4.2)."""

_ABSURD = 4
"""A list this many times over its limit is no longer read to its end."""

_REMEMBERED_STRINGS = 64
_REMEMBERED_BYTES = 128
_LONG_BYTES = 40
_NEVER: Final = 1 << 62

_SHORT_BYTES = 1024
"""A block up to here is read to its end before its fields are counted."""
_EVICTED = 64
"""Lasting entries remembered when they are evicted; then it begins anew."""


class Entry:
    """A field, in a table or in one block. The same object as long as it stays in the table, or comes back to it.

    key, text, plain, fault: for who reads fields, what they made of this one. None: nobody has read it yet.
    lasting: for them, too: whether they want the same object when the field is evicted and inserted again.
    """

    __slots__ = ("fault", "key", "lasting", "name", "plain", "size_bytes", "text", "value")

    text: str
    plain: bool
    fault: str

    def __init__(self, name: bytes, value: bytes, size_bytes: int) -> None:
        self.name = name
        self.value = value
        self.size_bytes = size_bytes
        """What it is charged."""
        self.key: str | None = None
        self.lasting = False


class Block:
    """The fields of a header block, those that came from a table apart from those that were spelled out.

    Whoever uses them looks at their number and size first: up to then they are but references.
    """

    __slots__ = ("indexed", "places", "spelled")

    def __init__(self, indexed: list[Entry], spelled: list[Entry], places: list[int]) -> None:
        self.indexed = indexed
        self.spelled = spelled
        self.places = places
        """Where in the whole list each of `spelled` belongs."""

    def entries(self) -> list[Entry]:
        """All, in order."""
        entries = self.indexed.copy()
        for place, entry in zip(self.places, self.spelled, strict=True):
            entries.insert(place, entry)
        return entries

    @property
    def spelled_bytes(self) -> int:
        """What those spelled out are charged."""
        return sum([entry.size_bytes for entry in self.spelled])


# Position 0 is no entry: it costs more than any list may have, so the check that every field meets finds it.
_NO_ENTRY_BYTES: Final = 1 << 62
_FIRST_DYNAMIC: Final = len(STATIC_FIELDS) + 1
_STATIC_ENTRIES: Final[tuple[Entry, ...]] = (
    Entry(b"", b"", _NO_ENTRY_BYTES),
    *(Entry(name, value, len(name) + len(value) + FIELD_OVERHEAD_BYTES) for name, value in STATIC_FIELDS),
)


class HpackError(Exception):
    """The block breaks RFC 7541, or is too large to be read on: the connection ends with COMPRESSION_ERROR."""


class HeaderListTooLarge(Exception):
    """The list is over a limit, but was read and the table is in step with the peer's: only the stream ends."""


class Decoder:
    """Decodes the header blocks of one connection, in their order. After HpackError it is of no further use.

    max_table_size: bytes the peer's dynamic table may have until `set_max_table_size`.
    max_list_bytes, max_fields: limits of one list, counted as SETTINGS_MAX_HEADER_LIST_SIZE counts.
    generation: grows whenever the state that blocks are decoded against changes. While it stays the same across a
    `decode` and after it, the same bytes decode to the same fields.
    """

    __slots__ = (
        "_absurd_bytes", "_capacity_bytes", "_evicted", "_limit_bytes", "_max_fields", "_max_list_bytes", "_owed_bytes",
        "_strings", "_table", "_used_bytes", "generation",
    )  # fmt: skip

    def __init__(self, max_table_size: int = 4096, max_list_bytes: int = 16384, max_fields: int = 128) -> None:
        self.generation = 0
        self._max_list_bytes = max_list_bytes
        self._max_fields = max_fields
        self._absurd_bytes = _ABSURD * min(max_list_bytes, _NO_ENTRY_BYTES >> 3)
        # Static and dynamic entries in one list, so that an index is a position. The newest dynamic one is first: to
        # insert moves at most the 128 pointers that fit 4 KiB, cheaper than a branch or a deque's indexing per look-up.
        self._table = list(_STATIC_ENTRIES)
        self._used_bytes = 0
        self._capacity_bytes = max_table_size  # chosen by the peer, up to the limit
        self._limit_bytes = max_table_size  # chosen by us
        self._owed_bytes: int | None = None  # the next block must begin by reducing the capacity to this or less
        self._strings: dict[bytes, bytes] = {}
        self._evicted: dict[Field, Entry] = {}

    def set_max_table_size(self, size: int) -> None:
        """Our SETTINGS_HEADER_TABLE_SIZE in bytes, to be called when the peer has acknowledged it.

        If the peer's table may hold more now, its next block must begin with an update (RFC 9113, section 4.3.1).
        """
        self._limit_bytes = size
        if size < self._capacity_bytes:
            self._owed_bytes = size if self._owed_bytes is None else min(size, self._owed_bytes)
        self.generation += 1

    def decode(self, block: bytes) -> list[Field]:
        """The fields of one complete block, as the peer sent them (also never-indexed ones).

        Raises as `read` and `check`.
        """
        found = self.read(block)
        self.check(found)
        return [(entry.name, entry.value) for entry in found.entries()]

    def check(self, block: Block) -> None:
        """To be called before the fields of a block are used, unless its size is known to be within the limits.

        HpackError: the connection must end. HeaderListTooLarge: the list is over a limit; the table was kept in step.
        """
        count = len(block.indexed) + len(block.spelled)
        list_bytes = sum([entry.size_bytes for entry in block.indexed]) + block.spelled_bytes
        if list_bytes > self._absurd_bytes:
            raise HpackError(_why_absurd(list_bytes, self._max_list_bytes))
        if list_bytes > self._max_list_bytes or count > self._max_fields:
            raise HeaderListTooLarge(
                f"header list has {count} fields and {list_bytes} bytes; "
                f"allowed are {self._max_fields} and {self._max_list_bytes}"
            )

    def read(self, block: bytes) -> Block:
        """One complete header block; `check` it before its fields are used. HpackError: the connection must end."""
        end = len(block)
        if end > self._absurd_bytes:
            raise HpackError(f"header block of {end} bytes is far above the limit of {self._max_list_bytes}")
        indexed: list[Entry] = []
        spelled: list[Entry] = []
        places: list[int] = []
        long = end > _SHORT_BYTES
        try:
            position = 0
            if self._owed_bytes is not None or block[:1] in _UPDATES:
                position = self._update(block)
            table = self._table
            while position < end:
                octet = block[position]
                position += 1
                if 0x80 <= octet < 0xFF:
                    indexed.append(table[octet & 0x7F])
                elif octet < 0x80:
                    entry, position = self._literal(block, position, octet)
                    places.append(len(indexed) + len(spelled))
                    spelled.append(entry)
                else:
                    index, position = _integer(block, position, 0x7F)
                    indexed.append(table[index])
                if long and (len(indexed) + len(spelled)) * FIELD_OVERHEAD_BYTES > self._absurd_bytes:
                    break  # the check fails
        except IndexError:
            raise HpackError("header block is truncated or names an index beyond the table") from None
        except HuffmanError as error:
            raise HpackError(str(error)) from None
        return Block(indexed, spelled, places)

    def _literal(self, block: bytes, position: int, octet: int) -> tuple[Entry, int]:
        """The field with its value in the block that begins with `octet`, the one before `position`; where it ends."""
        if octet >= 0x40:
            mask = 0x3F
        elif octet < 0x20:
            mask = 0x0F  # not indexed, or never indexed: the difference matters only to who sends the field on
        else:
            raise HpackError("dynamic table size update after a field")
        index = octet & mask
        if index == mask:
            index += block[position]
            position += 1
            if block[position - 1] >= 0x80:  # hardly ever: peers have fewer than 128 entries
                index, position = _integer(block, position - 1, mask)
        if index:
            name = self._table[index].name
        else:
            name, position = self._string(block, position, _NEVER if mask == 0x3F else 0)
        value, position = self._string(block, position, _NEVER if mask == 0x3F else _LONG_BYTES)
        size = len(name) + len(value) + FIELD_OVERHEAD_BYTES
        if mask != 0x3F:
            return Entry(name, value, size), position
        entry = self._evicted.pop((name, value), None) if self._evicted else None
        if entry is None:
            entry = Entry(name, value, size)
        self.generation += 1
        self._table.insert(_FIRST_DYNAMIC, entry)
        self._used_bytes += size
        if self._used_bytes > self._capacity_bytes:
            self._evict()
        return entry, position

    def _string(self, block: bytes, position: int, remembered_bytes: int) -> tuple[bytes, int]:
        """The string at `position`, and where it ends. From `remembered_bytes` on its coding is remembered."""
        length = block[position]
        position += 1
        coded = length & 0x80
        length &= 0x7F
        if length == 0x7F:
            length, position = _integer(block, position, 0x7F)
        stop = position + length
        if stop > len(block):
            raise HpackError("header block is truncated inside a string")
        data = block[position:stop]
        if coded:
            # What is inserted is new, and comes back as an index. Of the rest names come back, and tokens, which are
            # long; a request id does not.
            data = huffman_decode(data) if length < remembered_bytes else self._remembered(data)
        return data, stop

    def _remembered(self, data: bytes) -> bytes:
        """Huffman decoding that remembers a few short strings."""
        strings = self._strings
        text = strings.get(data)
        if text is None:
            text = huffman_decode(data)
            if len(data) <= _REMEMBERED_BYTES:
                if len(strings) >= _REMEMBERED_STRINGS:
                    strings.clear()
                strings[data] = text
        return text

    def _update(self, block: bytes) -> int:
        """Follows the table size updates a block begins with; where the first field begins."""
        position = updates = 0
        while block[position : position + 1] in _UPDATES:
            updates += 1
            if updates > MAX_UPDATES:
                raise HpackError(f"more than {MAX_UPDATES} dynamic table size updates in one block")
            size = block[position] & 0x1F
            position += 1
            if size == 0x1F:
                size, position = _integer(block, position, 0x1F)
            if size > self._limit_bytes:
                raise HpackError(f"dynamic table size of {size} bytes; allowed are {self._limit_bytes}")
            if self._owed_bytes is not None and size <= self._owed_bytes:
                self._owed_bytes = None
            if size != self._capacity_bytes:
                self.generation += 1
                self._capacity_bytes = size
                self._evict()
        if self._owed_bytes is not None:
            raise HpackError(f"header block does not begin by reducing the dynamic table to {self._owed_bytes} bytes")
        return position

    def _evict(self) -> None:
        """Drops the oldest entries until the rest fits. An entry larger than the table goes itself, as the last."""
        while self._used_bytes > self._capacity_bytes:
            entry = self._table.pop()
            self._used_bytes -= entry.size_bytes
            if entry.lasting:
                if len(self._evicted) >= _EVICTED:
                    self._evicted.clear()
                self._evicted[entry.name, entry.value] = entry


_UPDATES = frozenset(bytes((octet,)) for octet in range(0x20, 0x40))
"""First octets of a dynamic table size update."""


def _integer(block: bytes, position: int, prefix: int) -> tuple[int, int]:
    """The integer whose prefix was all ones, continued at `position`, and where it ends (RFC 7541, section 5.1)."""
    value = prefix
    for shift in range(0, 35, 7):
        octet = block[position]
        position += 1
        value += (octet & 0x7F) << shift
        if octet < 0x80:
            if value > MAX_INTEGER:
                break
            return value, position
    raise HpackError("integer is longer than 5 octets or above 2**32 - 1")


def _why_absurd(list_bytes: int, max_list_bytes: int) -> str:
    if list_bytes >= _NO_ENTRY_BYTES:
        return "field with index 0"
    return f"header list of more than {list_bytes} bytes is far above the limit of {max_list_bytes}"


_STATIC_INDEX: Final = {field: index for index, field in reversed([*enumerate(STATIC_FIELDS, 1)])}
_STATIC_NAME_INDEX: Final = {name: index for index, (name, _) in reversed([*enumerate(STATIC_FIELDS, 1)])}


def encode(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A header block that needs no state on either side: never the dynamic table, no Huffman coding.

    So it can be made once, sent often, in any order and on any connection. Names must be lower-case.
    """
    block = bytearray()
    for name, value in pairs:
        index = _STATIC_INDEX.get((name, value))
        if index is not None:
            block.append(0x80 | index)
            continue
        index = _STATIC_NAME_INDEX.get(name, 0)
        block += _encode_integer(index, 0x0F)
        if not index:
            block += _encode_integer(len(name), 0x7F) + name
        block += _encode_integer(len(value), 0x7F) + value
    return bytes(block)


def _encode_integer(value: int, prefix: int) -> bytes:
    """`prefix` is the largest number the first octet can hold; its other bits stay 0."""
    if value < prefix:
        return bytes((value,))
    octets = [prefix]
    value -= prefix
    while value >= 0x80:
        octets.append(0x80 | value & 0x7F)
        value >>= 7
    octets.append(value)
    return bytes(octets)
