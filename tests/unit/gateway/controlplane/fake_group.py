"""Gateways on one store in one process: everything real but workers, proxies and the store."""

import asyncio
from typing import Any

from gateway.controlplane.follower import Follower
from gateway.controlplane.peers import Peers
from gateway.controlplane.releases import Releases
from gateway.controlplane.store.memory import MemoryStore
from gateway.controlplane.store.memorymembers import MemoryMembers
from gateway.errors import StoreFailed
from gateway.routing.snapshot import Release
from tests.unit.gateway.controlplane.fake_fleet import FakeFleet


class SharedStore(MemoryStore):
    """Tells the members of every commit, as PostgreSQL does by NOTIFY."""

    def __init__(self) -> None:
        super().__init__()
        self._clock_s = 1e9
        self.members = MemoryMembers(self, self.clock_s)
        self.down = False

    def clock_s(self) -> float:
        """The database's: never twice the same."""
        self._clock_s += 0.001
        return self._clock_s

    async def commit(self, *values: Any) -> Release:
        kept = await super().commit(*values)
        self.members._tell()
        return kept

    async def since(self, sequence: int) -> list[Release]:
        if self.down:
            raise StoreFailed("the store is down")
        return await super().since(sequence)


class FakeProxies:
    """Notes what lease they were given, in order."""

    def __init__(self) -> None:
        self.leases: list[float | None] = []
        self.surveys = 0
        self.failure: Exception | None = None

    def lease(self, valid_until_s: float | None) -> None:
        self.leases.append(valid_until_s)

    async def survey(self) -> None:
        self.surveys += 1
        if self.failure is not None:
            raise self.failure


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class OneOfThem:
    """One gateway on a shared store."""

    def __init__(self, store: SharedStore, name: str, lease_s: float = 0.0) -> None:
        self.clock = Clock()
        self.fleet = FakeFleet()
        self.proxies = FakeProxies()
        self.peers = Peers(store.members, name, lambda: 1_000, self.clock, patience_s=0.0)
        self.releases = Releases(store, self.fleet, lambda: 1_000, self.peers)
        self.follower = Follower(store.members, self.peers, self.releases, self.fleet, self.proxies, lease_s)
        self.follower._clock_s = self.clock

    async def start(self, *, orphans: bool = False) -> None:
        await self.releases.start()
        await self.follower.join(orphans=orphans)

    async def stop(self) -> None:
        await self.releases.close()
        await self.follower.close()

    async def die(self) -> None:
        """Stops without a word: its row stays."""
        await self.follower._tasks.close()


async def until(store: SharedStore, gateway: str, sequence: int) -> None:
    """Returns when the row of a gateway says that it serves the change."""
    changed = asyncio.Event()
    end = store.members.subscribe(changed.set)
    try:
        async with asyncio.timeout(20):
            while True:
                changed.clear()
                for member in await store.members.members():
                    if member.id == gateway and member.report.applied_sequence >= sequence:
                        return
                await changed.wait()
    finally:
        end()
