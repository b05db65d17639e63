"""What this gateway has served last, in a file of its own: to serve from while there is no store, and to tell a store
that was put back to an older state from one that is up to date.

`served.jsonl` in the state directory: a line for each release that came to be served, `crc32 JSON`, the last one of a
model counts. It is written anew when most lines count no more. It is no second store: nothing waits for the disk, and
after a power failure it may lack the last lines, which the store has.
"""

import asyncio
import contextlib
import os
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec
import structlog

from gateway.errors import StartupError
from gateway.routing.snapshot import Release

log = structlog.get_logger()

SERVED_FILE: Final = "served.jsonl"
SPARE_BYTES: Final = 4 << 20
"""So much of the file, and as much as counts, may count no more before it is written anew."""

_decoder: Final = msgspec.json.Decoder(Release)


class Served:
    """The file, and what it says."""

    def __init__(self, path: Path) -> None:
        """Reads it. Raises StartupError when it is there and cannot be read."""
        self._path = path
        self._bytes = 0
        """Of the file; 0: it is to be written anew."""
        self._sizes: dict[str, int] = {}
        """Bytes of the line that counts, by model."""
        self._counting_bytes = 0
        """Sum of these."""
        self._releases: dict[str, Release] = {}
        self.newest: Release | None = None
        """The one with the newest change."""
        self._read()
        self._note(self._releases.values())
        self._lock = asyncio.Lock()
        self._failed = False

    @property
    def releases(self) -> Mapping[str, Release]:
        """By model."""
        return self._releases

    @property
    def sequence(self) -> int:
        """The newest change that was served; 0: none."""
        return self.newest.sequence if self.newest is not None else 0

    async def keep(self, releases: Iterable[Release]) -> None:
        """Notes what is served from now on. A file that cannot be written is told in the log, and tried again."""
        async with self._lock:
            news = [release for release in releases if self._releases.get(release.model) != release]
            self._releases |= {release.model: release for release in news}
            self._note(news)
            if news or self._failed:
                await asyncio.to_thread(self._write, news)

    def replace(self, releases: Mapping[str, Release]) -> None:
        """Whatever was served: these count from now on. Blocks. Raises OSError."""
        self._releases, self.newest = dict(releases), None
        self._note(releases.values())
        self._rewrite()

    def _note(self, news: Iterable[Release]) -> None:
        """Finds the newest among what there is more now."""
        for release in news:
            if self.newest is None or release.sequence >= self.newest.sequence:
                self.newest = release

    def _count(self, model: str, size: int) -> None:
        """The newest line of a model has so many bytes."""
        self._counting_bytes += size - self._sizes.get(model, 0)
        self._sizes[model] = size

    def _write(self, news: list[Release]) -> None:
        lines = {release.model: _line(release) for release in news}
        for model, line in lines.items():
            self._count(model, len(line))
        added = sum(map(len, lines.values()))
        try:
            if self._failed or not self._bytes or self._bytes + added > 2 * self._counting_bytes + SPARE_BYTES:
                self._rewrite()
            else:
                with self._path.open("ab") as file:
                    file.write(b"".join(lines.values()))
                self._bytes += added
        except OSError as error:
            if not self._failed:
                said = {"file": str(self._path), "error": error.strerror}
                log.error("what is served cannot be noted", **said)  # noqa: TRY400 - the disk's fault, not the code's
            self._failed = True
        else:
            self._failed = False

    def _rewrite(self) -> None:
        """All or nothing: what there was no room for takes none."""
        beside = self._path.with_name(f"{self._path.name}.new")
        beside.unlink(missing_ok=True)
        lines = {model: _line(release) for model, release in self._releases.items()}
        try:
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(b"".join(lines.values()))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
            raise
        self._sizes = {model: len(line) for model, line in lines.items()}
        self._bytes = self._counting_bytes = sum(self._sizes.values())

    def _read(self) -> None:
        try:
            lines = self._path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StartupError(f"{self._path} cannot be read: {error.strerror}; make it readable") from None
        for number, line in enumerate(lines, 1):
            try:
                release = _release(line)
            except ValueError as error:
                said = {"file": str(self._path), "line": number, "error": str(error)}
                log.warning("a line of what was served cannot be read", **said)
            else:
                self._releases[release.model] = release
                self._count(release.model, len(line))
        if lines and lines[-1].endswith(b"\n"):  # nothing may be written behind half a line
            self._bytes = sum(map(len, lines))


def older(stored: Mapping[str, Release], served: Mapping[str, Release]) -> str:
    """Why a store that has these releases is not the one they were served from, or is of before; "": it is the one.

    Changes of a model have rising sequences, and what the store has taken it keeps.
    """
    for model, release in sorted(served.items()):
        found = stored.get(model)
        if found is None:
            return f"it has no release of {model}, and revision {release.revision} was served"
        if found.sequence < release.sequence:
            return (
                f"it has revision {found.revision} of {model} (change {found.sequence}), "
                f"and revision {release.revision} (change {release.sequence}) was served"
            )
        if found.sequence == release.sequence and found != release:
            return f"change {release.sequence} of {model} is another one in it than what was served"
    return ""


def _line(release: Release) -> bytes:
    body = msgspec.json.encode(release)
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _release(line: bytes) -> Release:
    """Raises ValueError."""
    check, _, body = line.rstrip(b"\n").partition(b" ")
    if int(check, 16) != zlib.crc32(body):
        raise ValueError("its check sum does not match")
    return _decoder.decode(body)
