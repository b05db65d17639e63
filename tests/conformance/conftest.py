import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest


class Process:
    """A `tests.conformance.service` of one's own."""

    def __init__(self, transport: str) -> None:
        self.transport = transport
        command = [sys.executable, "-X", "dev", "-W", "error", "-m", "tests.conformance.service"]
        command += ["--transport", transport]
        environment = {**os.environ, "GRPC_VERBOSITY": "NONE"}  # grpcio complains of what clients do
        self.popen = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        assert self.popen.stdout is not None
        self.port = int(self.popen.stdout.readline())

    def stop(self) -> str:
        """Drains it, checks that it ended well, and returns what it complained about."""
        if self.popen.poll() is None:
            self.popen.terminate()
        _, complaints = self.popen.communicate(timeout=30)
        assert self.popen.returncode == 0, complaints
        return complaints


@pytest.fixture(scope="module")
def server(transport: str) -> Iterator[Process]:
    """One server for a module, on each transport; it must not complain about anything its clients do."""
    process = Process(transport)
    yield process
    assert process.stop() == ""


@pytest.fixture
def start_server(transport: str) -> Iterator[Callable[[], Process]]:
    """Starts servers for one test, which may make them complain."""
    started: list[Process] = []

    def start() -> Process:
        started.append(Process(transport))
        return started[-1]

    yield start
    for process in started:
        process.stop()
