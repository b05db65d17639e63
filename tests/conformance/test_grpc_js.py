"""@grpc/grpc-js on Node's own HTTP/2: DATA and END_STREAM in frames of their own, other windows, other HPACK."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conformance.conftest import Process

PACKAGE = "@grpc/grpc-js@1.13.4"
SCRIPT = Path(__file__).with_name("grpc_js.cjs")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("npm") is None or shutil.which("node") is None, reason="node or npm is not installed"
    ),
]


@pytest.fixture(scope="module")
def modules() -> Path:
    """A folder with the package installed; kept between runs, outside the repository."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = cache / "cutover-tests" / PACKAGE.replace("/", "_")
    if not (folder / "done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--ignore-scripts", PACKAGE]
        installed = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        if installed.returncode:
            pytest.skip(f"npm cannot install {PACKAGE}: {installed.stderr.strip().splitlines()[-1:]}")
        (folder / "done").touch()
    return folder / "node_modules"


def test_grpc_js(server: Process, modules: Path) -> None:
    environment = {**os.environ, "NODE_PATH": str(modules)}
    command = ["node", str(SCRIPT), str(server.port)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=environment)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {
        "echo": "hello",
        "large": True,
        "many": True,
        "trailers": {"user": "u1", "blob": [0, 255]},
        "unknown": 12,
        "failed": [8, "100 % Größe"],
        "deadline": 4,
        "cancelled": 1,
        "after": "still here",
    }
