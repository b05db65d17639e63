"""Assignment is sticky, even, and independent between salts; canaries get exactly the buckets they own."""

import itertools
from collections import Counter

import mmh3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cli.assignment import assign as recompute
from gateway.dataplane.route import Route
from gateway.dataplane.tap import Series
from gateway.oip import request as oip
from gateway.routing.assignment import bucket
from gateway.routing.snapshot import BUCKETS, STABLE, Assignment, Canary, Holdout, Policy, Range, Release, Rule
from tests.unit.gateway.dataplane.fakes import LaneBench

UNITS = 20_000
REQUEST, _ = oip.read(b"")
UNIT = st.text(min_size=1, max_size=12)


def murmur3(data: bytes) -> int:
    """MurmurHash3 x86_32 with seed 0, after its published description; slow, and independent of any library."""
    mask = 0xFFFF_FFFF
    state = 0
    blocks = len(data) // 4
    for index in range(blocks + 1):
        part = data[4 * index : 4 * index + 4]
        word = int.from_bytes(part, "little") * 0xCC9E_2D51 & mask
        word = (word << 15 | word >> 17) & mask
        state ^= word * 0x1B87_3593 & mask
        if index < blocks:
            state = (state << 13 | state >> 19) & mask
            state = (state * 5 + 0xE654_6B64) & mask
    state ^= len(data)
    for shift, factor in ((16, 0x85EB_CA6B), (13, 0xC2B2_AE35), (16, 1)):
        state = (state ^ state >> shift) * factor & mask
    return state


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=20), st.text(max_size=40))
def test_the_bucket_is_murmur3_scaled(salt: str, unit: str) -> None:
    hashed = murmur3(f"{salt}:{unit}".encode())
    assert mmh3.hash(f"{salt}:{unit}".encode(), 0, signed=False) == hashed
    assert bucket(salt, unit) == hashed * BUCKETS >> 32
    assert 0 <= bucket(salt, unit) < BUCKETS


def chi_square(table: list[list[int]]) -> float:
    """Pearson's statistic against the table's own margins."""
    rows = [sum(row) for row in table]
    columns = [sum(column) for column in zip(*table, strict=True)]
    total = sum(rows)
    statistic = 0.0
    for r, row in enumerate(table):
        for c, found in enumerate(row):
            expected = rows[r] * columns[c] / total
            statistic += (found - expected) * (found - expected) / expected
    return statistic


