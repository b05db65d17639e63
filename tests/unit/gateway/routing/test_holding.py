import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.holding import Holding, Part, numbered
from gateway.routing.snapshot import Assignment, Policy, Pool, Region, Release, Snapshot
from gateway.routing.update import Update

MODELS = st.sampled_from(["a", "b", "c", "d"])
RELEASES = st.dictionaries(MODELS, st.integers(1, 3)).map(
    lambda found: tuple(Release(model, revision, Policy(1)) for model, revision in found.items())
)
POOLS = st.dictionaries(st.tuples(MODELS, st.integers(1, 2), st.booleans()), st.sampled_from(["ready", "failed"])).map(
    lambda found: tuple(Pool(*key, state=state) for key, state in found.items())
)
ASSIGNMENTS = st.dictionaries(MODELS, st.booleans().map(lambda forced: Assignment(allow_forced=forced)))
REGIONS = st.sampled_from([(), (Region("r", "/k", 0, 8),)])
SNAPSHOTS = st.builds(
    Snapshot, epoch=st.integers(0, 9), releases=RELEASES, assignments=ASSIGNMENTS, pools=POOLS, regions=REGIONS
)


def content(snapshot: Snapshot) -> tuple[object, ...]:
    """A snapshot whatever its order."""
    releases = {release.model: release for release in snapshot.releases}
    pools = {pool.key: pool for pool in snapshot.pools}
    return snapshot.epoch, releases, snapshot.assignments, pools, snapshot.regions


@given(SNAPSHOTS, SNAPSHOTS)
def test_an_update_makes_the_one_into_the_other(before: Snapshot, after: Snapshot) -> None:
    held = Holding(before)
    update = held.toward(after)
    sent = msgspec.msgpack.decode(msgspec.msgpack.encode(update), type=Update)
    assert content(held.snapshot()) == content(before), "asking changes nothing"
    held.apply(sent)
    assert content(held.snapshot()) == content(after)
    assert held.models == {pool.model for pool in after.pools} | {release.model for release in after.releases}
    assert held.toward(after).empty


@given(SNAPSHOTS, SNAPSHOTS, MODELS)
def test_the_update_of_one_model_leaves_the_others_alone(before: Snapshot, after: Snapshot, model: str) -> None:
    held, wanted = Holding(before), Holding(after)
    part = Part(wanted.releases.get(model), tuple(wanted.pools_of(model).values()))
    update = numbered(held.difference({model: part}), before.epoch, 10)
    assert update.models() <= {model}
    held.apply(update)
    for name in "abcd":
        source = wanted if name == model else Holding(before)
        assert (held.releases.get(name), held.pools_of(name)) == (source.releases.get(name), source.pools_of(name))


def test_an_update_holds_only_what_has_changed_and_the_rest_are_the_same_objects() -> None:
    releases = tuple(Release(model, 1, Policy(1)) for model in "abc")
    pools = tuple(Pool(model, 1, shadow=False, state="ready") for model in "abc")
    held = Holding(Snapshot(4, releases, {}, pools))
    changed = Release("b", 2, Policy(1))
    after = Snapshot(
        5, (releases[0], changed, releases[2]), {}, (*pools[:2], Pool("d", 1, shadow=False, state="ready"))
    )
    update = held.toward(after)
    assert (update.releases, update.models_gone, update.pools_gone) == ((changed,), (), (("c", 1, False),))
    assert ([pool.model for pool in update.pools], update.assignments) == (["d"], None)
    held.apply(update)
    assert held.releases["a"] is releases[0]
    assert held.pools_of("b")["b", 1, False] is pools[1]


def test_an_update_of_another_snapshot_is_refused() -> None:
    with pytest.raises(ValueError, match="an update that follows epoch 4 came after 3"):
        Holding(Snapshot(3)).apply(Update(4, 5))
