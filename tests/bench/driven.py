"""A proxy and workers without a control process: the bench gives the snapshot itself, however large it is to be."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from gateway.controlplane.instance import WorkerStatus
from gateway.routing import link
from gateway.routing.snapshot import Pool, Snapshot
from loadtests.bench.errors import BenchError

PATIENCE_S = 60.0
STOP_S = 10.0


@contextmanager
def worker(model: str, version: int, onnx: Path, address: Path) -> Iterator[Pool]:
    """Runs one worker until the end of the block; gives the pool that consists of it. Raises BenchError."""
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "workers", "--model", str(onnx), "--socket", str(address)]
    with subprocess.Popen([*command, "--status-fd", str(writing)], pass_fds=[writing]) as process:
        os.close(writing)
        try:
            with os.fdopen(reading) as lines:
                status = _ready(lines)
                yield Pool(
                    model,
                    version,
                    shadow=False,
                    state="ready",
                    addresses=(str(address),),
                    inputs=status.inputs,
                    outputs=status.outputs,
                    batched=status.batched,
                    max_batch_size=64,
                )
        finally:
            _stop(process)


def _ready(lines: Iterator[str]) -> WorkerStatus:
    for line in lines:
        status = msgspec.convert(json.loads(line), WorkerStatus)
        if status.state == "ready":
            return status
        if status.state == "failed":
            raise BenchError(f"the worker cannot serve: {status.error}")
    raise BenchError("the worker ended before it was ready")


class DrivenProxy:
    """A running proxy that serves one snapshot."""

    def __init__(self, pid: int, port: int) -> None:
        self.pid = pid
        self.port = port


@contextmanager
def proxy(snapshot: Snapshot, control: Path) -> Iterator[DrivenProxy]:
    """Runs a proxy until the end of the block. Raises BenchError when it does not serve."""
    with socket.socket(socket.AF_UNIX) as server:
        server.settimeout(PATIENCE_S)
        server.bind(str(control))
        server.listen()
        command = [sys.executable, "-m", "gateway.dataplane", "--control", str(control), "--index", "0"]
        with subprocess.Popen(command) as process:
            try:
                connection, _ = server.accept()
                with connection:
                    connection.settimeout(PATIENCE_S)
                    port = _begin(connection, snapshot)
                    reader = threading.Thread(target=_drain, args=(connection,))
                    reader.start()  # its reports have to go somewhere
                    yield DrivenProxy(process.pid, port)
                    _stop(process)
                    reader.join()
            except TimeoutError:
                raise BenchError("the proxy says nothing") from None
            finally:
                _stop(process)


def _begin(connection: socket.socket, snapshot: Snapshot) -> int:
    """Configures the proxy and publishes; returns the port it listens on."""
    configure = link.Configure(
        host="127.0.0.1", port=0, max_message_bytes=4 << 20, max_streams=128, max_in_flight=4096, max_queue=1024,
        max_shadow_queue=1024, worker_wait_ms=1000, server_name="cutover", server_version="bench",
    )  # fmt: skip
    connection.sendall(link.encode(configure) + link.encode(link.Publish(snapshot)))
    frames = link.Frames()
    while data := connection.recv(1 << 16):
        for body in frames.feed(data):
            match link.from_proxy.decode(body):
                case link.Listening(port):
                    return port
                case link.ProxyFailed(error):
                    raise BenchError(f"the proxy cannot serve: {error}")
    raise BenchError("the proxy ended before it listened")


def _drain(connection: socket.socket) -> None:
    connection.settimeout(None)
    with suppress(OSError):
        while connection.recv(1 << 16):
            pass


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    process.kill()
    process.wait()
