import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import grpc.aio
import pytest

from tests.conformance.interop.client import Client

TRANSPORTS = ("h2", "grpcio")


class Interop:
    """A running `tests.conformance.interop.service`."""

    def __init__(self, transport: str) -> None:
        self.transport = transport
        command = [sys.executable, "-X", "dev", "-W", "error", "-m", "tests.conformance.interop.service"]
        self._popen = subprocess.Popen(
            [*command, "--transport", transport], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self._popen.stdout is not None
        self.port = int(self._popen.stdout.readline() or self.stop())
        self.target = f"127.0.0.1:{self.port}"

    @property
    def is_ours(self) -> bool:
        """Not grpcio. A test that asks is about a difference, which README.md names."""
        return self.transport == "h2"

    def stop(self) -> str:
        """Drains it; what it complained about."""
        self._popen.terminate()
        _, complaints = self._popen.communicate(timeout=30)
        assert self._popen.returncode == 0, complaints
        return complaints


@pytest.fixture(scope="module", params=TRANSPORTS)
def server(request: pytest.FixtureRequest) -> Iterator[Interop]:
    """One server for a module, on each transport; it must not complain about anything its clients do."""
    running = Interop(request.param)
    yield running
    assert running.stop() == ""


@pytest.fixture
async def client(server: Interop) -> AsyncIterator[Client]:
    """grpcio's client with a connection of its own."""
    async with grpc.aio.insecure_channel(server.target, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield Client(channel)
