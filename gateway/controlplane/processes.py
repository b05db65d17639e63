"""Child processes: start, watch, stop, and recognise them again after the parent is gone."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol, cast

MAX_LINE_BYTES: Final = 8192
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
HINTS: Final = {
    signal.SIGKILL: "killed by hand or by the kernel for want of memory",
    signal.SIGSEGV: "a fault in native code",
    signal.SIGILL: "an instruction this CPU does not have",
}


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot (/proc/PID/stat, field 22); None when it has ended.

    Together with the pid this names one process for as long as the machine runs.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def held_bytes(pid: int) -> int:
    """Memory that is a process's own: resident, without mapped files and what it shares; 0 when it has ended."""
    try:
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_bytes().split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return (int(resident) - int(shared)) * PAGE_BYTES


def describe_exit(code: int) -> str:
    """How a process ended, in words; negative codes are signals."""
    if code >= 0:
        return f"exited with code {code}"
    number = signal.Signals(-code)
    hint = HINTS.get(number)
    return f"ended by {number.name}" + (f" ({hint})" if hint else "")


def python_module(name: str) -> list[str]:
    """How a child is started: this interpreter, and no code from the current directory (-P)."""
    return [sys.executable, "-P", "-m", name]


class Children(Protocol):
    """Keeps book of the children of this process."""

    def started(self, role: str, pid: int) -> None: ...
    def ended(self, pid: int) -> None: ...


class Child(asyncio.SubprocessProtocol):
    """One running child. Its output (stdout and stderr together) arrives line by line in `on_line`."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self.pid = 0
        self.last_line = ""
        self._on_line = on_line
        self._partial = b""
        self._transport: asyncio.SubprocessTransport | None = None
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """The exit code; negative: the number of the signal that ended it."""
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def running(self) -> bool:
        return not self.exited.done()

    async def wait(self) -> int:
        """Waits for the end and the last line of output; returns the exit code."""
        code = await asyncio.shield(self.exited)
        await asyncio.wait([self._closed], timeout=1.0)  # longer only when it left its output to a child of its own
        self._close()
        return code

    def send(self, number: signal.Signals) -> None:
        """Sends a signal; nothing happens when the child has ended."""
        # Not the transport's send_signal: it may take the exit status away from the loop's child watcher.
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def stop(self, grace_s: float) -> int:
        """SIGTERM, and SIGKILL when the grace is over; returns the exit code."""
        self.send(signal.SIGTERM)
        await asyncio.wait([self.exited], timeout=grace_s)
        return await self.kill()

    async def kill(self) -> int:
        """SIGKILL; returns the exit code."""
        self.send(signal.SIGKILL)
        return await self.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)
        self.pid = self._transport.get_pid() or 0

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        *lines, self._partial = (self._partial + data).split(b"\n")
        if len(self._partial) > MAX_LINE_BYTES:
            lines.append(self._partial)
            self._partial = b""
        for line in lines:
            self._tell(line)

    def process_exited(self) -> None:
        code = self._transport.get_returncode() if self._transport else None
        if self.running:
            self.exited.set_result(code if code is not None else 0)

    def connection_lost(self, exc: Exception | None) -> None:
        self._tell(self._partial)
        self._partial = b""
        self._close()
        if not self._closed.done():
            self._closed.set_result(None)

    def _close(self) -> None:
        if self._transport:
            self._transport.close()

    def _tell(self, line: bytes) -> None:
        if text := line[:MAX_LINE_BYTES].decode(errors="replace").rstrip():
            self.last_line = text
            self._on_line(text)


class Launcher:
    """Starts children and enters them in the book."""

    def __init__(self, book: Children) -> None:
        self._book = book
        self._children: set[Child] = set()

    async def start(
        self,
        role: str,
        command: Sequence[str | os.PathLike[str]],
        on_line: Callable[[str], None],
        pass_fds: Sequence[int] = (),
    ) -> Child:
        """Starts a child in our process group with no file but its output, `pass_fds` and an empty input.

        Raises OSError when the system refuses.
        """
        loop = asyncio.get_running_loop()
        # A blocked signal stays blocked across exec: the Ctrl-C meant for us never ends a child and is not lost for us.
        # The loop forks before it first suspends, so no other coroutine can unblock it too early.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            _, child = await loop.subprocess_exec(
                lambda: Child(on_line),
                *command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=pass_fds,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        self._children.add(child)
        self._book.started(role, child.pid)
        child.exited.add_done_callback(lambda _: self._forget(child))
        return child

    def kill_all(self) -> None:
        """SIGKILL to every child."""
        for child in self._children:
            child.send(signal.SIGKILL)

    def _forget(self, child: Child) -> None:
        self._children.discard(child)
        self._book.ended(child.pid)
