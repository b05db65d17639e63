"""h2load (nghttp2): thousands of requests under unusual settings. No request may fail."""

import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from tests.conformance.conftest import Process

pytestmark = pytest.mark.skipif(
    shutil.which("h2load") is None, reason="h2load is not installed (package nghttp2-client)"
)


@pytest.mark.slow_on("grpcio")
@pytest.mark.parametrize(
    ("requests", "size", "options"),
    [
        (5000, 150, ["-c4", "-m16"]),
        (2000, 0, ["-c1", "-m1"]),
        (5000, 150, ["-c10", "-m100"]),
        (40, 150, ["-c2", "-m4", "-w1"]),  # a stream window of one byte
        (40, 150, ["-c2", "-m4", "-W1"]),  # a connection window of one byte
        (1000, 150, ["-c2", "-m10", "--header-table-size=0", "--encoder-header-table-size=0"]),
        (1000, 150, ["-c2", "-m10", "--header-table-size=100", "--encoder-header-table-size=100"]),
        (20, 5_000_000, ["-c2", "-m4", "-w20", "-W22"]),
    ],
)
def test_every_request_is_answered(
    server: Process, tmp_path: Path, requests: int, size: int, options: list[str]
) -> None:
    body = tmp_path / "body"
    body.write_bytes(struct.pack(">BL", 0, size) + bytes(size))
    url = f"http://127.0.0.1:{server.port}/test.Conformance/Echo"
    headers = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    command = ["h2load", f"-n{requests}", *options, f"-d{body}", *headers, url]
    output = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True).stdout
    assert f"{requests} succeeded, 0 failed, 0 errored, 0 timeout" in output, output
    received = re.search(r"\((\d+)\) data", output)
    assert received is not None
    assert int(received[1]) == requests * (size + 5), "answers are not what was asked for"
