"""The worker pools of a gateway, by key and by model: what is done for one model looks at its pools only."""

from collections.abc import Iterator, Mapping
from typing import Final

from gateway.controlplane.pools import PoolKey, WorkerPool
from gateway.routing.snapshot import Release

NO_POOLS: Final[Mapping[PoolKey, WorkerPool]] = {}


class Roster:
    """Every pool that runs, from its start until it is let go."""

    def __init__(self) -> None:
        self._by_model: dict[str, dict[PoolKey, WorkerPool]] = {}

    def __iter__(self) -> Iterator[WorkerPool]:
        """All pools."""
        for pools in list(self._by_model.values()):
            yield from list(pools.values())

    def of(self, model: str) -> Mapping[PoolKey, WorkerPool]:
        """The pools of one model."""
        return self._by_model.get(model, NO_POOLS)

    def get(self, key: PoolKey) -> WorkerPool | None:
        return self.of(key[0]).get(key)

    def put(self, key: PoolKey, pool: WorkerPool) -> None:
        """In the place of the one that had the key, if any."""
        self._by_model.setdefault(key[0], {})[key] = pool

    def pop(self, key: PoolKey) -> WorkerPool:
        pools = self._by_model[key[0]]
        pool = pools.pop(key)
        if not pools:
            del self._by_model[key[0]]
        return pool

    def clear(self) -> list[WorkerPool]:
        """Forgets all pools; returns them."""
        found = list(self)
        self._by_model.clear()
        return found


def pools_named(release: Release) -> set[PoolKey]:
    """The warm set: live pools of both the policy and the one to roll back to, shadow pools of the policy."""
    named: set[PoolKey] = set()
    for policy in filter(None, (release.policy, release.rollback)):
        named |= {(release.model, version, False) for version in policy.live}
    return named | {(release.model, shadow.version, True) for shadow in release.policy.shadows}
