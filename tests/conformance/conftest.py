import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest


class Process:
    """A `tests.conformance.service` of one's own."""

    def __init__(self) -> None:
        command = [sys.executable, "-X", "dev", "-W", "error", "-m", "tests.conformance.service"]
        self.popen = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
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
def server() -> Iterator[Process]:
    """One server for a module; it must not complain about anything its clients do."""
    process = Process()
    yield process
    assert process.stop() == ""


@pytest.fixture
def start_server() -> Iterator[Callable[[], Process]]:
    """Starts servers for one test, which may make them complain."""
    started: list[Process] = []

    def start() -> Process:
        started.append(Process())
        return started[-1]

    yield start
    for process in started:
        process.stop()
