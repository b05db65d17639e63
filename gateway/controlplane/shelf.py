"""The versions of one model, as look after look at its folder has found them. Pure but for what others read into it."""

from typing import Final

from gateway.controlplane.repository import Files, Found
from gateway.controlplane.version import Version

RESTLESS_LOOKS: Final = 60
"""Files that changed at every one of so many looks are a problem, and no longer hold up the rest of their model."""
NOTHING: Final = Found({}, ())


class Shelf:
    """A version is taken in once its files were the same at two looks.

    `look`, then reading into `read` what `look` returned, then `take_in`.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        self.found = NOTHING
        """By the last look."""
        self.read: dict[int, tuple[Files, Version | str]] = {}
        """What was read last, by version, and of which files: a version, or why it is none."""
        self.versions: dict[int, Version] = {}
        self.problems: tuple[str, ...] = ()
        self._looks: dict[int, int] = {}
        """By version: at how many looks in a row its files had changed."""

    @property
    def restless(self) -> bool:
        """A version may be on its way here, or changes: the next look is to see it."""
        return any(self._looks.values())

    @property
    def settling(self) -> bool:
        """Others of its versions are worth waiting for."""
        return any(0 < looks < RESTLESS_LOOKS for looks in self._looks.values())

    def look(self, found: Found, rested_ns: int | None) -> list[int]:
        """Takes note of a look; returns the versions to be read.

        `rested_ns`: at the first look, files that have not changed since then (ns since the epoch) are at rest.
        """
        before, self.found = self.found.versions, found
        still = set()
        for number, files in found.versions.items():
            if rested_ns is not None:
                rests = bool(files) and max(mtime for *_, mtime in files) <= rested_ns
            else:
                rests = before.get(number) == files
            if rests:
                still.add(number)
        self._looks = {number: 0 if number in still else self._looks.get(number, 0) + 1 for number in found.versions}
        return [number for number in sorted(still) if self._unread(number)]

    def _unread(self, number: int) -> bool:
        return number not in self.read or self.read[number][0] != self.found.versions[number]

    def take_in(self) -> bool:
        """Makes versions and problems what was read; returns whether versions have changed."""
        self.read = {number: read for number, read in self.read.items() if number in self.found.versions}
        versions = {number: found for number, (_, found) in self.read.items() if isinstance(found, Version)}
        wrong = {number: found for number, (_, found) in self.read.items() if isinstance(found, str)}
        problems = [*self.found.problems]
        problems += [said for number, said in wrong.items() if not self._looks[number]]
        problems += [version.error for version in versions.values() if version.error]
        problems += [
            f"{self.model}/{number}: its files keep changing for {looks} s; move what writes there elsewhere"
            for number, looks in self._looks.items()
            if looks >= RESTLESS_LOOKS
        ]
        changed = versions != self.versions
        self.versions, self.problems = versions, tuple(problems)
        return changed
