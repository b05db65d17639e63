"""A fleet without processes, which tests can make slow or make fail."""

import asyncio
from collections.abc import Mapping

from gateway.controlplane.ports import Applied, Fleet, VersionStatus
from gateway.errors import NotFound, Refused
from gateway.routing.snapshot import Release, Tensor


class FakeFleet:
    """Has the versions 1 to 9 of every model; serves and prepares at once unless told otherwise."""

    def __init__(self) -> None:
        self.prepared: list[tuple[str, int, bool]] = []
        self.kept: list[tuple[str, int, float]] = []
        self.served: list[dict[str, Release]] = []
        self.broken: set[int] = set()
        """Versions that cannot be loaded."""
        self.failure: Exception | None = None
        """What `serve` raises."""
        self.may_prepare = asyncio.Event()
        self.may_serve = asyncio.Event()
        self.may_prepare.set()
        self.may_serve.set()
        self.preparing = asyncio.Event()
        self.serving = asyncio.Event()
        self.has_served = asyncio.Event()
        self.known: list[VersionStatus] = []
        self.found_problems: list[str] = []
        self.applied: tuple[Applied, ...] = ()
        """What `serve` returns."""

    async def prepare(self, model: str, version: int, *, shadow: bool) -> None:
        self.preparing.set()
        await self.may_prepare.wait()
        await self.check(model, version, shadow=shadow)
        if version in self.broken:
            raise Refused(f"version {version} of {model} cannot be loaded: it is broken")
        self.prepared.append((model, version, shadow))

    async def check(self, model: str, version: int, *, shadow: bool) -> None:
        if version > 9:
            raise NotFound(f"{model} has no version {version}")

    def keep(self, model: str, version: int, keep_s: float) -> None:
        self.kept.append((model, version, keep_s))

    async def serve(self, releases: Mapping[str, Release]) -> tuple[Applied, ...]:
        self.serving.set()
        await self.may_serve.wait()
        if self.failure is not None:
            raise self.failure
        self.served.append(dict(releases))
        self.has_served.set()
        return self.applied

    def statuses(self) -> list[VersionStatus]:
        return self.known

    def problems(self) -> list[str]:
        return self.found_problems


def status(model: str, version: int, state: str = "ready") -> VersionStatus:
    """A version with one input and one output."""
    return VersionStatus(
        model=model,
        version=version,
        digest="ab" * 32,
        state=state,
        inputs=(Tensor("X", "FP32", (-1, 30)),),
        outputs=(Tensor("label", "INT64", (-1,)),),
        batched=True,
        instances_ready=1,
        instances=2,
        restarts=3,
    )


_: type[Fleet] = FakeFleet
