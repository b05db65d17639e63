"""A snapshot as its two ends hold it: by model, and changed in place, so that an update costs as much as what it says.

The control process has one of what it has sent, each proxy one of what it serves; both go through the same updates.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from gateway.routing.snapshot import Assignment, Pool, PoolKey, Region, Release, Snapshot
from gateway.routing.update import Update


class Part(NamedTuple):
    """What a snapshot says of one model."""

    release: Release | None
    pools: tuple[Pool, ...]


class Holding:
    """What is held of a snapshot. Read its attributes; only `apply` changes them."""

    __slots__ = ("_pools", "assignments", "epoch", "regions", "releases")

    def __init__(self, snapshot: Snapshot = Snapshot(0)) -> None:  # noqa: B008 - immutable
        self.epoch = snapshot.epoch
        self.releases = {release.model: release for release in snapshot.releases}
        self.assignments = snapshot.assignments
        self.regions = snapshot.regions
        self._pools: dict[str, dict[PoolKey, Pool]] = {}
        for pool in snapshot.pools:
            self._pools.setdefault(pool.model, {})[pool.key] = pool

    def pools_of(self, model: str) -> Mapping[PoolKey, Pool]:
        """The pools of one model."""
        return self._pools.get(model, {})

    @property
    def models(self) -> set[str]:
        """Those with a release or a pool."""
        return self.releases.keys() | self._pools.keys()

    def snapshot(self) -> Snapshot:
        """All of it, which costs as much as it is."""
        pools = sorted((pool for held in self._pools.values() for pool in held.values()), key=lambda pool: pool.key)
        return Snapshot(self.epoch, tuple(self.releases.values()), self.assignments, tuple(pools), self.regions)

    def difference(
        self,
        parts: Mapping[str, Part],
        assignments: dict[str, Assignment] | None = None,
        regions: tuple[Region, ...] | None = None,
    ) -> Update:
        """What makes these models what their parts say. Models that are not named stay; None: as it is."""
        releases: list[Release] = []
        models_gone: list[str] = []
        pools: list[Pool] = []
        pools_gone: list[PoolKey] = []
        for model, part in parts.items():
            held, before = self.releases.get(model), self.pools_of(model)
            if part.release is None:
                models_gone += [model] if held is not None else []
            elif not _same(held, part.release):
                releases.append(part.release)
            pools += [pool for pool in part.pools if not _same(before.get(pool.key), pool)]
            pools_gone += before.keys() - {pool.key for pool in part.pools}
        return Update(
            releases=tuple(releases),
            models_gone=tuple(models_gone),
            pools=tuple(pools),
            pools_gone=tuple(sorted(pools_gone)),
            assignments=None if assignments is None or _same(self.assignments, assignments) else assignments,
            regions=None if regions is None or _same(self.regions, regions) else regions,
        )

    def toward(self, snapshot: Snapshot) -> Update:
        """What makes it into a whole snapshot."""
        parts = dict.fromkeys(self.models, Part(None, ())) | _parts(snapshot.releases, snapshot.pools)
        update = self.difference(parts, snapshot.assignments, snapshot.regions)
        return numbered(update, self.epoch, snapshot.epoch)

    def apply(self, update: Update) -> None:
        """Takes in what has changed. Raises ValueError when the update follows another snapshot."""
        if update.follows != self.epoch:
            raise ValueError(f"an update that follows epoch {update.follows} came after {self.epoch}")
        for release in update.releases:
            self.releases[release.model] = release
        for model in update.models_gone:
            del self.releases[model]
        for pool in update.pools:
            self._pools.setdefault(pool.model, {})[pool.key] = pool
        for key in update.pools_gone:
            held = self._pools[key[0]]
            del held[key]
            if not held:
                del self._pools[key[0]]
        self.assignments = self.assignments if update.assignments is None else update.assignments
        self.regions = self.regions if update.regions is None else update.regions
        self.epoch = update.epoch


def numbered(update: Update, follows: int, epoch: int) -> Update:
    """The update between two epochs."""
    return Update(
        *(follows, epoch, update.releases, update.models_gone, update.pools, update.pools_gone),
        assignments=update.assignments,
        regions=update.regions,
    )


def _parts(releases: Iterable[Release], pools: Iterable[Pool]) -> dict[str, Part]:
    by_model: dict[str, list[Pool]] = {}
    for pool in pools:
        by_model.setdefault(pool.model, []).append(pool)
    known = {release.model: release for release in releases}
    models = known.keys() | by_model.keys()
    return {model: Part(known.get(model), tuple(by_model.get(model, ()))) for model in models}


def _same(one: object, other: object) -> bool:
    """Most are the same objects, which is quickly seen."""
    return one is other or one == other
