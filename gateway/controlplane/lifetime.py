"""What a gateway leaves on disk for its successor: the lock on the state directory, and the list of its processes.

After `kill -9` of the control process its proxies and workers keep serving. The next gateway on the same state
directory finds them in the list, starts its own beside them, and then ends them (`Lifetime.end_orphans`).
"""

import asyncio
import contextlib
import fcntl
import json
import math
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Final, Self

import msgspec
import structlog

from gateway.controlplane.processes import start_ticks
from gateway.errors import StartupError

log = structlog.get_logger()

PROXY: Final = "proxy"
WORKER: Final = "worker"
SOCKET_NAME_BYTES: Final = 24
"""Room for a file name under the run directory; Unix socket paths end at 107 bytes."""
WORKER_GRACE_S: Final = 5.0
LOOK_S: Final = 0.02


class Process(msgspec.Struct, frozen=True):
    """One process; `ticks` keeps a reused pid from being taken for it."""

    role: str
    pid: int
    ticks: int

    def alive(self, run_dir: str) -> bool:
        """Whether exactly this process still runs; its command line names its run directory."""
        if start_ticks(self.pid) != self.ticks:
            return False
        with contextlib.suppress(OSError):
            return os.fsencode(run_dir) in Path(f"/proc/{self.pid}/cmdline").read_bytes()
        return False


class Run(msgspec.Struct):
    """The processes of one life of a gateway."""

    run_dir: str
    grpc_port: int = 0
    grpc_socket: str = ""
    processes: dict[int, Process] = {}


