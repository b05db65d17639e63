"""Three gateways on one database, each behind a wire that can be cut."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Self

import grpc

from protos import admin_pb2 as pb
from protos.admin_pb2_grpc import AdminStub
from tests import models
from tests.e2e.storm import MODEL, VERSIONS
from tests.postgres import Server
from tests.serving import Gateway
from tests.wire import Wire

NAMES = ("a", "b", "c")
SHIFTED = """
import time
real_ns = time.time_ns
def time_ns():
    now_ns = real_ns()
    return now_ns + (3600 if now_ns // 5_000_000_000 % 2 else -3600) * 1_000_000_000
time.time_ns = time_ns
time.time = lambda: time_ns() / 1e9
"""
"""What Python runs at its start: a clock that leaps two hours forward or back every five seconds."""


class Wires:
    """A wire to the database for each gateway, in a thread of their own. A context manager."""

    def __init__(self, port: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._wires = {name: Wire(port) for name in NAMES}

    def __enter__(self) -> Self:
        self._thread.start()
        for wire in self._wires.values():
            asyncio.run_coroutine_threadsafe(wire.__aenter__(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        for wire in self._wires.values():
            asyncio.run_coroutine_threadsafe(wire.__aexit__(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def port(self, name: str) -> int:
        """Where the database is for a gateway."""
        return self._wires[name].port

    def do(self, name: str, what: Callable[[Wire], None]) -> None:
        """Does something to the wire of a gateway."""
        self._loop.call_soon_threadsafe(what, self._wires[name])


class Trio:
    """The gateways, started together. A context manager, which leaves no process behind."""

    def __init__(self, folder: Path, server: Server, settings: str, proxies: int = 1, shifted: str = "") -> None:
        """`settings`: lines of [store]; `shifted`: the gateway whose clock leaps."""
        self._server = server
        self._database = server.create_database().rpartition("/")[2]
        self._folder = folder
        self._settings = settings
        self._proxies = str(proxies)
        self._shifted = shifted
        self.wires = Wires(server.port)
        self.lives: list[Gateway] = []
        self._gateways: dict[str, Gateway] = {}
        for version in VERSIONS:
            models.save(folder / "models", MODEL, version, models.constant(version))
        (folder / "clock").mkdir()
        (folder / "clock" / "sitecustomize.py").write_text(SHIFTED)

    def __enter__(self) -> Self:
        self.wires.__enter__()
        try:
            with ThreadPoolExecutor() as pool:
                list(pool.map(self.start, NAMES))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for gateway in self.lives:
            gateway.kill()
        self.wires.__exit__()

    def __getitem__(self, name: str) -> Gateway:
        return self._gateways[name]

    def start(self, name: str) -> None:
        """A gateway, the first of its name or the successor of one that was killed."""
        config = self._folder / f"{name}.toml"
        url = f"postgresql://postgres@127.0.0.1:{self.wires.port(name)}/{self._database}"
        config.write_text(
            f'[server]\ndrain_grace = "5s"\n[limits]\nworker_wait = "60s"\n'
            f'[store]\nurl = "{url}"\ngateway = "{name}"\n{self._settings}'
        )
        paths = [str(self._folder / "clock"), os.environ.get("PYTHONPATH", "")] if name == self._shifted else []
        gateway = Gateway(
            self._folder / "models",
            self._folder / name,
            *("--config", str(config), "--proxies", self._proxies),
            *("--grpc-port", str(self._gateways[name].grpc) if name in self._gateways else "0"),
            env={"PYTHONPATH": os.pathsep.join(paths)} if paths else None,
        )
        self._gateways[name] = gateway
        self.lives.append(gateway)

    def kill_control(self, name: str) -> None:
        """SIGKILL to the control process alone: its proxies and workers stay."""
        os.kill(self[name].pid, signal.SIGKILL)
        self[name].process.wait()

    def listed(self, name: str) -> dict[str, pb.Gateway]:
        """The gateways that one of them knows."""
        with grpc.insecure_channel(f"127.0.0.1:{self[name].admin}") as channel:
            found = AdminStub(channel).ListGateways(pb.ListGatewaysRequest(), timeout=20).gateways
        return {one.gateway: one for one in found}

    def psql(self, statement: str) -> str:
        """What the database says."""
        return self._server.psql(statement, self._database)

    def log_tails(self) -> str:
        """The last lines of each."""
        return "\n".join(f"--- {name}\n{one.log_tail()}" for name, one in self._gateways.items())


def pause(pid: int, for_s: float) -> threading.Timer:
    """Stops a process for a while; join the timer to wait for its end. Raises ProcessLookupError."""
    os.kill(pid, signal.SIGSTOP)
    timer = threading.Timer(for_s, _go_on, (pid,))
    timer.start()
    return timer


def _go_on(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