@pytest.mark.parametrize(("one", "other"), [("m/2", "m/3"), ("m/2", "holdout/m"), ("a/1", "a/11")])
def test_two_salts_split_users_independently(one: str, other: str) -> None:
    table = [[0] * 10 for _ in range(10)]
    for number in range(UNITS):
        unit = f"user-{number}"
        table[bucket(one, unit) // 1000][bucket(other, unit) // 1000] += 1
    assert chi_square(table) < 134.6  # the upper 1 % point of 99 degrees of freedom, more than the 81 there are


def test_buckets_are_used_evenly() -> None:
    tenths = Counter(bucket("m/2", f"user-{number}") // 1000 for number in range(UNITS))
    assert chi_square([[tenths[tenth] for tenth in range(10)], [UNITS // 10] * 10]) < 21.67  # 9 degrees of freedom


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """A stable version and up to four canaries with disjoint ranges, several each."""
    cuts = sorted(draw(st.sets(st.integers(0, BUCKETS), min_size=2, max_size=12)))
    owners = draw(st.lists(st.integers(0, 4), min_size=len(cuts) - 1, max_size=len(cuts) - 1))
    owned: dict[int, list[Range]] = {}
    for (start, end), owner in zip(itertools.pairwise(cuts), owners, strict=True):
        if owner:
            owned.setdefault(owner + 1, []).append(Range(start, end))
    canaries = tuple(Canary(version, tuple(draw(st.permutations(ranges)))) for version, ranges in owned.items())
    arms = st.sampled_from([STABLE, *(canary.arm for canary in canaries)])
    overrides = draw(st.dictionaries(UNIT, arms, max_size=4))
    keys, values = st.sampled_from(["x-a", "x-b"]), st.lists(st.sampled_from("pqrs"), max_size=3).map(tuple)
    rules = tuple(draw(st.lists(st.builds(Rule, keys, values, arms), max_size=4)))
    held = st.builds(Holdout, st.just(9), st.just((Range(0, 3000), Range(7000, 7500))), st.text(max_size=8))
    salt = draw(st.text(max_size=8))
    return Policy(1, canaries, salt=salt, overrides=overrides, rules=rules, holdout=draw(st.none() | held))


METADATA = st.dictionaries(st.sampled_from(["x-a", "x-b"]), st.sampled_from("pqrs"))


def route(policy: Policy) -> Route:
    lane = LaneBench(workers=0).lane
    return Route(Release("m", 1, policy), Assignment(), lambda _: lane, lambda version, arm: Series("m", version, arm))


@settings(max_examples=60, deadline=None)
@given(policies(), st.lists(UNIT, min_size=1, max_size=30), METADATA)
def test_who_is_overridden_ruled_held_out_or_owns_the_bucket_answers_and_always_will(
    policy: Policy, units: list[str], metadata: dict[str, str]
) -> None:
    made, again = route(policy), route(policy)
    owners = {b: canary.version for canary in policy.canaries for owned in canary.ranges for b in range(*_ends(owned))}
    for unit in (*units, *policy.overrides):
        given = metadata | {"x-user-id": unit}
        arm, reason = made.assign(given, REQUEST)
        ruled = [rule.arm for rule in policy.rules if metadata.get(rule.key) in rule.values]
        held = bucket(policy.holdout.salt, unit) if policy.holdout else None
        if unit in policy.overrides:
            assert (arm.name, reason) == (policy.overrides[unit], "override")
        elif ruled:
            assert (arm.name, reason) == (ruled[0], "rule")
        elif held is not None and (held < 3000 or 7000 <= held < 7500):
            assert (arm.name, arm.version, reason) == ("holdout", 9, "holdout")
        else:
            assert arm.version == owners.get(bucket(policy.salt, unit), 1)
            assert reason == ("split" if policy.canaries else "stable")
        computed = recompute(policy, unit, metadata)
        assert (computed.arm, computed.version, computed.reason) == (arm.name, arm.version, reason)
        assert again.assign(given, REQUEST)[0].version == arm.version


def _ends(owned: Range) -> tuple[int, int]:
    return owned.start, owned.end


def test_several_canaries_get_exactly_the_users_of_their_buckets() -> None:
    policy = Policy(
        stable=1,
        canaries=(Canary(2, (Range(0, 500), Range(9000, 9500))), Canary(3, (Range(500, 1500),)), Canary(4, ())),
        salt="m/2",
    )
    made = route(policy)
    found = Counter(made.assign({"x-user-id": f"user-{number}"}, REQUEST)[0].name for number in range(UNITS))
    assert set(found) == {"stable", "canary-2", "canary-3"}
    for name, share in (("canary-2", 0.1), ("canary-3", 0.1), ("stable", 0.8)):
        deviation = (UNITS * share * (1 - share)) ** 0.5
        assert abs(found[name] - UNITS * share) < 4 * deviation


def test_growing_moves_nobody_but_the_newcomers() -> None:
    small = route(Policy(stable=1, canaries=(Canary(2, (Range(0, 1000),)), Canary(3, (Range(2000, 2500),))), salt="s"))
    grown = route(
        Policy(
            stable=1,
            canaries=(Canary(2, (Range(0, 1000), Range(5000, 6000))), Canary(3, (Range(2000, 2500),))),
            salt="s",
        )
    )
    for number in range(2000):
        metadata = {"x-user-id": f"user-{number}"}
        before, after = small.assign(metadata, REQUEST)[0].name, grown.assign(metadata, REQUEST)[0].name
        assert after == before or (before, after) == ("stable", "canary-2")
