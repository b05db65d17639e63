"""Clients that run on Node: their packages, installed once, and their scripts."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

GRPC_JS = ("@grpc/grpc-js@1.13.4",)
CONNECT = ("@connectrpc/connect-node@2.1.2", "@connectrpc/connect@2.1.2", "@bufbuild/protobuf@2.17.0")

needs_node = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("npm") is None or shutil.which("node") is None, reason="node or npm is not installed"
    ),
]


def installed(packages: tuple[str, ...]) -> Path:
    """A folder with packages, kept between runs, outside the repository. Skips the test when npm cannot get them."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = cache / "cutover-tests" / packages[0].replace("/", "_")
    if not (folder / "done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--ignore-scripts", *packages]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        if done.returncode:
            pytest.skip(f"npm cannot install {packages[0]}: {done.stderr.strip().splitlines()[-1:]}")
        (folder / "done").touch()
    return folder / "node_modules"


def run(script: Path, packages: tuple[str, ...], *arguments: str, stdin: str = "") -> str:
    """What a script prints, which must end well."""
    environment = {**os.environ, "NODE_PATH": str(installed(packages))}
    command = ["node", str(script), *arguments]
    ran = subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=100, check=False, env=environment
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
