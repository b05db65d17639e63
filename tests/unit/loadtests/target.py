"""Starts `oip_server` processes for tests."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

Serve = Callable[..., str]


@contextmanager
def servers() -> Iterator[Serve]:
    """A function that starts a server with some options and gives its host:port; all end with the block."""
    with ExitStack() as stack:

        def start(*options: str) -> str:
            command = [sys.executable, "-m", "tests.unit.loadtests.oip_server", *options]
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            stack.callback(process.terminate)
            assert process.stdout is not None
            return f"127.0.0.1:{int(process.stdout.readline())}"

        yield start
