"""What is different from one snapshot to the next: a change of one model costs as much as one model, however many there
are. Pure.
"""

import msgspec

from gateway.routing.snapshot import Assignment, Pool, PoolKey, Region, Release, Snapshot


class Update(msgspec.Struct, frozen=True, tag="update"):
    """Makes the snapshot of the epoch `follows` into that of `epoch`."""

    follows: int
    epoch: int
    releases: tuple[Release, ...] = ()
    """New ones and those that have changed."""
    models_gone: tuple[str, ...] = ()
    pools: tuple[Pool, ...] = ()
    """New ones and those that have changed."""
    pools_gone: tuple[PoolKey, ...] = ()
    assignments: dict[str, Assignment] | None = None
    """All of them; None: as before."""
    regions: tuple[Region, ...] | None = None
    """Likewise."""


def difference(before: Snapshot, after: Snapshot) -> Update:
    """The update for whoever has `before`."""
    releases = {release.model: release for release in before.releases}
    pools = {pool.key: pool for pool in before.pools}
    changed = tuple(one for one in after.releases if not _same(releases.pop(one.model, None), one))
    others = tuple(one for one in after.pools if not _same(pools.pop(one.key, None), one))
    return Update(
        follows=before.epoch,
        epoch=after.epoch,
        releases=changed,
        models_gone=tuple(releases),
        pools=others,
        pools_gone=tuple(pools),
        assignments=None if _same(before.assignments, after.assignments) else after.assignments,
        regions=None if _same(before.regions, after.regions) else after.regions,
    )


def updated(before: Snapshot, update: Update) -> Snapshot:
    """The snapshot after the update; what has not changed are the same objects.

    Raises ValueError when the update follows another snapshot.
    """
    if update.follows != before.epoch:
        raise ValueError(f"an update that follows epoch {update.follows} came after {before.epoch}")
    releases = {release.model: release for release in before.releases}
    releases |= {release.model: release for release in update.releases}
    pools = {pool.key: pool for pool in before.pools}
    pools |= {pool.key: pool for pool in update.pools}
    for model in update.models_gone:
        del releases[model]
    for key in update.pools_gone:
        del pools[key]
    return Snapshot(
        epoch=update.epoch,
        releases=tuple(releases.values()),
        assignments=before.assignments if update.assignments is None else update.assignments,
        pools=tuple(pools.values()),
        regions=before.regions if update.regions is None else update.regions,
    )


def _same(one: object, other: object) -> bool:
    """Most are the same objects, which is quickly seen."""
    return one is other or one == other
