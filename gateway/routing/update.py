"""What is different from one snapshot to the next: a change of one model costs as much as one model, however many there
are. Pure.
"""

import msgspec

from gateway.routing.snapshot import Assignment, Pool, PoolKey, Region, Release


class Update(msgspec.Struct, frozen=True, tag="update"):
    """Makes the snapshot of the epoch `follows` into that of `epoch`. Whoever sends it gives it these numbers."""

    follows: int = 0
    epoch: int = 0
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

    @property
    def empty(self) -> bool:
        """It changes nothing but the epoch."""
        named = self.releases or self.models_gone or self.pools or self.pools_gone
        return not named and self.assignments is None and self.regions is None

    def models(self) -> set[str]:
        """The models that it says anything of by name."""
        found = {release.model for release in self.releases}
        found.update(self.models_gone)
        found.update(pool.model for pool in self.pools)
        found.update(model for model, _, _ in self.pools_gone)
        return found
