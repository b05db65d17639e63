"""Inputs made from others by chance, the same ones for the same seed: what a fuzzer does, without its guidance."""

import random
from collections.abc import Iterator, Sequence

MAX_BYTES = 4096
EDGES = bytes([0, 1, 2, 4, 5, 8, 9, 0x1F, 0x20, 0x24, 0x2D, 0x3F, 0x40, 0x7F, 0x80, 0xBE, 0xFE, 0xFF])
"""Octets that mean something to HTTP/2 or HPACK, or lie at an edge."""


def mutations(seeds: Sequence[bytes], number: int, seed: int) -> Iterator[bytes]:
    """So many inputs, each a seed with one to eight changes."""
    chance = random.Random(seed)  # noqa: S311 - reproducible, not secret
    for _ in range(number):
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(1, 8)):
            change(data, chance, chance.choice(seeds))
        yield bytes(data[:MAX_BYTES])


def change(data: bytearray, chance: random.Random, other: bytes) -> None:
    """One change: an octet, or a piece left out, repeated, moved or taken from another input."""
    start = chance.randint(0, len(data))
    end = min(len(data), start + chance.choice((1, 1, 2, 4, 9, 30, 100)))
    piece = data[start:end]
    match chance.randrange(7):
        case 0 if piece:
            data[start] ^= 1 << chance.randrange(8)
        case 1 if piece:
            data[start] = chance.choice(EDGES)
        case 2 if piece:
            data[start] = chance.randrange(256)
        case 3:
            del data[start:end]
        case 4:
            data[start:start] = piece * chance.randint(1, 3)
        case 5:
            del data[start:end]
            where = chance.randint(0, len(data))
            data[where:where] = piece
        case _:
            where = chance.randint(0, len(other))
            data[start:end] = other[where : where + chance.randint(1, 60)]
