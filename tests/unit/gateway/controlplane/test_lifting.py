import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.controlplane.lifting import LEAP, lifts, newest
from gateway.controlplane.served import older
from gateway.routing.snapshot import Policy, Release

RELEASES = st.dictionaries(st.sampled_from("abcd"), st.tuples(st.integers(1, 5), st.integers(1, 3)), max_size=4).map(
    lambda found: {
        model: Release(model, revision, Policy(stable), sequence=number * 10 + revision)
        for number, (model, (revision, stable)) in enumerate(sorted(found.items()), 1)
    }
)


@given(RELEASES, RELEASES)
def test_what_was_lifted_is_newer_than_all_that_was_seen_and_says_the_same(
    stored: dict[str, Release], seen: dict[str, Release]
) -> None:
    found = lifts(stored, seen, 7, "ada", "restored")
    after = stored | {lift.after.model: lift.after for lift in found}
    known = {model: release for model, release in seen.items() if model in stored}
    assert older(after, known) == ""
    for lift in found:
        model = lift.after.model
        assert lift.before == stored[model]
        assert lift.after.revision > max(stored[model].revision, seen[model].revision)
        assert lift.after.policy == stored[model].policy
        assert (lift.event.verb, lift.event.revision, lift.event.actor) == ("restore", lift.after.revision, "ada")
    sequences = [lift.after.sequence for lift in found]
    assert sequences == sorted(set(sequences))
    top = max((release.sequence for release in (*stored.values(), *seen.values())), default=0)
    assert all(sequence >= top + LEAP for sequence in sequences)


def test_who_is_up_to_date_stays_as_it_is() -> None:
    iris = Release("iris", 3, Policy(1), sequence=9)
    assert lifts({"iris": iris}, {"iris": iris}, 1, "ada", "") == []
    assert lifts({"iris": iris}, {"iris": msgspec.structs.replace(iris, sequence=8)}, 1, "ada", "") == []
    assert lifts({"iris": iris}, {}, 1, "ada", "") == []


def test_the_newest_of_several_views() -> None:
    old, new = Release("a", 1, Policy(1), sequence=1), Release("a", 2, Policy(1), sequence=2)
    other = Release("b", 1, Policy(1), sequence=3)
    assert (
        newest({"a": old}, {"a": new, "b": other})
        == newest({"a": new, "b": other}, {"a": old})
        == {
            "a": new,
            "b": other,
        }
    )
