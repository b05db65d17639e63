"""Which versions exist: the models directory, watched.

A version is taken in once its files have not changed between two looks, so a copy under way is neither loaded nor
called broken. Once taken in it is immutable: changed files are read again for their digest, and whoever runs the old
ones sees it differ.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import structlog

from gateway.controlplane.repository import Key, Look, Walk, require_directory
from gateway.controlplane.settings import DEFAULTS, FleetSettings
from gateway.controlplane.shelf import Shelf
from gateway.controlplane.version import Version, read_version
from gateway.errors import CutoverError

log = structlog.get_logger()

POLL_S: Final = 1.0
SETTLE_S: Final = 0.3
"""Between the first look and the second, when somebody waits for the gateway to start."""
AT_REST_S: Final = 3.0
"""At the first look, files this old count as unchanged."""
NAMED: Final = 5
"""Models that a line in the log names one by one."""

NewModels = Callable[[Mapping[str, int]], Awaitable[object]]
"""Hears of models that nobody was told of yet, each with its highest version that can be loaded."""


class Registry:
    """The versions in one models directory. A look that finds nothing new costs little, however many there are."""

    def __init__(self, root: Path, settings: FleetSettings = DEFAULTS) -> None:
        """Raises StartupError unless `root` is a readable directory. What a version says must go with `settings`."""
        require_directory(root)
        self._root = root.resolve()
        self._settings = settings
        self._walk = Walk(self._root)
        self._models: dict[str, Shelf] = {}
        self._root_problems: tuple[str, ...] = ()
        self._problems: tuple[str, ...] | None = ()
        """None: to be gathered from the models anew."""
        self._changed: set[str] = set()
        self._unheard: set[str] = set()
        """Models of which nobody was told yet."""
        self._first = True
        self._looking = asyncio.Lock()

    @property
    def versions(self) -> dict[Key, Version]:
        """All of them, in order."""
        return {
            (model, number): version
            for model in sorted(self._models)
            for number, version in sorted(self._models[model].versions.items())
        }

    @property
    def problems(self) -> tuple[str, ...]:
        """One line each, in order."""
        if self._problems is None:
            lines = [line for shelf in self._models.values() for line in shelf.problems]
            self._problems = tuple(sorted(map(_printable, [*self._root_problems, *lines])))
        return self._problems

    def find(self, model: str, version: int) -> Version | None:
        shelf = self._models.get(model)
        return shelf.versions.get(version) if shelf else None

    def versions_of(self, model: str) -> list[int]:
        """Version numbers, ascending."""
        shelf = self._models.get(model)
        return sorted(shelf.versions) if shelf else []

    def take_changed(self) -> set[str]:
        """The models of which versions have come, gone or changed since it was last asked."""
        changed, self._changed = self._changed, set()
        return changed

    def unannounced(self) -> dict[str, int]:
        """Models nobody was told of yet, each with its highest version that can be loaded.

        A model whose other versions are still being copied waits for them.
        """
        found = {}
        for model in sorted(self._unheard):
            shelf = self._models[model]
            fit = [number for number, version in shelf.versions.items() if not version.error]
            if fit and not shelf.settling:
                found[model] = max(fit)
        return found

    def announced(self, model: str) -> None:
        """The model was dealt with."""
        self._unheard.discard(model)

    async def settle(self) -> None:
        """A look, and a second one a moment later when something seems to be under way."""
        await self.poll()
        if any(shelf.restless for shelf in self._models.values()):
            await asyncio.sleep(SETTLE_S)
            await self.poll()

    async def poll(self) -> bool:
        """Looks once; returns whether anything changed. An unreadable directory changes nothing but `problems`."""
        async with self._looking:
            return await self._look()

    async def _look(self) -> bool:
        restless = {model for model, shelf in self._models.items() if shelf.restless}
        before = self.problems
        try:
            seen = await asyncio.to_thread(self._walk.look, restless)
        except OSError as error:
            said = f"models directory {self._root} cannot be read: {error.strerror}; what is known stays served"
            self._root_problems, self._problems = (said,), (said,)
            return self._problems != before
        self._root_problems = seen.problems
        changed = await self._take_in(seen)
        self._changed |= changed
        self._problems = None
        return bool(changed) or self.problems != before

    async def _take_in(self, seen: Look) -> set[str]:
        """Returns the models whose versions have changed."""
        rested_ns = time.time_ns() - int(AT_REST_S * 1e9) if self._first else None
        self._first = False
        changed = {model for model in self._models if model not in seen.names}
        for model in changed:
            del self._models[model]
            self._unheard.discard(model)
        unread: list[tuple[Shelf, int]] = []
        for model, found in seen.models.items():
            shelf = self._models.get(model)
            if shelf is None:
                shelf = self._models[model] = Shelf(model)
                self._unheard.add(model)
            unread += [(shelf, number) for number in shelf.look(found, rested_ns)]
        if unread:
            await asyncio.to_thread(self._read, unread)
        return changed | {model for model in seen.models if self._models[model].take_in()}

    def _read(self, unread: Sequence[tuple[Shelf, int]]) -> None:
        """Reads every byte of the versions. Blocks."""
        for shelf, number in unread:
            files = shelf.found.versions[number]
            shelf.read[number] = files, read_version(self._root, (shelf.model, number), files, self._settings)

    async def watch(self, looked: Callable[[], None], new_models: NewModels | None) -> None:
        """Polls for ever. `looked` is called when a look, of whoever, has found something; see `announce` for
        `new_models`, None: nobody is told.
        """
        while True:
            await asyncio.sleep(POLL_S)
            try:
                if await self.poll() or self._changed:
                    looked()
                if new_models is not None:
                    await self.announce(new_models)
            except Exception:  # whatever one look met must not end all looking
                log.exception("looking at the models directory failed; trying again")

    async def announce(self, new_models: NewModels) -> None:
        """Tells of every model not announced yet: its highest version, by name. What failed is tried again."""
        found = self.unannounced()
        if not found:
            return
        try:
            await new_models(found)
        except CutoverError as error:
            named = ", ".join(list(found)[:NAMED]) + (f" and {len(found) - NAMED} others" if len(found) > NAMED else "")
            log.warning("new models could not be released; trying again", models=named, error=str(error))
        else:
            self._unheard -= found.keys()


def _printable(problem: str) -> str:
    """One line that any output takes, whatever bytes a file name has."""
    return " ".join(problem.encode(errors="backslashreplace").decode().splitlines())
