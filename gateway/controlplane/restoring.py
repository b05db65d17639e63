"""Puts a backup in the place of a store, or takes a store that was put back by other means; with the gateway stopped.

What is restored is lifted above everything that was served (`lifting`), so that the next start takes it for the newest
state, which it is by the word of whoever restores.
"""

import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from gateway.controlplane.lifetime import Lifetime
from gateway.controlplane.lifting import lifts, newest
from gateway.controlplane.served import SERVED_FILE, Served
from gateway.controlplane.store import Store
from gateway.controlplane.store.choice import STORE_FILE, choose
from gateway.controlplane.store.sqlite import SqliteStore
from gateway.errors import StartupError
from gateway.routing.snapshot import Release

RESTORING: Final = "restoring.db"
BESIDE: Final = ("", "-wal", "-shm", "-journal")
"""What SQLite appends to the name of a database for its files."""


class Place(msgspec.Struct, frozen=True):
    """Which store. `url` None: the one in the state directory."""

    state: Path
    url: str | None = None
    password_file: Path | None = None


class Word(msgspec.Struct, frozen=True):
    """Who restores, and why."""

    actor: str
    reason: str


class Restored(msgspec.Struct, frozen=True):
    """What there is now."""

    releases: dict[str, Release]
    lifted: tuple[str, ...]
    """Models whose releases became new changes."""
    lost: tuple[str, ...]
    """Models that were served and have no release now."""
    kept: Path | None = None
    """Where the store of before is."""


async def restore(place: Place, lines: Iterable[bytes], word: Word) -> Restored:
    """Makes the backup the store.

    Raises StartupError when the gateway runs or the store cannot be written, InvalidRequest when the backup is damaged,
    Refused when a database is not empty. Then nothing has changed.
    """
    with Lifetime(place.state):
        served = Served(place.state.resolve() / SERVED_FILE)
        if place.url is not None:
            store, _ = choose(place.state, place.url, place.password_file)
            restored = await _filled(store, lines, served.releases, word)
            _note(served, restored)
            return restored
        path = place.state.resolve() / STORE_FILE
        beside = path.with_name(RESTORING)
        _remove(beside)
        seen = newest(served.releases, await _stored(path) if path.exists() else {})
        try:
            restored = await _filled(SqliteStore(beside), lines, seen, word)
            kept = _swap(beside, path)
        finally:
            _remove(beside)
        _note(served, restored)
        return msgspec.structs.replace(restored, kept=kept)


async def accept(place: Place, word: Word) -> Restored:
    """Takes the store as it is, however old. Raises StartupError when the gateway runs, or there is no store."""
    path = place.state.resolve() / STORE_FILE
    if place.url is None and not path.exists():
        raise StartupError(
            f"there is no store {path}; restore a backup, or start with no releases by removing {SERVED_FILE} beside it"
        )
    with Lifetime(place.state):
        served = Served(place.state.resolve() / SERVED_FILE)
        store, _ = choose(place.state, place.url, place.password_file)
        await store.open()
        try:
            restored = await _lifted(store, served.releases, word)
        finally:
            await store.close()
        _note(served, restored)
        return restored


async def _filled(store: Store, lines: Iterable[bytes], seen: Mapping[str, Release], word: Word) -> Restored:
    await store.open()
    try:
        await store.load(lines)
        return await _lifted(store, seen, word)
    finally:
        await store.close()


async def _lifted(store: Store, seen: Mapping[str, Release], word: Word) -> Restored:
    stored = await store.releases()
    work = lifts(stored, seen, time.time_ns() // 1_000_000, word.actor, word.reason)
    for lift in work:
        stored[lift.after.model] = await store.commit(lift.before.revision, lift.after, lift.event, None)
    lifted = tuple(lift.after.model for lift in work)
    return Restored(stored, lifted, tuple(sorted(seen.keys() - stored.keys())))


async def _stored(path: Path) -> dict[str, Release]:
    """What is in the store of before, as far as it can be read."""
    store = SqliteStore(path)
    try:
        await store.open()
    except StartupError:
        return {}
    try:
        return await store.releases()
    finally:
        await store.close()


def _swap(beside: Path, path: Path) -> Path | None:
    """The store of before goes aside, then the new one takes its place. Returns where the former is, if there was one.

    A crash between the two leaves no store, which the next start notices: it is older than what was served.
    """
    kept = None
    if path.exists():
        kept = _free(path.with_name(f"{path.name}.before-{time.strftime('%Y%m%d-%H%M%S')}"))
        for end in reversed(BESIDE):  # the database itself last, so that it is never without its log
            file = path.with_name(path.name + end)
            if file.exists():
                file.replace(kept.with_name(kept.name + end))
    beside.replace(path)
    return kept


def _free(path: Path) -> Path:
    """The name, or that with a number if there is such a file: clocks go back."""
    names = (path if not number else path.with_name(f"{path.name}-{number}") for number in itertools.count())
    return next(name for name in names if not name.exists())


def _note(served: Served, restored: Restored) -> None:
    try:
        served.replace(restored.releases)
    except OSError as error:
        raise StartupError(
            f"the store is restored, but what was served cannot be noted: {error.strerror}; "
            "make room, then run `cutover restore --accept`"
        ) from error


def _remove(path: Path) -> None:
    for end in BESIDE:
        path.with_name(path.name + end).unlink(missing_ok=True)


def described(restored: Restored) -> Sequence[str]:
    """What became of it, in lines."""
    lines = [f"{len(restored.releases)} releases are restored"]
    lines += [
        f"{model}: now revision {restored.releases[model].revision}, for newer ones were served"
        for model in restored.lifted
    ]
    lines += [f"{model}: has no release any more" for model in restored.lost]
    if restored.kept is not None:
        lines.append(f"the store of before is kept as {restored.kept}")
    return lines
