"""A real worker process for tests: started as the supervisor starts it, spoken to as a proxy does."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests import frames
from workers import wire

PATIENCE_S = 60.0


class Client:
    """One connection to a worker."""

    def __init__(self, path: Path) -> None:
        self.told = 0
        """How often the worker said that it is at work."""
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE_S)
        try:
            self.socket.connect(str(path))
        except OSError:
            self.socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> frames.Answer:
        """The next frame that is about a batch. Raises EOFError when the worker closed the connection."""
        while True:
            header = self._exactly(wire.HEADER.size)
            answer = frames.parse(header + self._exactly(wire.HEADER.unpack(header)[0]))
            if answer.kind != wire.ALIVE:
                return answer
            assert answer == frames.Answer(wire.ALIVE, 0, 0, 0, b"")
            self.told += 1

    def ask(self, data: bytes) -> frames.Answer:
        self.send(data)
        return self.receive()

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            try:
                piece = self.socket.recv(min(size - len(data), 1 << 20))
            except ConnectionResetError:
                piece = b""
            if not piece:
                raise EOFError(f"{len(data)} of {size} bytes")
            data += piece
        return bytes(data)


class Worker:
    """A worker process; killed on exit if it still runs. stdout and stderr are kept in files beside the socket."""

    def __init__(self, directory: Path, model: bytes | Path, *options: str) -> None:
        self.path = directory / "worker.sock"
        self.stderr = directory / "stderr"
        self.stdout = directory / "stdout"
        self.model = model if isinstance(model, Path) else directory / "model.onnx"
        if isinstance(model, bytes):
            self.model.write_bytes(model)
        self.status_fd, write_fd = os.pipe()
        command = [sys.executable, "-m", "workers", "--model", str(self.model), "--socket", str(self.path)]
        with self.stdout.open("wb") as stdout, self.stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                [*command, "--status-fd", str(write_fd), *options], stdout=stdout, stderr=stderr, pass_fds=[write_fd]
            )
        os.close(write_fd)
        self._unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()
        self.close_status()

    def close_status(self) -> None:
        """As if the control process had died."""
        if self.status_fd >= 0:
            os.close(self.status_fd)
            self.status_fd = -1

    def status(self) -> dict[str, Any]:
        """The next status line. Raises EOFError when the worker ended."""
        while b"\n" not in self._unread:
            if not select.select([self.status_fd], [], [], PATIENCE_S)[0]:
                raise TimeoutError("no status line")
            piece = os.read(self.status_fd, 65536)
            if not piece:
                raise EOFError(f"the worker ended: {self.process.wait()}")
            self._unread += piece
        line, self._unread = self._unread.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        return message

    def ready(self) -> dict[str, Any]:
        """The ready line."""
        assert self.status() == {"state": "loading"}
        status = self.status()
        assert status["state"] == "ready", status
        return status

    def failed(self) -> str:
        """The error of a worker that cannot serve, whose exit code was checked."""
        assert self.status() == {"state": "loading"}
        status = self.status()
        assert status["state"] == "failed", status
        assert self.process.wait(PATIENCE_S) == 3
        return str(status["error"])

    def connect(self) -> Client:
        return Client(self.path)

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)