class Lifetime:
    """The lock on a state directory and the book of this gateway's processes; `Children` for a `Launcher`."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._book = state_dir / "processes.json"
        self._lock_file = -1
        self._orphans: list[Run] = []
        self._own = Run("")

    def __enter__(self) -> Self:
        """Locks the state directory and makes a run directory.

        Raises StartupError when the directory cannot be written or belongs to a running gateway.
        """
        try:
            self._state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock_file = os.open(self._state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with contextlib.ExitStack() as on_failure:
                on_failure.callback(os.close, self._lock_file)
                self._lock()
                (self._state_dir / "ready.json").unlink(missing_ok=True)
                self._orphans = [run for run in self._read() if self._living(run)]
                self._own = Run(_make_run_dir())
                self._write()
                on_failure.pop_all()
        except OSError as error:
            raise StartupError(
                f"state directory {self._state_dir} cannot be written: {error.strerror or error}; "
                "make it writable or choose another with --state"
            ) from None
        return self

    def __exit__(self, *_: object) -> None:
        """Removes the run directory and gives the lock back; the processes have ended by now."""
        shutil.rmtree(self._own.run_dir, ignore_errors=True)
        with contextlib.suppress(OSError):
            (self._state_dir / "ready.json").unlink(missing_ok=True)
        os.close(self._lock_file)

    @property
    def run_dir(self) -> Path:
        """Private directory for the sockets of this life."""
        return Path(self._own.run_dir)

    @property
    def orphan_ports(self) -> set[int]:
        """Ports on which proxies of an earlier life still answer."""
        return {run.grpc_port for run in self._orphans}

    @property
    def orphan_sockets(self) -> set[str]:
        """Unix sockets on which they do."""
        return {run.grpc_socket for run in self._orphans}

    @property
    def has_orphans(self) -> bool:
        return bool(self._orphans)

    def listens_on(self, grpc_port: int, grpc_socket: str = "") -> None:
        """Notes the port of the proxies, and their Unix socket."""
        self._own.grpc_port, self._own.grpc_socket = grpc_port, grpc_socket
        self._write_or_log()

    def started(self, role: str, pid: int) -> None:
        """Enters a child in the book, before it can answer anybody."""
        if (ticks := start_ticks(pid)) is not None:
            self._own.processes[pid] = Process(role, pid, ticks)
            self._write_or_log()

    def ended(self, pid: int) -> None:
        """Strikes a child from the book."""
        if self._own.processes.pop(pid, None):
            self._write_or_log()

    def announce(self, **ports: int) -> None:
        """Writes `ready.json`: the ports of this gateway and its pid."""
        try:
            _replace(self._state_dir / "ready.json", json.dumps({**ports, "pid": os.getpid()}).encode())
        except OSError as error:
            log.warning("ready.json cannot be written", error=str(error))

    async def end_orphans(self, drain_grace_s: float) -> None:
        """Ends the processes of earlier lives: proxies drain first, then the workers they were using.

        Afterwards none of them answers anybody. Raises StartupError when one cannot be ended.
        """
        for run in self._orphans:
            for role, grace_s in ((PROXY, drain_grace_s), (WORKER, WORKER_GRACE_S)):
                ending = [process for process in run.processes.values() if process.role == role]
                log.info("taking over from an earlier gateway", role=role, processes=len(ending))
                await _end(ending, run.run_dir, grace_s)
            shutil.rmtree(run.run_dir, ignore_errors=True)
        self._orphans = []
        self._write_or_log()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._lock_file, 20, 0).decode(errors="replace").strip() or "unknown"
            raise StartupError(
                f"state directory {self._state_dir} is in use by the gateway with pid {holder}; "
                "stop that one or choose another directory with --state"
            ) from None
        os.ftruncate(self._lock_file, 0)
        os.pwrite(self._lock_file, f"{os.getpid()}\n".encode(), 0)

    def _read(self) -> list[Run]:
        """The runs in the book; a missing or broken book, or one from before the last boot, has none."""
        try:
            boot, runs = msgspec.json.decode(self._book.read_bytes(), type=tuple[str, list[Run]])
        except FileNotFoundError:
            return []
        except msgspec.DecodeError as error:
            log.warning(
                "the list of earlier processes is unreadable and ignored", file=str(self._book), error=str(error)
            )
            return []
        return runs if boot == _boot_id() else []

    def _living(self, run: Run) -> bool:
        """Whether anything of the run is alive; if not, what it left in the file system is removed."""
        if any(process.alive(run.run_dir) for process in run.processes.values()):
            return True
        if Path(run.run_dir).name.startswith("cutover-"):
            shutil.rmtree(run.run_dir, ignore_errors=True)
        return False

    def _write(self) -> None:
        _replace(self._book, msgspec.json.encode((_boot_id(), [*self._orphans, self._own])))

    def _write_or_log(self) -> None:
        try:
            self._write()
        except OSError as error:
            log.warning("the list of processes cannot be written", file=str(self._book), error=str(error))


def _make_run_dir() -> str:
    """A fresh 0700 directory whose socket paths fit into `sockaddr_un` (108 bytes)."""
    for parent in (None, "/tmp"):  # noqa: S108  mkdtemp makes a private directory; the fallback is for a long TMPDIR
        path = tempfile.mkdtemp(prefix="cutover-", dir=parent)
        if len(os.fsencode(path)) + SOCKET_NAME_BYTES < 108:
            return path
        Path(path).rmdir()
    raise StartupError("the directory for temporary files has too long a path for sockets; set TMPDIR to a shorter one")


def _boot_id() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _replace(path: Path, content: bytes) -> None:
    """Writes a small file whole or not at all."""
    scratch = path.with_name(path.name + ".new")
    scratch.write_bytes(content)
    scratch.replace(path)


async def _end(processes: list[Process], run_dir: str, grace_s: float) -> None:
    """SIGTERM, wait, SIGKILL, wait. They are not our children, so their end is polled.

    Raises StartupError when one survives even that: it might go on answering under an old release.
    """
    living: list[Process] = []
    for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, WORKER_GRACE_S)):
        living = [process for process in processes if process.alive(run_dir)]
        for process in living:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)
        for _ in range(math.ceil(wait_s / LOOK_S)):
            if not any(process.alive(run_dir) for process in living):
                return
            await asyncio.sleep(LOOK_S)
    pids = ", ".join(str(process.pid) for process in living if process.alive(run_dir))
    if pids:
        raise StartupError(f"process {pids} of an earlier gateway does not end; end it and start again")
