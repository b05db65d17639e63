"""The generated modules are up to date."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance.interop import generate


@pytest.mark.parametrize("name", ["interop_pb2.py", "interop_pb2.pyi"])
def test_the_modules_are_what_the_proto_says(tmp_path: Path, name: str) -> None:
    # A process of its own: protoc prints to the real stderr, and keeps state.
    command = [sys.executable, "-W", "ignore", "-m", "tests.conformance.interop.generate", str(tmp_path)]
    done = subprocess.run(command, cwd=generate.HERE.parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made, kept = tmp_path / name, generate.HERE / name
    assert made.read_text() == kept.read_text(), (
        f"{name} is out of date: run python -m tests.conformance.interop.generate"
    )
