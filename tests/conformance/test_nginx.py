"""nginx in front: `grpc_pass` to our server, grpcio as its client."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.conformance.calls import MIB, OPTIONS, PATIENCE_S, ask, deadline_cancels, refused, trailers_of, unary
from tests.conformance.conftest import Process

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")

CONFIG = """
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log warn;
events {{}}
http {{
    access_log off;
    client_max_body_size 100m;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream gateway {{
        server 127.0.0.1:{port};
        keepalive 4;
    }}
    server {{
        listen unix:{folder}/socket http2;
        location / {{
            grpc_pass grpc://gateway;
        }}
    }}
}}
"""


@pytest.fixture(scope="module")
def channel(server: Process, tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    folder = tmp_path_factory.mktemp("nginx")
    config = folder / "nginx.conf"
    config.write_text(CONFIG.format(folder=folder, port=server.port))
    nginx = subprocess.Popen(["nginx", "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(config)])
    try:
        wait_for(folder / "socket", nginx)
        with grpc.insecure_channel(f"unix:{folder}/socket", options=OPTIONS) as made:
            grpc.channel_ready_future(made).result(timeout=30)
            yield made
    finally:
        nginx.terminate()
        nginx.wait(30)
    complaints = [line for line in (folder / "error.log").read_text().splitlines() if "[warn]" not in line]
    assert not complaints


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    until_s = time.monotonic() + 30
    while not path.exists():
        assert process.poll() is None, "nginx did not start"
        assert time.monotonic() < until_s, "nginx does not listen"
        time.sleep(0.01)


@pytest.mark.parametrize("size", [0, 100, 70_000, 64 * MIB])
def test_messages(channel: grpc.Channel, size: int) -> None:
    assert ask(channel, "Echo", bytes(size)) == bytes(size)


def test_many_at_once(channel: grpc.Channel) -> None:
    futures = [unary(channel, "Echo").future(b"%d" % number, timeout=PATIENCE_S) for number in range(300)]
    assert [future.result() for future in futures] == [b"%d" % number for number in range(300)]


def test_trailers_and_metadata(channel: grpc.Channel) -> None:
    assert trailers_of(channel, (("x-user-id", "u1"),))["x-user-id"] == "u1"


@pytest.mark.parametrize("size", [0, MIB])
def test_unknown_methods(channel: grpc.Channel, size: int) -> None:
    assert refused(lambda: ask(channel, "Nothing", bytes(size)))[0] is grpc.StatusCode.UNIMPLEMENTED


def test_failures(channel: grpc.Channel) -> None:
    expected = (grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
    assert refused(lambda: ask(channel, "Fail", b"full", (("code", "8"),))) == expected


def test_deadlines_cancel(channel: grpc.Channel) -> None:
    assert deadline_cancels(channel)
