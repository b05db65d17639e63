"""Stand-ins for worker processes, for benches with more models than worker processes would fit on the machine.

Each is a socket in the bench's own process that proxies connect to, and the word that it is ready. It runs no model and
answers no batch: for what it costs to look after many workers, not for what they do.
"""

import asyncio
import itertools
import os
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from gateway.controlplane.instance import WorkerStatus
from gateway.controlplane.processes import Child, Launcher
from gateway.routing.snapshot import Tensor

STATUS: Final = WorkerStatus(
    "ready",
    inputs=(Tensor("X", "FP32", (-1, 30)),),
    outputs=(Tensor("label", "INT64", (-1,)), Tensor("probabilities", "FP32", (-1, 2))),
    batched=True,
    costs=((1, 100), (64, 900)),
)
_pids = itertools.count(1 << 23)
"""No process has one as high."""


class StandIn(Child):
    """Runs until it is told to end."""

    def __init__(self, server: asyncio.Server) -> None:
        super().__init__(lambda _: None)
        self.pid = next(_pids)
        self._server = server

    async def wait(self) -> int:
        return await asyncio.shield(self.exited)

    async def stop(self, grace_s: float) -> int:
        return await self.kill()

    async def kill(self) -> int:
        self._server.close()
        if self.running:
            self.exited.set_result(0)
        return 0


class StandIns(Launcher):
    """Starts stand-ins where others start workers. Proxies need a launcher of their own."""

    def __init__(self) -> None:
        """They are nobody's children."""

    async def start(
        self,
        role: str,
        command: Sequence[str | os.PathLike[str]],
        on_line: Callable[[str], None],
        pass_fds: Sequence[int] = (),
    ) -> Child:
        """`command`: that of a worker."""
        words = [os.fspath(word) for word in command]
        path = words[words.index("--socket") + 1]
        server = await asyncio.get_running_loop().create_unix_server(asyncio.Protocol, path)
        os.write(pass_fds[0], msgspec.json.encode(STATUS) + b"\n")
        return StandIn(server)
