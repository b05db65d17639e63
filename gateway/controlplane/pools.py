"""The worker processes of one version: as many instances as its settings say, live ones and shadow ones apart."""

import asyncio
import time
from collections.abc import Callable

import structlog

from gateway.controlplane.instance import Instance, WorkerHost, WorkerSpec, WorkerStatus
from gateway.controlplane.labels import unknown_outputs
from gateway.controlplane.settings import WorkerSettings
from gateway.controlplane.tasks import Bell, Tasks
from gateway.controlplane.version import Version
from gateway.errors import Refusal, Refused
from gateway.routing.snapshot import Pool

log = structlog.get_logger()

PoolKey = tuple[str, int, bool]
"""(model, version, shadow)"""
CHANGED_FILES = (
    "its files changed after it was loaded, and a version is immutable; "
    "put the old files back and add the new ones as a new version"
)
GONE = "its folder is gone or is no version any more; put it back or flip to another version"


class WorkerPool:
    """Runs one artifact, and never another one under the same version: after its files changed no worker is started."""

    def __init__(
        self, version: Version, settings: WorkerSettings, host: WorkerHost, changed: Callable[[], None], *, shadow: bool
    ) -> None:
        """`changed()` follows every change of `snapshot()`."""
        self.digest = version.digest
        self.settings = settings
        self.keep_until_s = 0.0
        """Until when (monotonic) it stays although no release names it."""
        self.key: PoolKey = (version.model, version.version, shadow)
        self._model, self._version, self._shadow = self.key
        self._labels = version.labels
        self._preparing = 0
        self._forbidden = ""
        self._changed = changed
        self._bell = Bell()
        self._tasks = Tasks()
        spec = WorkerSpec(version.model, version.version, shadow, version.model_path, settings)
        self.instances = [Instance(spec, host, lambda: self._forbidden, self._rang) for _ in range(settings.instances)]
        for number, instance in enumerate(self.instances):
            self._tasks.start(instance.run(), f"worker {version.model}/{version.version} #{number}")

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(instance.address for instance in self.instances if instance.address)

    @property
    def error(self) -> str:
        """Why an instance is not up; "" when all are or are coming, and nothing else is wrong with the version."""
        return next((instance.error for instance in self.instances if instance.error), "") or self._wrong_labels

    @property
    def _wrong_labels(self) -> str:
        """A version with labels for an output that it does not give answers, but is not to be flipped to."""
        status = self._ready_status
        return unknown_outputs(self._labels, (tensor.name for tensor in status.outputs)) if status else ""

    @property
    def _ready_status(self) -> WorkerStatus | None:
        return next((instance.ready_status for instance in self.instances if instance.ready_status), None)

    @property
    def state(self) -> str:
        """`ready` when anybody can answer, else `failed` when nobody is coming soon, else `loading`."""
        if self.addresses:
            return "ready"
        return "failed" if all(instance.error for instance in self.instances) else "loading"

    @property
    def healthy(self) -> bool:
        """Every instance is ready, none crashed again and again in the last minute, and the labels fit the model."""
        up = all(instance.address and not instance.looping for instance in self.instances)
        return up and not self._wrong_labels

    @property
    def settled(self) -> bool:
        """Nothing is loading for the first time."""
        return all(instance.address or instance.error for instance in self.instances)

    @property
    def was_ready(self) -> bool:
        """A worker has loaded the files at least once."""
        return any(instance.ready_status for instance in self.instances)

    @property
    def starting(self) -> bool:
        """It is loading for the first time: nobody has answered yet, and somebody may soon."""
        return self.state == "loading" and not self.was_ready

    @property
    def restarts(self) -> int:
        return sum(instance.restarts for instance in self.instances)

    @property
    def kept(self) -> bool:
        """It was prepared a short while ago, or is being prepared."""
        return self._preparing > 0 or time.monotonic() < self.keep_until_s

    def snapshot(self) -> Pool:
        """The pool as proxies see it."""
        status = self._ready_status
        pool = Pool(self._model, self._version, self._shadow, self.state, self.error, self.addresses)
        if not status:
            return pool
        return Pool(
            *(pool.model, pool.version, pool.shadow, pool.state, pool.error, pool.addresses),
            inputs=status.inputs,
            outputs=status.outputs,
            batched=status.batched,
            max_batch_size=self.settings.max_batch_size if status.batched else 1,
            queueing=self.settings.queueing(),
            costs=status.costs,
            instances=self.settings.instances,
            labels=self._labels,
        )

    def found(self, version: Version | None) -> None:
        """What the models directory holds now under this version: other or no files forbid new workers."""
        if version is None:
            self._forbidden = GONE
        elif version.digest != self.digest:
            self._forbidden = CHANGED_FILES
        else:
            self._forbidden = ""
        self._look_again()

    async def prepare(self, keep_s: float) -> None:
        """Returns when healthy. Raises Refused when it cannot be. Keeps the pool for `keep_s` afterwards."""
        self._preparing += 1
        try:
            for instance in self.instances:
                instance.retry()
            await self._bell.until(lambda: self.healthy or bool(self.error))
        finally:
            self._preparing -= 1
            self.keep(keep_s)
        if not self.healthy:
            said = f"{self._model} version {self._version} cannot be loaded: {self.error}"
            raise Refused(said, Refusal.CANNOT_BE_LOADED)

    def keep(self, keep_s: float) -> None:
        """Stays for at least so long from now, whether a release names it or not."""
        self.keep_until_s = max(self.keep_until_s, time.monotonic() + keep_s)

    async def until_settled(self) -> None:
        """Returns when every instance is ready or has failed."""
        await self._bell.until(lambda: self.settled)

    async def stop(self) -> None:
        """Lets every worker finish the frame it works on, then ends them."""
        self._forbidden = "it is being stopped"
        self._look_again()
        await asyncio.gather(*(instance.stop() for instance in self.instances))
        await self._tasks.close()

    def _look_again(self) -> None:
        for instance in self.instances:
            instance.look_again()
        self._bell.ring()

    def _rang(self) -> None:
        self._bell.ring()
        self._changed()
