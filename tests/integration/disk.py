"""A disk whose every step a test can go back to, or let fail: `disk.c`, built and loaded into a process of its own.

Between any two steps a process can be killed: then files are what all writes so far made of them. Or the power goes:
then of what a file was given since it was last synced any part may be missing.
"""

import os
import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_suffix(".c")
COMPILER = shutil.which("cc")
HEADER = struct.Struct("<cHQI")
SECTOR_BYTES = 512


class Step(NamedTuple):
    """One operation on a file under the folder."""

    kind: str
    """w(rite), s(ync), t(runcate) or u(nlink)."""
    name: str
    offset: int
    data: bytes


def build(folder: Path) -> Path:
    """The library to preload."""
    library = folder / "disk.so"
    command = [
        str(COMPILER),
        "-shared",
        "-fPIC",
        "-O1",
        "-Wall",
        "-Werror",
        "-pthread",
        "-o",
        str(library),
        str(SOURCE),
    ]
    subprocess.run(command, check=True)
    return library


def environment(library: Path, folder: Path, log: Path | None = None) -> dict[str, str]:
    """Of a process that works on the folder on this disk."""
    found = {**os.environ, "LD_PRELOAD": str(library), "DISK_FOLDER": f"{folder}/"}
    return found if log is None else {**found, "DISK_LOG": str(log)}


def steps(log: Path, folder: Path) -> Iterator[Step]:
    """What was done, in order."""
    read = log.read_bytes()
    at = 0
    while at < len(read):
        kind, path_bytes, offset, data_bytes = HEADER.unpack_from(read, at)
        at += HEADER.size
        path, at = read[at : at + path_bytes], at + path_bytes
        data, at = read[at : at + data_bytes], at + data_bytes
        yield Step(kind.decode(), str(Path(path.decode()).relative_to(folder)), offset, data)


class Files:
    """The files as they are after some steps."""

    def __init__(self) -> None:
        self.now: dict[str, bytearray] = {}
        self._synced: dict[str, bytes] = {}
        self._since: dict[str, list[Step]] = {}

    def take(self, step: Step) -> None:
        """One step further."""
        if step.kind == "s":
            self._synced[step.name] = bytes(self.now.get(step.name, b""))
            self._since[step.name] = []
        elif step.kind == "u":
            for known in (self.now, self._synced, self._since):
                known.pop(step.name, None)
        else:
            _apply(self.now.setdefault(step.name, bytearray()), step)
            self._since.setdefault(step.name, []).append(step)

    def after_power_loss(self, chance: random.Random) -> dict[str, bytearray]:
        """What may be found: of what was not synced some sectors are there, and some are not."""
        found = {}
        for name in self.now:
            content = bytearray(self._synced.get(name, b""))
            for step in self._since.get(name, []):
                for part in _sectors(step):
                    if chance.random() < 0.5:
                        _apply(content, part)
            found[name] = content
        return found


def put(files: dict[str, bytearray], folder: Path) -> None:
    """Makes the folder hold these files and nothing else."""
    for path in folder.iterdir():
        if path.name not in files:
            path.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _apply(content: bytearray, step: Step) -> None:
    if step.kind == "t":
        del content[step.offset :]
        content.extend(bytes(step.offset - len(content)))
    else:
        content.extend(bytes(max(0, step.offset - len(content))))
        content[step.offset : step.offset + len(step.data)] = step.data


def _sectors(step: Step) -> Iterator[Step]:
    """A write in the parts that a disk keeps whole."""
    if step.kind == "t":
        yield step
        return
    at, end = step.offset, step.offset + len(step.data)
    while at < end:
        until = min(end, (at // SECTOR_BYTES + 1) * SECTOR_BYTES)
        yield step._replace(offset=at, data=step.data[at - step.offset : until - step.offset])
        at = until
