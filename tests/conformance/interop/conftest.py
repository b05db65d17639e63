import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from tests.certificates import Authority
from tests.conformance.interop.client import Client

Options = list[tuple[str, str | int]]
ALONE: Options = [("grpc.use_local_subchannel_pool", 1)]
"""A channel with a connection of its own."""


class Interop:
    """A running `tests.conformance.interop.service`, and ways to reach it."""

    def __init__(self, transport: str, authority: Authority | None, folder: Path) -> None:
        self._authority = authority
        self.is_ours = transport == "h2"
        """Not grpcio. A test that asks is about a difference, which README.md names."""
        command = [sys.executable, "-X", "dev", "-W", "error", "-m", "tests.conformance.interop.service"]
        command += ["--transport", transport]
        self.ca = None
        """File of the authority to trust; None: cleartext."""
        if authority is not None:
            certificate, key = authority.server().write(folder)
            self.ca = authority.write(folder / "ca.crt")
            command += ["--certificate", str(certificate), "--key", str(key)]
        environment = {**os.environ, "GRPC_VERBOSITY": "NONE"}  # grpcio complains of what clients do
        self._popen = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        assert self._popen.stdout is not None
        self.port = int(self._popen.stdout.readline() or self.stop())
        self._target = f"127.0.0.1:{self.port}"

    def channel(self) -> grpc.Channel:
        """grpcio's client, synchronous."""
        if self._authority is None:
            return grpc.insecure_channel(self._target, ALONE)
        return grpc.secure_channel(self._target, grpc.ssl_channel_credentials(self._authority.pem), self._secure())

    def aio_channel(self) -> grpc.aio.Channel:
        """grpcio's client for asyncio."""
        if self._authority is None:
            return grpc.aio.insecure_channel(self._target, ALONE)
        return grpc.aio.secure_channel(self._target, grpc.ssl_channel_credentials(self._authority.pem), self._secure())

    def connect(self) -> socket.socket:
        """A connected socket."""
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._authority is None:
            return sock
        return self._authority.client_context().wrap_socket(sock, server_hostname="localhost")

    def stop(self) -> str:
        """Drains it; what it complained about."""
        self._popen.terminate()
        _, complaints = self._popen.communicate(timeout=30)
        assert self._popen.returncode == 0, complaints
        return complaints

    @staticmethod
    def _secure() -> Options:
        return [*ALONE, ("grpc.ssl_target_name_override", "localhost")]


@pytest.fixture(scope="module", params=["h2", "h2 over TLS", "grpcio"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Interop]:
    """One server for a module, on each transport; it must not complain about anything its clients do."""
    transport, _, tls = str(request.param).partition(" over ")
    running = Interop(transport, Authority() if tls else None, tmp_path_factory.mktemp("tls"))
    yield running
    assert running.stop() == ""


@pytest.fixture
async def client(server: Interop) -> AsyncIterator[Client]:
    """grpcio's client with a connection of its own."""
    async with server.aio_channel() as channel:
        yield Client(channel)
