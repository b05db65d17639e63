"""The interop server in a process of its own: `python -m tests.conformance.interop.service --transport h2|grpcio`.

Prints its port; SIGTERM drains. Whether a request came compressed is nothing a service of ours needs to know, so the
contract does not say it; here our own transport is watched while it decompresses. grpcio tells nobody.
"""

import argparse
import asyncio
import logging
import signal
import socket
import sys
from pathlib import Path

import uvloop

from gateway.transport import compression
from gateway.transport.arrival import PLAIN, Door
from gateway.transport.call import Server
from gateway.transport.grpcio import server as grpcio
from gateway.transport.h2 import server as h2
from gateway.transport.h2.limits import Limits
from gateway.transport.tls import TlsFiles, load
from tests.conformance.interop.methods import TestService

SLOW_S = 60.0
"""With `-X dev` asyncio complains about callbacks that take longer; a busy machine is nothing to complain about."""


class Witness:
    """Remembers the message that was decompressed last: the one being handed over, if it came compressed."""

    def __init__(self) -> None:
        self._last: bytes | None = None
        self._decompress = compression.decompress
        compression.decompress = self._watched

    def was_compressed(self, message: bytes) -> bool:
        """Of the message just handed over."""
        return message is self._last

    def _watched(self, encoding: str, data: bytes | memoryview, max_bytes: int) -> bytes:
        self._last = self._decompress(encoding, data, max_bytes)
        return self._last


async def open_server(transport: str, tls: TlsFiles | None) -> Server:
    """Listens on a port of the kernel's choice."""
    sock = socket.create_server(("127.0.0.1", 0), reuse_port=True)
    if transport == "h2":
        context = load(tls).context if tls else None
        door = Door(tls=lambda: context) if context else PLAIN
        return await h2.listen(sock, TestService(Witness().was_compressed), Limits(), door)
    return await grpcio.listen(sock, TestService(lambda _: None), Limits())


async def serve(transport: str, tls: TlsFiles | None) -> None:
    """Serves until SIGTERM."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.slow_callback_duration = SLOW_S
    server = await open_server(transport, tls)
    sys.stdout.write(f"{server.port}\n")
    sys.stdout.flush()
    await stop.wait()
    await server.drain(10.0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A server for the interop test cases of gRPC")
    parser.add_argument("--transport", choices=("h2", "grpcio"), default="h2")
    parser.add_argument("--certificate", type=Path, help="for TLS, with --key; of our own transport only")
    parser.add_argument("--key", type=Path)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    asked = parser.parse_args()
    if asked.certificate and asked.transport != "h2":
        parser.error("--certificate goes with --transport h2")
    uvloop.run(serve(asked.transport, TlsFiles(asked.certificate, asked.key) if asked.certificate else None))
