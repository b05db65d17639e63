"""One worker process of a pool: started, watched, started again."""

import asyncio
import contextlib
import itertools
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import structlog

from gateway.controlplane.lifetime import WORKER
from gateway.controlplane.processes import Child, Launcher, describe_exit, held_bytes
from gateway.controlplane.restarts import HEALTHY_S, Restarts
from gateway.controlplane.settings import WorkerSettings
from gateway.controlplane.tasks import Bell
from gateway.routing.snapshot import Tensor

log = structlog.get_logger()

STOP_GRACE_S: Final = 5.0
MAX_STATUS_BYTES: Final = 1 << 20
_serial = itertools.count(1)


class WorkerStatus(msgspec.Struct, frozen=True):
    """One JSON line a worker writes to its status pipe."""

    state: str
    """`loading`, `ready` or `failed`."""
    error: str = ""
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    batched: bool = False
    load_ms: float = 0.0
    warmup_ms: float = 0.0
    note: str = ""
    costs: tuple[tuple[int, int], ...] = ()
    """(rows, microseconds) of batches that warm-up ran."""


class WorkerSpec(msgspec.Struct, frozen=True):
    """What a worker runs."""

    model: str
    version: int
    shadow: bool
    model_path: Path
    settings: WorkerSettings

    def arguments(self, socket: Path, status_fd: int) -> list[str]:
        """Command line of one worker, after the program."""
        arguments = ["--model", str(self.model_path), "--socket", str(socket), "--status-fd", str(status_fd)]
        arguments += ["--threads", str(self.settings.threads), "--max-batch-size", str(self.settings.max_batch_size)]
        arguments += ["--batching", self.settings.batching]
        if self.settings.max_memory:
            arguments += ["--max-memory", str(self.settings.max_memory)]
        return [*arguments, *(["--idle"] if self.shadow else [])]


class WorkerHost(msgspec.Struct, frozen=True):
    """Where and with which program workers run."""

    launcher: Launcher
    command: Sequence[str]
    run_dir: Path


