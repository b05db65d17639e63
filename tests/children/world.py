"""What tests of the control plane start from: a models directory of stand-ins, and a launcher for stand-in children."""

import asyncio
import sys
from pathlib import Path

from gateway.controlplane.instance import WorkerHost
from gateway.controlplane.processes import Launcher
from gateway.controlplane.repository import Walk
from gateway.controlplane.version import Version, read_version
from gateway.routing.outcome import Report
from gateway.routing.snapshot import Policy, Release

HERE = Path(__file__).parent
WORKER = (sys.executable, "-I", "-S", str(HERE / "worker.py"))


def proxy(manner: str = "good") -> tuple[str, ...]:
    """Command of a stand-in proxy."""
    return sys.executable, "-m", "tests.children.proxy", manner


class Book:
    """Which children are alive, by pid."""

    def __init__(self) -> None:
        self.alive: dict[int, str] = {}

    def started(self, role: str, pid: int) -> None:
        self.alive[pid] = role

    def ended(self, pid: int) -> None:
        del self.alive[pid]

    def pids(self, role: str) -> list[int]:
        """Living children of one kind."""
        return [pid for pid, known in self.alive.items() if known == role]

    async def pid(self, role: str) -> int:
        """A living child of one kind; a quick one says that it is ready before the launcher has noted it."""
        while not self.pids(role):  # noqa: ASYNC110 - the book tells nobody
            await asyncio.sleep(0.01)
        return self.pids(role)[0]


class Reported:
    """Collects proxies' reports."""

    def __init__(self) -> None:
        self.reports: list[tuple[int, Report]] = []
        self.gone: list[int] = []

    def fold(self, proxy: int, report: Report) -> None:
        self.reports.append((proxy, report))

    def proxy_gone(self, proxy: int) -> None:
        self.gone.append(proxy)


def put(models: Path, model: str, version: int, told: str = "ok") -> Path:
    """A version whose "model" tells the stand-in worker what to do."""
    path = models / model / str(version) / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(told)
    return path


def version_of(models: Path, model: str = "digits", version: int = 1) -> Version:
    """The version as the registry reads it."""
    found = read_version(models, (model, version), Walk(models).look().models[model].versions[version])
    assert isinstance(found, Version)
    return found


def worker_host(run_dir: Path, book: Book) -> WorkerHost:
    """Starts stand-in workers."""
    return WorkerHost(Launcher(book), WORKER, run_dir)


def release(model: str = "digits", stable: int = 1, revision: int = 1, **policy: object) -> Release:
    """A release of one model."""
    return Release(model, revision, Policy(stable, **policy))  # type: ignore[arg-type] # tests name the fields they set
