"""A process that changes releases in a folder, on a disk that is recorded or fails: `disk`."""

import asyncio
import ctypes
import errno
import json
import os
import shutil
import sys
from pathlib import Path

from gateway.controlplane import audit
from gateway.controlplane.commands import Register, SetCanary
from gateway.controlplane.release import apply, unborn
from gateway.controlplane.store import Request
from gateway.controlplane.store.sqlite import SqliteStore
from gateway.errors import StoreFailed
from gateway.routing.snapshot import Release

MODEL = "iris"
FILE = "cutover.db"
SAID = "acknowledged"
"""A file beside the store: the newest revision that was acknowledged, as text."""


async def change(store: SqliteStore, release: Release) -> Release:
    """One revision further, under the request id `request-<revision>`."""
    command = SetCanary(2, 1 + release.revision % 10_000) if release.revision else Register(1)
    after, (fact,) = apply(release, command, now_ms=release.revision)
    request_id = f"request-{after.revision}"
    event = audit.draft(fact, actor="user", reason="", request_id=request_id)
    return await store.commit(release.revision, after, event, Request(request_id, "same"))


async def record(folder: Path, changes: int, sessions: int) -> None:
    """Opens the store some times, changes it and says in a file, in the same order, what was acknowledged."""
    for _ in range(sessions):
        store = SqliteStore(folder / FILE)
        await store.open()
        release = (await store.releases()).get(MODEL, unborn(MODEL))
        for _ in range(changes):
            release = await change(store, release)
            said = os.open(folder / SAID, os.O_WRONLY | os.O_CREAT, 0o600)
            os.pwrite(said, f"{release.revision:8}".encode(), 0)
            os.fdatasync(said)
            os.close(said)
        await store.close()


async def fail(folder: Path, elsewhere: Path, error: int, times: int) -> None:
    """Lets every operation of a change fail in turn, until a change has fewer; prints what each attempt led to."""
    disk = ctypes.CDLL(None)
    store = SqliteStore(folder / FILE)
    await store.open()
    release, failures = await change(store, unborn(MODEL)), 0
    for after in range(1_000):
        disk.disk_fail(after, error, times)
        try:
            kept = await change(store, release)
        except StoreFailed:
            failures += 1
            kept = None
        disk.disk_fail(0, 0, 0)
        found = (await store.releases())[MODEL]
        copied = await _copy(folder, elsewhere)
        told = {"after": after, "failed": kept is None, "before": release.revision, "found": found.revision}
        sys.stdout.write(json.dumps({**told, "copy": copied.revision}) + "\n")
        release = found
        if kept is not None:
            break
    await store.close()


async def _copy(folder: Path, elsewhere: Path) -> Release:
    """What a start would find if the process were killed now."""
    shutil.rmtree(elsewhere, ignore_errors=True)
    shutil.copytree(folder, elsewhere)
    store = SqliteStore(elsewhere / FILE)
    await store.open()
    found = (await store.releases())[MODEL]
    await store.close()
    return found


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["record", folder, changes, sessions]:
            asyncio.run(record(Path(folder), int(changes), int(sessions)))
        case ["fail", folder, elsewhere, name, times]:
            asyncio.run(fail(Path(folder), Path(elsewhere), getattr(errno, name), int(times)))
