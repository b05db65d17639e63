"""A store on a disk that stops after any step, or fails at any: what was acknowledged is there, and all of it."""

import errno
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.controlplane import audit
from gateway.controlplane.store.sqlite import SqliteStore
from tests.integration import disk
from tests.integration.changes import chain
from tests.integration.disk_user import FILE, MODEL, SAID

SEED = 5
pytestmark = pytest.mark.skipif(disk.COMPILER is None, reason="there is no C compiler")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return disk.build(tmp_path_factory.mktemp("disk"))


def use(library: Path, folder: Path, *arguments: str, log: Path | None = None) -> str:
    command = [sys.executable, "-m", "tests.integration.disk_user", *arguments]
    environment = disk.environment(library, folder, log)
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def recorded(library: Path, tmp_path: Path, changes: int, sessions: int) -> list[disk.Step]:
    folder = tmp_path / "recorded"
    folder.mkdir()
    use(library, folder, "record", str(folder), str(changes), str(sessions), log=tmp_path / "log")
    return list(disk.steps(tmp_path / "log", folder))


def found_in(tmp_path: Path) -> Path:
    """Where starts find what was left."""
    folder = tmp_path / "found"
    folder.mkdir()
    return folder


async def start_finds(files: dict[str, bytearray], folder: Path) -> int:
    """The revision that a start on these files finds, with everything that belongs to it."""
    disk.put(files, folder)
    store = SqliteStore(folder / FILE)
    await store.open()
    release, events = (await store.releases()).get(MODEL), await chain(store)
    assert audit.verify(events) is None
    newest = release.revision if release else 0
    assert [event.revision for event in events] == list(range(1, newest + 1))
    if release is not None:
        assert await store.revision(MODEL, newest) == release
        recalled = await store.recall(f"request-{newest}")
        assert recalled is not None
        assert recalled.release == release
    await store.close()
    return newest


async def survives(steps: list[disk.Step], folder: Path, stride: int = 1) -> int:
    """Kills after every `stride`th step, and takes the power away, too. Returns the last revision."""
    files, found = disk.Files(), 0
    chance = random.Random(SEED)  # noqa: S311 - the same each time
    for number, step in enumerate(steps):
        files.take(step)
        said = int(files.now.get(SAID) or b"0")
        if step.name != SAID and number % stride == 0:
            for kept in (files.after_power_loss(chance), {**files.now}):
                found = await start_finds(kept, folder)
                assert said <= found <= said + 1, (number, step.kind, step.name)
    return found


async def test_a_kill_or_a_power_cut_loses_nothing(library: Path, tmp_path: Path) -> None:
    steps = recorded(library, tmp_path, changes=2, sessions=1)
    assert await survives(steps, found_in(tmp_path), stride=7) == 2


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_kill_or_a_power_cut_at_any_step_of_a_long_life_loses_nothing(library: Path, tmp_path: Path) -> None:
    """Long enough for the log to be written back into the database while it is used, and to begin anew."""
    steps = recorded(library, tmp_path, changes=60, sessions=2)
    assert await survives(steps, found_in(tmp_path)) == 120


@pytest.mark.parametrize(
    ("name", "times"),
    [
        pytest.param("ENOSPC", -1, id="full"),
        pytest.param("EROFS", -1, id="read-only", marks=pytest.mark.slow),
        pytest.param("EIO", 1, id="one error", marks=pytest.mark.slow),
        pytest.param("EDQUOT", 3, id="a quota", marks=pytest.mark.slow),
    ],
)
def test_whichever_step_of_a_change_fails_all_of_it_fails(library: Path, tmp_path: Path, name: str, times: int) -> None:
    assert hasattr(errno, name)
    folder = tmp_path / "state"
    folder.mkdir()
    told = use(library, folder, "fail", str(folder), str(tmp_path / "copy"), name, str(times))
    attempts: list[dict[str, Any]] = [json.loads(line) for line in told.splitlines()]
    assert len(attempts) > 10
    assert [attempt["after"] for attempt in attempts] == list(range(len(attempts)))
    assert [attempt["failed"] for attempt in attempts] == [True] * (len(attempts) - 1) + [False]
    for attempt in attempts:
        assert attempt["found"] == attempt["before"] + (not attempt["failed"])
        assert attempt["copy"] == attempt["found"], "what was read is what a start finds"
