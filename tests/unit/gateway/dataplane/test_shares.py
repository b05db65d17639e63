import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dataplane import shares as module
from gateway.dataplane.shares import Shares
from gateway.routing.assignment import bucket, first_hash
from gateway.routing.snapshot import BUCKETS, Range


@st.composite
def owned(draw: st.DrawFn) -> list[tuple[tuple[Range, ...], str]]:
    """Up to three owners of ranges that do not overlap, in any order; some of them own nothing."""
    cuts = sorted(draw(st.sets(st.integers(0, BUCKETS), min_size=2, max_size=12)))
    ranges: dict[str, list[Range]] = {name: [] for name in "abc"}
    for start, end in itertools.pairwise(cuts):
        name = draw(st.sampled_from(["", *ranges]))
        if name:
            ranges[name].append(Range(start, end))
    return [(tuple(draw(st.permutations(parts))), name) for name, parts in ranges.items()]


@settings(max_examples=100)
@given(owned(), st.data())
def test_the_owner_of_a_hash_is_that_of_its_bucket(
    given_: list[tuple[tuple[Range, ...], str]], data: st.DataObject
) -> None:
    made = Shares("salt", given_, "rest")
    owners = {number: name for parts, name in given_ for part in parts for number in range(part.start, part.end)}
    corners = [
        first_hash(edge) + step
        for parts, _ in given_
        for part in parts
        for edge in (part.start, part.end)
        for step in (-1, 0)
    ]
    hashes = st.integers(0, (1 << 32) - 1)
    for found in [*data.draw(st.lists(hashes, max_size=20)), *(each for each in corners if 0 <= each < 1 << 32)]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "getrandbits", lambda bits, found=found: found)
            assert made.by_chance() == owners.get(found * BUCKETS >> 32, "rest")
    for unit in data.draw(st.lists(st.text(), max_size=20)):
        assert made.of(unit) == owners.get(bucket("salt", unit), "rest")


def test_without_ranges_all_is_the_rest() -> None:
    made = Shares("salt", [((), "a"), ((Range(5, 5),), "b")], "rest")
    assert (made.borders, made.owners) == ((), ("rest",))


def test_ranges_that_meet_are_one() -> None:
    made = Shares("salt", [((Range(2000, 3000), Range(1000, 2000)), "a"), ((Range(3000, 4000),), "b")], "rest")
    assert made.borders == (first_hash(1000), first_hash(3000), first_hash(4000))
    assert made.owners == ("rest", "a", "b", "rest")


def test_who_has_everything_leaves_nothing() -> None:
    made = Shares("salt", [((Range(5000, BUCKETS), Range(0, 5000)), "a")], "rest")
    assert {made.of(f"u{number}") for number in range(100)} == {"a"}


def test_chance_keeps_to_the_shares() -> None:
    made = Shares("salt", [((Range(0, 1000),), "a")], "rest")
    found = Counter(made.by_chance() for _ in range(10_000))
    assert 700 < found["a"] < 1300, "ten standard deviations"
