"""A store on a disk that stops after any step, or fails at any: what was acknowledged is there, and all of it."""

import asyncio
import json
import os
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


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if disk.COMPILER is None:
        pytest.skip("there is no C compiler")
    return disk.build(tmp_path_factory.mktemp("disk"))


def use(environment: dict[str, str], *arguments: str | Path) -> str:
    command = [sys.executable, "-m", "tests.integration.disk_user", *map(str, arguments)]
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def recorded(library: Path, tmp_path: Path, changes: int, sessions: int) -> list[disk.Step]:
    folder = tmp_path / "recorded"
    folder.mkdir()
    use(disk.environment(library, folder, tmp_path / "log"), "record", folder, str(changes), str(sessions))
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
async def test_a_kill_or_a_power_cut_at_any_step_loses_nothing(library: Path, tmp_path: Path) -> None:
    steps = recorded(library, tmp_path, changes=4, sessions=2)
    assert await survives(steps, found_in(tmp_path)) == 8


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_kill_or_a_power_cut_in_a_long_life_loses_nothing(library: Path, tmp_path: Path) -> None:
    """Long enough for the log to be written back into the database while it is used, and to begin anew."""
    steps = recorded(library, tmp_path, changes=100, sessions=2)
    written_back = [step.name for step in steps].index(FILE, len(steps) // 4)
    assert written_back < len(steps) // 2
    assert await survives(steps, found_in(tmp_path), stride=13) == 200


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
    folder = tmp_path / "state"
    folder.mkdir()
    environment = disk.environment(library, folder)
    check(use(environment, "fail", folder, tmp_path / "copy", name, str(times)))


@pytest.mark.slow
def test_wherever_a_file_may_not_grow_all_of_a_change_fails(tmp_path: Path) -> None:
    """For machines without a compiler; a little less thorough."""
    folder = tmp_path / "state"
    folder.mkdir()
    check(use({**os.environ}, "limit", folder, tmp_path / "copy"))


def check(told: str) -> None:
    attempts: list[dict[str, Any]] = [json.loads(line) for line in told.splitlines()]
    assert len(attempts) > 10
    assert [attempt["failed"] for attempt in attempts] == [True] * (len(attempts) - 1) + [False]
    for attempt in attempts:
        assert attempt["found"] == attempt["before"] + (not attempt["failed"])
        assert attempt["copy"] == attempt["found"], "what was read is what a start finds"


async def test_a_read_only_disk_stops_the_start(library: Path, tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / FILE)
    await store.open()
    await store.close()
    environment = disk.environment(library, tmp_path) | {"DISK_READ_ONLY": "1"}
    said = await asyncio.to_thread(use, environment, "refused", tmp_path)
    assert "; name a directory that can be written, on a disk that has room, with --state" in said
