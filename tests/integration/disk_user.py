"""A process that changes releases in a folder, on a disk that is recorded or fails: `disk`."""

import asyncio
import ctypes
import errno
import json
import os
import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from gateway.controlplane import audit
from gateway.controlplane.commands import Register, SetCanary
from gateway.controlplane.release import apply, unborn
from gateway.controlplane.store import Request
from gateway.controlplane.store.sqlite import SqliteStore
from gateway.errors import StartupError, StoreFailed
from gateway.routing.snapshot import Release

MODEL = "iris"
FILE = "cutover.db"
MAX_STEPS = 1_000
STRIDE_BYTES = 6_000
"""More than a failure moves on in the file."""
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


Break = Callable[[int | None], None]
"""Lets a disk fail after that much more; None: never."""


def failing(error: int, times: int) -> Break:
    """By operations: so many of them fail with that errno, -1: all."""
    disk = ctypes.CDLL(None)
    return lambda after: disk.disk_fail(0, 0, 0) if after is None else disk.disk_fail(after, error, times)


def limited(folder: Path) -> Break:
    """By the size that a file may have, which needs no library."""
    file = folder / f"{FILE}-wal"
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    start_bytes: list[int] = []

    def limit(after: int | None) -> None:
        if not start_bytes:
            start_bytes.append(file.stat().st_size)
        soft = most if after is None else start_bytes[0] + after * STRIDE_BYTES
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, most))

    return limit


async def fail(folder: Path, elsewhere: Path, break_after: Break) -> None:
    """Lets each step of a change fail in turn, until none does; prints what every attempt led to."""
    store = SqliteStore(folder / FILE)
    await store.open()
    release, kept = await change(store, unborn(MODEL)), False
    for after in range(MAX_STEPS):
        break_after(after)
        try:
            await change(store, release)
            kept = True
        except StoreFailed:
            kept = False
        break_after(None)
        (found,) = await store.since(0)  # as a gateway does
        copied = await _copy(folder, elsewhere)
        told = {"after": after, "failed": not kept, "before": release.revision, "found": found.revision}
        sys.stdout.write(json.dumps({**told, "copy": copied.revision}) + "\n")
        release = found
        if kept:
            break
    await store.close()


async def refused(folder: Path) -> None:
    """Prints why the store cannot be opened."""
    try:
        await SqliteStore(folder / FILE).open()
    except StartupError as error:
        sys.stdout.write(str(error))


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
            asyncio.run(fail(Path(folder), Path(elsewhere), failing(getattr(errno, name), int(times))))
        case ["limit", folder, elsewhere]:
            asyncio.run(fail(Path(folder), Path(elsewhere), limited(Path(folder))))
        case ["refused", folder]:
            asyncio.run(refused(Path(folder)))
