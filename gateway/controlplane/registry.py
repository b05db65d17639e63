"""Which versions exist: the models directory, watched.

A version is taken in once its files have not changed between two looks, so a copy under way is neither loaded nor
called broken. Once taken in it is immutable: changed files are read again for their digest, and whoever runs the old
ones sees it differ.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import structlog

from gateway.controlplane.repository import Files, Key, Listing, look, require_directory
from gateway.controlplane.settings import DEFAULTS, FleetSettings
from gateway.controlplane.version import Version, read_version
from gateway.errors import CutoverError

log = structlog.get_logger()

POLL_S: Final = 1.0
SETTLE_S: Final = 0.3
"""Between the first look and the second, when somebody waits for the gateway to start."""
AT_REST_S: Final = 3.0
"""At the first look, files this old count as unchanged."""
RESTLESS_LOOKS: Final = 60
"""Files that changed at every one of so many looks are a problem, and no longer hold up the rest of their model."""


class Registry:
    """The versions in one models directory. `versions` and `problems` are replaced whole by each look."""

    def __init__(self, root: Path, settings: FleetSettings = DEFAULTS) -> None:
        """Raises StartupError unless `root` is a readable directory. What a version says must go with `settings`."""
        require_directory(root)
        self._root = root.resolve()
        self._settings = settings
        self.versions: dict[Key, Version] = {}
        self.problems: tuple[str, ...] = ()
        self._seen: dict[Key, Files] | None = None
        self._read: dict[Key, tuple[Files, Version | str]] = {}
        self._restless: dict[Key, int] = {}
        self._announced: set[str] = set()
        self._looking = asyncio.Lock()

    def find(self, model: str, version: int) -> Version | None:
        return self.versions.get((model, version))

    def versions_of(self, model: str) -> list[int]:
        """Version numbers, ascending."""
        return sorted(version for name, version in self.versions if name == model)

    def unannounced(self) -> dict[str, int]:
        """Models nobody was told of yet, each with its highest version that can be loaded.

        A model whose other versions are still being copied waits for them.
        """
        waiting = {model for (model, _), looks in self._restless.items() if 0 < looks < RESTLESS_LOOKS}
        ascending = sorted(key for key, version in self.versions.items() if not version.error)
        return {model: number for model, number in ascending if model not in self._announced | waiting}

    def announced(self, model: str) -> None:
        """The model was dealt with."""
        self._announced.add(model)

    async def settle(self) -> None:
        """A look, and a second one a moment later when something seems to be under way."""
        await self.poll()
        if any(self._restless.values()):
            await asyncio.sleep(SETTLE_S)
            await self.poll()

    async def poll(self) -> bool:
        """Looks once; returns whether anything changed. An unreadable directory changes nothing but `problems`."""
        async with self._looking:
            return await self._look()

    async def _look(self) -> bool:
        before = self.versions, self.problems
        try:
            listing = await asyncio.to_thread(look, self._root)
        except OSError as error:
            self.problems = (
                f"models directory {self._root} cannot be read: {error.strerror}; what is known stays served",
            )
            return self.problems != before[1]
        at_rest = self._at_rest(listing)
        await self._read_new(listing, at_rest)
        self._take_in(listing, at_rest)
        return (self.versions, self.problems) != before

    async def watch(self, looked: Callable[[], None], new_model: Callable[[str, int], Awaitable[object]]) -> None:
        """Polls for ever. `looked` follows every look; `new_model` is tried until it succeeds."""
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self.poll()
                looked()
                await self.announce(new_model)
            except Exception:  # whatever one look met must not end all looking
                log.exception("looking at the models directory failed; trying again")

    async def announce(self, new_model: Callable[[str, int], Awaitable[object]]) -> None:
        """Tells `new_model(model, highest version)` of every model not announced yet."""
        for model, version in self.unannounced().items():
            try:
                await new_model(model, version)
            except CutoverError as error:
                log.warning(
                    "a new model could not be released; trying again", model=model, version=version, error=str(error)
                )
            else:
                self.announced(model)

    def _at_rest(self, listing: Listing) -> set[Key]:
        """The folders whose files are as they were at the look before."""
        if self._seen is None:
            rested_ns = time.time_ns() - int(AT_REST_S * 1e9)
            still = {
                key
                for key, files in listing.folders.items()
                if files and max(mtime for *_, mtime in files) <= rested_ns
            }
        else:
            still = {key for key, files in listing.folders.items() if self._seen.get(key) == files}
        self._seen = listing.folders
        self._restless = {key: 0 if key in still else self._restless.get(key, 0) + 1 for key in listing.folders}
        return still

    async def _read_new(self, listing: Listing, at_rest: set[Key]) -> None:
        """Reads what is at rest and differs from what was read last; hashing happens in a thread."""
        for key in at_rest:
            files = listing.folders[key]
            if key not in self._read or self._read[key][0] != files:
                found = await asyncio.to_thread(read_version, self._root, key, files, self._settings)
                self._read[key] = files, found

    def _take_in(self, listing: Listing, at_rest: set[Key]) -> None:
        self._read = {key: read for key, read in self._read.items() if key in listing.folders}
        versions = {key: found for key, (_, found) in sorted(self._read.items()) if isinstance(found, Version)}
        problems = [*listing.problems]
        problems += [found for key, (_, found) in self._read.items() if isinstance(found, str) and key in at_rest]
        problems += [version.error for version in versions.values() if version.error]
        problems += [
            f"{model}/{version}: its files keep changing for {int(looks * POLL_S)} s; move what writes there elsewhere"
            for (model, version), looks in self._restless.items()
            if looks >= RESTLESS_LOOKS
        ]
        self.versions, self.problems = versions, tuple(sorted(map(_printable, problems)))


def _printable(problem: str) -> str:
    """One line that any output takes, whatever bytes a file name has."""
    return " ".join(problem.encode(errors="backslashreplace").decode().splitlines())