class Instance:
    """One place in a pool. Its process changes; each one has a fresh socket, so an address means one process."""

    def __init__(
        self, spec: WorkerSpec, host: WorkerHost, may_start: Callable[[], str], changed: Callable[[], None]
    ) -> None:
        """`may_start()` says why no process may be started now, or ""; `changed()` follows every public change."""
        self.address = ""
        """Socket of the process that is ready; "" when none is."""
        self.ready_status: WorkerStatus | None = None
        """The last word of a process that was ready."""
        self.restarts = 0
        self._spec = spec
        self._host = host
        self._may_start = may_start
        self._changed = changed
        self._bell = Bell()
        self._history = Restarts()
        self._child: Child | None = None
        self._ready_at_s = 0.0
        self._load_error = ""
        self._crash = ""
        self._stopping = False
        self._given_up = ""
        """Why the process is being ended although it would live on."""
        self._log = log.bind(model=spec.model, version=spec.version, shadow=spec.shadow)

    @property
    def looping(self) -> bool:
        """In a crash loop: it may be ready just now, but was not for long."""
        return self._history.looping and not (self.address and self._healthy_s() >= HEALTHY_S)

    @property
    def error(self) -> str:
        """Why there is no process to rely on; "" while one is up or coming."""
        if not self.address and (reason := self._may_start()):
            return reason  # why an earlier load failed is beside the point
        if self._load_error:
            return self._load_error
        return f"worker keeps crashing: {self._crash}; see the log" if self.looping else ""

    async def run(self) -> None:
        """Keeps a process alive until `stop`."""
        while not self._stopping:
            if not self._may_start():
                await self._incarnation()
            self._changed()
            if self._load_error or self._may_start():
                await self._bell.until(lambda: self._stopping or not (self._load_error or self._may_start()))

    def look_again(self) -> None:
        """Something outside changed: whether a process may be started."""
        self._bell.ring()

    def retry(self) -> None:
        """After a failed load: tries once more."""
        if self._load_error:
            self._load_error = ""
            self._bell.ring()

    async def stop(self) -> None:
        """Lets the process finish the frame it works on, then ends it."""
        self._stopping = True
        self._bell.ring()
        if self._child:
            await self._child.stop(STOP_GRACE_S)

    async def kill_hung(self) -> None:
        """Ends a process that is there but answers nobody; the next one follows as after a crash."""
        if self._child and self.address:
            self._log.error("worker hangs", pid=self._child.pid)
            self._given_up = "hung: a batch had no answer in time"
            await self._child.kill()

    @property
    def excess_bytes(self) -> int:
        """How much memory the process holds if that is more than it may, and it is not being ended for it; else 0."""
        most = self._spec.settings.max_memory
        if not most or not self._child or not self.address or self._given_up:
            return 0
        held = held_bytes(self._child.pid)
        return held if held > most else 0

    async def replace_heavy(self, held: int) -> None:
        """Ends a process that holds too much memory, after the frame it works on; the next follows as after a crash."""
        if self._child and self.address and not self._given_up:
            most = self._spec.settings.max_memory
            self._given_up = f"held {held >> 20} MiB of memory, and max_memory is {most >> 20} MiB"
            self._log.error("worker holds too much memory", pid=self._child.pid, held_bytes=held, max_memory=most)
            self.address = ""  # the other instances take over what comes while it ends
            self._changed()
            await self._child.stop(STOP_GRACE_S)

    async def _incarnation(self) -> None:
        """One process from start to end, and the pause after a crash."""
        socket = self._host.run_dir / f"w{next(_serial)}.sock"
        try:
            ended = await self._live(socket)
        except OSError as error:
            ended = f"could not be started: {error.strerror or error}"
        finally:
            self._child = None
            self.address = ""
            socket.unlink(missing_ok=True)
        if self._stopping:
            return
        if self._load_error:
            self._log.error("model could not be loaded", error=self._load_error)
            return
        await self._pause_after_crash(ended)

    async def _live(self, socket: Path) -> str:
        """Runs one process to its end; returns how it ended."""
        self._ready_at_s = 0.0
        read_fd, write_fd = os.pipe()
        status = StatusLines(self._heard(socket))
        pipe, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: status, os.fdopen(read_fd, "rb", 0))
        try:
            try:
                command = [*self._host.command, *self._spec.arguments(socket, write_fd)]
                self._child = await self._host.launcher.start(WORKER, command, self._say, [write_fd])
            finally:
                os.close(write_fd)
            code = await self._child.wait()
            await asyncio.wait([status.ended], timeout=1.0)
            last = self._child.last_line
            return describe_exit(code) + (f", last words: {last}" if last and code > 0 else "")
        finally:
            pipe.close()
            if self._child and self._child.running:  # cancelled
                await self._child.stop(STOP_GRACE_S)

    def _heard(self, socket: Path) -> Callable[[WorkerStatus], None]:
        def heard(status: WorkerStatus) -> None:
            if status.state == "ready":
                self._ready_at_s = time.monotonic()
                self.address, self.ready_status = str(socket), status
                self._log.info("worker ready", load_ms=status.load_ms, warmup_ms=status.warmup_ms, note=status.note)
                self._changed()
            elif status.state == "failed":
                self._load_error = status.error or "the worker gave no reason"

        return heard

    async def _pause_after_crash(self, ended: str) -> None:
        """Reports the crash and waits as long as its history asks for."""
        ended, self._given_up = self._given_up or ended, ""
        delay_s = self._history.crashed(time.monotonic(), self._healthy_s())
        self._crash = ended
        self._log.error("worker crashed", how=ended, restart_in_s=delay_s, crash_loop=self._history.looping)
        self.restarts += 1
        self._changed()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._bell.until(lambda: self._stopping), delay_s)

    def _healthy_s(self) -> float:
        return time.monotonic() - self._ready_at_s if self._ready_at_s else 0.0

    def _say(self, line: str) -> None:
        self._log.warning("worker says", line=line)


class StatusLines(asyncio.Protocol):
    """The reading end of a status pipe: JSON lines; anything else is ignored."""

    def __init__(self, heard: Callable[[WorkerStatus], None]) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._heard = heard
        self._partial = b""

    def data_received(self, data: bytes) -> None:
        *lines, self._partial = (self._partial + data).split(b"\n")
        self._partial = self._partial[:MAX_STATUS_BYTES]
        for line in lines:
            with contextlib.suppress(msgspec.DecodeError):
                self._heard(msgspec.json.decode(line, type=WorkerStatus))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
