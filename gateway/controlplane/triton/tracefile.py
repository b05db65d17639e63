"""Traces in Triton's JSON format (docs/user_guide/trace.md of its server): one array in each file, always complete."""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import Final

import structlog

from gateway.routing.outcome import Trace

log = structlog.get_logger()

MAX_WAITING: Final = 10_000
"""Traces that wait for the disk; more are left out."""


class TraceFile:
    """Writes traces to one file, or so many to each of several, in a thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers = count(time.time_ns() // 1000)  # a file outlives the process: ids must not come again
        self._waiting: list[Trace] = []
        self._writer: asyncio.Task[None] | None = None
        self._frequency = 0
        self._index = 0
        self._in_file = 0
        self._complained = False

    def add(self, traces: Sequence[Trace], frequency: int) -> None:
        """Writes them soon. `frequency`: how many go into one file, its name ending in .0, .1...; 0: all into one."""
        self._frequency = frequency
        self._waiting += traces[: MAX_WAITING - len(self._waiting)]
        if self._waiting and (self._writer is None or self._writer.done()):
            self._writer = asyncio.get_running_loop().create_task(self._write(), name="traces")

    async def close(self) -> None:
        """Writes what is there."""
        if self._writer is not None:
            await self._writer

    async def _write(self) -> None:
        while self._waiting:
            path, room = self._place()
            batch, self._waiting = self._waiting[:room], self._waiting[room:]
            lines = [line for trace in batch for line in entries(next(self._numbers), trace)]
            try:
                await asyncio.to_thread(append, path, lines)
            except (OSError, ValueError) as error:
                self._complain(path, error)
            else:
                self._complained = False
                self._in_file += len(batch)

    def _place(self) -> tuple[Path, int]:
        """The file that is written to now, and how many traces it takes."""
        if not self._frequency:
            return self._path, len(self._waiting)
        if self._in_file >= self._frequency:
            self._index += 1
            self._in_file = 0
        while not self._in_file and self._numbered.exists():
            self._index += 1  # of an earlier time
        return self._numbered, self._frequency - self._in_file

    @property
    def _numbered(self) -> Path:
        return self._path.with_name(f"{self._path.name}.{self._index}")

    def _complain(self, path: Path, error: Exception) -> None:
        """Once, until it works again."""
        if not self._complained:
            self._complained = True
            log.error("traces could not be written and are lost", file=str(path), error=str(error))


def entries(number: int, trace: Trace) -> list[bytes]:
    """The array's entries for one trace: who it is, then its points in time, in order."""
    who: dict[str, object] = {"id": number, "model_name": trace.model, "model_version": trace.version}
    if trace.request_id:
        who["request_id"] = trace.request_id
    points = (
        ("REQUEST_START", trace.arrived_ns),
        ("QUEUE_START", trace.arrived_ns),
        ("COMPUTE_START", trace.sent_ns),
        ("COMPUTE_INPUT_END", trace.run_ns),
        ("COMPUTE_OUTPUT_START", trace.ended_ns),
        ("COMPUTE_END", trace.ended_ns),
        ("REQUEST_END", trace.answered_ns),
    )
    stamps = {"id": number, "timestamps": [{"name": name, "ns": ns} for name, ns in points]}
    return [json.dumps(entry).encode() for entry in (who, stamps)]


def append(path: Path, added: Iterable[bytes]) -> None:
    """Adds entries to the array in the file, which is made if need be. Blocks. Raises OSError, then the file is as
    before; and ValueError when the file holds something else, which is then left alone.
    """
    body = b",\n".join(added) + b"]"
    number = os.open(path, os.O_RDWR | os.O_CREAT, 0o640)
    try:
        size = os.fstat(number).st_size
        if size and os.pread(number, 1, size - 1) != b"]":
            raise ValueError("it does not end like a file of traces; move it away")
        _write_end(number, size, (b",\n" if size else b"[") + body)
    finally:
        os.close(number)


def _write_end(number: int, size: int, data: bytes) -> None:
    """Writes over the bracket at the end of a file of `size` bytes. What the disk took of a write that fails is taken
    back, for which it needs no room that was not there before.
    """
    start = max(0, size - 1)
    done = 0
    try:
        while done < len(data):
            done += os.pwrite(number, data[done:], start + done)
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(number, size)
            os.pwrite(number, b"]"[:size], start)
        raise
