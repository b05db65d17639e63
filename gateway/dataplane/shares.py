"""Who owns which units: ranges of buckets, compiled so that one hash and one search find the owner."""

from bisect import bisect
from collections.abc import Iterable, Sequence
from itertools import pairwise
from random import getrandbits
from typing import Generic, TypeVar

from mmh3 import hash as murmur3

from gateway.routing.assignment import HASH_BITS, first_hash
from gateway.routing.snapshot import BUCKETS, Range

Owner = TypeVar("Owner")


class Shares(Generic[Owner]):
    """The owners of one salt's units.

    Their borders are hashes and not buckets: as exact, quicker, and without a table of all buckets. `owners[n]` has the
    hashes from `borders[n - 1]` up to, but not including, `borders[n]`.
    """

    __slots__ = ("_prefix", "borders", "owners")

    def __init__(self, salt: str, owned: Iterable[tuple[Sequence[Range], Owner]], rest: Owner) -> None:
        """`owned`: owners and their ranges, no two of which overlap; `rest` has all others."""
        self._prefix = f"{salt}:"
        edges = [(0, rest)]  # from which bucket on whose they are
        for part, owner in sorted(((part, owner) for parts, owner in owned for part in parts), key=_start):
            edges += [(part.start, owner), (part.end, rest)]
        borders: list[int] = []
        owners: list[Owner] = []
        for (start, owner), (end, _) in pairwise([*edges, (BUCKETS, rest)]):
            if start < end and not (owners and owners[-1] is owner):
                owners.append(owner)
                borders.append(first_hash(start))
        self.borders = tuple(borders[1:])
        self.owners = tuple(owners)

    def of(self, unit: str) -> Owner:
        """Whose the unit is: that of `gateway.routing.assignment.bucket`."""
        return self.owners[bisect(self.borders, murmur3(self._prefix + unit, 0, False))]

    def by_chance(self) -> Owner:
        """Each owner as often as its share is large."""
        return self.owners[bisect(self.borders, getrandbits(HASH_BITS))]


def _start(piece: tuple[Range, object]) -> int:
    return piece[0].start
