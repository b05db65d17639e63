import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.unit.loadtests.target import Serve, servers


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts an `oip_server` process with some options and gives its host:port."""
    with servers() as start:
        yield start


@pytest.fixture
def in_locust() -> Callable[[str], str]:
    """Runs Python where Locust may live: it patches the process it is imported in, which must not be this one."""

    def run(code: str) -> str:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
