"""Arithmetic on the buckets of one arm. Pure.

An arm's ranges are kept oldest first, and inside a range the lowest bucket is the oldest: growing appends, shrinking
takes from the end, so what an arm gives back is always what it got last.
"""

from collections.abc import Iterable, Iterator

from gateway.routing.snapshot import BUCKETS, Range


def free(taken: Iterable[Range]) -> Iterator[Range]:
    """The gaps between the taken ranges, lowest first. Taken ranges must not overlap."""
    start = 0
    for owned in sorted(taken, key=lambda found: found.start):
        if owned.start > start:
            yield Range(start, owned.start)
        start = owned.end
    if start < BUCKETS:
        yield Range(start, BUCKETS)


def grow(ranges: tuple[Range, ...], taken: Iterable[Range], buckets: int) -> tuple[Range, ...]:
    """Adds the lowest free buckets. `taken`: the ranges of every arm, this one's too.

    Raises ValueError when fewer are free.
    """
    grown = list(ranges)
    for gap in free(taken):
        if not buckets:
            break
        piece = Range(gap.start, min(gap.end, gap.start + buckets))
        if grown and grown[-1].end == piece.start:
            grown[-1] = Range(grown[-1].start, piece.end)
        else:
            grown.append(piece)
        buckets -= piece.end - piece.start
    if buckets:
        raise ValueError(f"{buckets} buckets too few are free")
    return tuple(grown)


def shrink(ranges: tuple[Range, ...], buckets: int) -> tuple[Range, ...]:
    """Takes the newest buckets away. Raises ValueError if the arm owns fewer."""
    kept = list(ranges)
    while buckets:
        if not kept:
            raise ValueError(f"{buckets} buckets too few are owned")
        last = kept.pop()
        size = last.end - last.start
        if size > buckets:
            kept.append(Range(last.start, last.end - buckets))
        buckets -= min(size, buckets)
    return tuple(kept)


def within(ranges: Iterable[Range], others: Iterable[Range]) -> bool:
    """Whether each bucket of the ranges is in one of the others."""
    gaps = list(free(others))
    return not any(gap.start < owned.end and owned.start < gap.end for owned in ranges for gap in gaps)
