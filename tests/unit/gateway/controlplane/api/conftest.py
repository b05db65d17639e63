from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.controlplane.api.known import Known
from gateway.controlplane.releases import Releases
from gateway.controlplane.store.memory import MemoryStore
from tests.unit.gateway.controlplane.fake_fleet import FakeFleet


class FakeContext:
    """What rooms ask of a call."""

    def __init__(self, **metadata: str) -> None:
        self._metadata = tuple((key.replace("_", "-"), value) for key, value in metadata.items())

    def invocation_metadata(self) -> Any:
        return self._metadata

    def peer(self) -> str:
        return "ipv4:127.0.0.1:5"


class World:
    """A control plane in memory that knows iris, version 1."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.fleet = FakeFleet()
        self.now_ms = 1_700_000_000_000
        self.releases = Releases(self.store, self.fleet, lambda: self.now_ms)
        self.known = Known(self.releases, self.fleet)
        self.context: Any = FakeContext(cutover_actor="ada")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    await made.releases.start()
    await made.releases.register("iris", 1)
    yield made
    await made.releases.close()
