"""A plane between hand-made calls and workers on real sockets."""

from asyncio import get_running_loop
from pathlib import Path
from time import monotonic
from typing import Any

from gateway.dataplane.plane import Plane, Settings
from gateway.errors import Code
from gateway.routing.snapshot import Policy, Pool, Release, Snapshot
from tests.unit.gateway.dataplane.fakes import FakeCall, SocketWorker, infer, pool, until


class PlaneBench:
    """A plane, and workers on real sockets."""

    def __init__(self, folder: Path, settings: Settings | None = None) -> None:
        self.folder = folder
        self.plane = Plane(settings or Settings(), get_running_loop())
        self.workers: dict[str, SocketWorker] = {}
        self.epoch = 0

    async def start(self, name: str, **answers: Any) -> str:
        """A worker; returns its address."""
        worker = self.workers[name] = SocketWorker(self.folder / name, **answers)
        await worker.__aenter__()
        return worker.address

    async def stop(self) -> None:
        self.plane.apply(Snapshot(epoch=self.epoch + 1))
        self.plane.report(0)
        for worker in self.workers.values():
            await worker.stop()
        await until(lambda: not self.plane._connecting)

    def apply(self, policy: Policy | None, *pools: Pool, **snapshot: Any) -> None:
        self.epoch += 1
        releases = (Release("m", self.epoch, policy),) if policy is not None else ()
        self.plane.apply(Snapshot(epoch=self.epoch, releases=releases, pools=pools, **snapshot))

    def infer(self, user: str = "", **fields: Any) -> FakeCall:
        now_s = monotonic()
        call = FakeCall(infer((1, 2)), {"x-user-id": user} if user else {}, now_s, **fields)
        self.plane.pipeline.infer(call)
        return call

    async def answered(self, call: FakeCall) -> Code | None:
        await until(lambda: call.closed)
        return call.code


def version(number: int, *addresses: str, **changes: Any) -> Pool:
    return pool(version=number, addresses=addresses, **changes)
