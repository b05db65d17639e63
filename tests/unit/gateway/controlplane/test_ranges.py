"""Growing and shrinking what an arm owns."""

import pytest

from gateway.controlplane.ranges import free, grow, shrink, within
from gateway.routing.snapshot import Range


def test_free_are_the_gaps_lowest_first() -> None:
    assert list(free([])) == [Range(0, 10_000)]
    assert list(free([Range(0, 10_000)])) == []
    assert list(free([Range(500, 600), Range(0, 100)])) == [Range(100, 500), Range(600, 10_000)]


def test_growing_takes_the_lowest_free_buckets() -> None:
    taken = [Range(0, 100), Range(150, 9_000)]
    assert grow((), taken, 70) == (Range(100, 150), Range(9_000, 9_020))


def test_growing_next_to_the_newest_range_makes_it_longer() -> None:
    own = (Range(200, 300), Range(0, 100))
    assert grow(own, own, 50) == (Range(200, 300), Range(0, 150))


def test_growing_beyond_what_is_free_is_an_error() -> None:
    with pytest.raises(ValueError, match="1 buckets too few are free"):
        grow((), [Range(0, 9_999)], 2)


def test_shrinking_gives_the_newest_back() -> None:
    own = (Range(200, 300), Range(0, 100))
    assert shrink(own, 0) == own
    assert shrink(own, 30) == (Range(200, 300), Range(0, 70))
    assert shrink(own, 100) == (Range(200, 300),)
    assert shrink(own, 101) == (Range(200, 299),)
    assert shrink(own, 200) == ()


def test_shrinking_below_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="too few are owned"):
        shrink((Range(0, 10),), 11)


def test_within_is_about_buckets_not_about_ranges() -> None:
    own = (Range(200, 300), Range(0, 100), Range(100, 150))
    assert within((), ())
    assert within((), own)
    assert within(own, own)
    assert within((Range(90, 120), Range(299, 300)), own)
    assert not within((Range(140, 160),), own)
    assert not within((Range(0, 1),), ())
