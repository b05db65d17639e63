import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.snapshot import Assignment, Policy, Pool, Release, Snapshot
from gateway.routing.update import Update, difference, updated

MODELS = st.sampled_from(["a", "b", "c", "d"])
RELEASES = st.dictionaries(MODELS, st.integers(1, 3)).map(
    lambda found: tuple(Release(model, revision, Policy(1)) for model, revision in found.items())
)
POOLS = st.dictionaries(st.tuples(MODELS, st.integers(1, 2), st.booleans()), st.sampled_from(["ready", "failed"])).map(
    lambda found: tuple(Pool(*key, state=state) for key, state in found.items())
)
ASSIGNMENTS = st.dictionaries(MODELS, st.booleans().map(lambda forced: Assignment(allow_forced=forced)))
SNAPSHOTS = st.builds(Snapshot, epoch=st.integers(0, 9), releases=RELEASES, assignments=ASSIGNMENTS, pools=POOLS)


def content(snapshot: Snapshot) -> tuple[object, ...]:
    """A snapshot whatever its order."""
    releases = {release.model: release for release in snapshot.releases}
    return snapshot.epoch, releases, snapshot.assignments, {pool.key: pool for pool in snapshot.pools}


@given(SNAPSHOTS, SNAPSHOTS)
def test_an_update_makes_the_one_into_the_other(before: Snapshot, after: Snapshot) -> None:
    update = difference(before, after)
    sent = msgspec.msgpack.decode(msgspec.msgpack.encode(update), type=type(update))
    assert content(updated(before, sent)) == content(after)


def test_an_update_holds_only_what_has_changed_and_the_rest_are_the_same_objects() -> None:
    releases = tuple(Release(model, 1, Policy(1)) for model in "abc")
    pools = tuple(Pool(model, 1, shadow=False, state="ready") for model in "abc")
    before = Snapshot(4, releases, {}, pools)
    changed = Release("b", 2, Policy(1))
    after = Snapshot(
        5, (releases[0], changed, releases[2]), {}, (*pools[:2], Pool("d", 1, shadow=False, state="ready"))
    )
    update = difference(before, after)
    assert (update.releases, update.models_gone, update.pools_gone) == ((changed,), (), (("c", 1, False),))
    assert ([pool.model for pool in update.pools], update.assignments) == (["d"], None)
    found = updated(before, update)
    assert found.releases[0] is releases[0]
    assert found.pools[1] is pools[1]


def test_an_update_of_another_snapshot_is_refused() -> None:
    update = difference(Snapshot(4), Snapshot(5))
    with pytest.raises(ValueError, match="an update that follows epoch 4 came after 3"):
        updated(Snapshot(3), update)


def test_no_field_of_a_snapshot_is_forgotten() -> None:
    assert set(Snapshot.__struct_fields__) <= set(Update.__struct_fields__)
