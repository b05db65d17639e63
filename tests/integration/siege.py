"""Both sides of an attack: the victim in a process of its own with an honest client, and a client without manners."""

import itertools
import json
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self

import grpc

from gateway.transport.h2.frames import HEADER, HEADER_BYTES, PREFACE, FrameType
from tests.unit.gateway.transport.h2.peer import settings

PATIENCE_S = 30.0


class Victim:
    """The server under attack, and an honest client with a connection of its own."""

    def __init__(self, **limits: float) -> None:
        command = [sys.executable, "-m", "tests.integration.flood_server", json.dumps(limits)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")
        self.ask("Echo", b"warm")

    def ask(self, method: str, body: bytes) -> bytes:
        unary: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(f"/test/{method}")
        return unary(body, timeout=PATIENCE_S)

    def state(self, body: bytes = b"") -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ask("State", body))
        return found

    def wait(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The state once it is so."""
        until = time.monotonic() + PATIENCE_S
        pause = threading.Event()
        while not condition(state := self.state()):
            assert time.monotonic() < until, state
            pause.wait(0.02)
        return state

    def stop(self) -> None:
        self.channel.close()
        self.process.terminate()
        assert self.process.wait(PATIENCE_S) == 0
        assert self.process.stdout is not None
        self.process.stdout.close()

    @contextmanager
    def besieged(self, most_mib: int) -> Iterator[None]:
        """Asks all the while, and checks that every answer came and that memory grew by no more than this.

        What was held for attackers is to be given back when they have gone.
        """
        before = self.wait(lambda state: state["connections"] == 1 and not state["running"])
        self.state(b"begin")
        stop, faults, answers = threading.Event(), [], itertools.count()

        def ask() -> None:
            while not stop.is_set():
                try:
                    assert self.ask("Echo", b"honest") == b"honest"
                    next(answers)
                except Exception as error:  # noqa: BLE001 - reported below
                    faults.append(error)

        honest = threading.Thread(target=ask)
        honest.start()
        try:
            yield
        finally:
            stop.set()
            honest.join(PATIENCE_S)
        assert faults == []
        assert next(answers) > 0
        self.wait(lambda state: state["connections"] == 1 and state["held_bytes"] == 0)
        grown_mib = (self.state()["peak_kib"] - before["memory_kib"]) / 1024
        assert grown_mib < most_mib, f"memory grew by {grown_mib:.0f} MiB"


class Attacker:
    """A connection that follows no rules. What the server says is read and counted, unless `deaf`."""

    def __init__(self, port: int, *, greet: bytes | None = None, deaf: bool = False) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.heard: Counter[int] = Counter()
        self.code: int | None = None
        """Of the GOAWAY that ended the connection."""
        self._reader = threading.Thread(target=self._read)
        if not deaf:
            self._reader.start()
        self.pour([PREFACE + settings() if greet is None else greet])

    def pour(self, pieces: Iterable[bytes]) -> bool:
        """Sends as fast as the server takes it; False when the server has had enough."""
        try:
            for batch in _batched(pieces):
                self.sock.sendall(batch)
        except OSError:
            return False
        return True

    def end(self) -> int | None:
        """Waits until the server has closed the connection; with what code."""
        self._reader.join(PATIENCE_S)
        assert not self._reader.is_alive(), "the server keeps the connection"
        return self.code

    def _read(self) -> None:
        rest = b""
        with suppress(OSError):
            while piece := self.sock.recv(1 << 16):
                rest += piece
                while len(rest) >= HEADER_BYTES:
                    word, _, _ = HEADER.unpack_from(rest)
                    end = HEADER_BYTES + (word >> 8)
                    if len(rest) < end:
                        break
                    self.heard[word & 0xFF] += 1
                    if word & 0xFF == FrameType.GOAWAY:
                        self.code = int.from_bytes(rest[HEADER_BYTES + 4 : HEADER_BYTES + 8], "big")
                    rest = rest[end:]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        if self._reader.ident is not None:
            self._reader.join(PATIENCE_S)
        self.sock.close()


@contextmanager
def crowd(port: int, count: int, *, greet: bytes | None = None, deaf: bool = False) -> Iterator[list[Attacker]]:
    """Many of them."""
    attackers = [Attacker(port, greet=greet, deaf=deaf) for _ in range(count)]
    try:
        yield attackers
    finally:
        for attacker in attackers:
            attacker.__exit__()


def _batched(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Joins small pieces, so that the attacker is faster than the server."""
    iterator = iter(pieces)
    while batch := list(itertools.islice(iterator, 200)):
        yield b"".join(batch)
