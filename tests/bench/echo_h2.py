"""The transport alone: answers every gRPC call with its own request. Prints its port.

usage: python -m tests.bench.echo_h2 PORT [CERTIFICATE KEY]     port 0: any; PEM files: serves TLS
"""

import asyncio
import gc
import signal
import socket
import sys
from pathlib import Path

import uvloop

from gateway.transport.arrival import PLAIN, Door
from gateway.transport.call import NO_TRAILERS, Call, Handler, Stream, Streaming
from gateway.transport.h2.server import Limits, listen
from gateway.transport.tls import TlsFiles, load
from tests.bench.echo import BIDI, COUNT, MANY


def echo(call: Call) -> None:
    """The request is the reply."""
    call.reply(call.message, NO_TRAILERS)


def echo_each(stream: Stream) -> None:
    """Each message comes back, as fast as the caller reads."""

    def give_back(message: bytes) -> None:
        if not stream.send(message):
            stream.pause()

    stream.on_message = give_back
    stream.on_end = stream.finish
    stream.on_writable = stream.resume


def echo_many(stream: Stream) -> None:
    """The one message comes back as often as it says."""

    def start(message: bytes) -> None:
        left = COUNT.unpack_from(message)[0]

        def go_on() -> None:
            nonlocal left
            while left and not stream.closed:
                left -= 1
                if not stream.send(message):
                    return
            stream.finish()

        stream.on_writable = go_on
        go_on()

    stream.on_message = start


class EchoService:
    """Every path is an echo."""

    def resolve(self, path: str) -> Handler | Streaming | None:
        """By the last part of the path; unary unless known."""
        if path == BIDI:
            return Streaming(echo_each)
        return Streaming(echo_many) if path == MANY else echo


def _door(files: list[str]) -> Door:
    if not files:
        return PLAIN
    certificate, key = map(Path, files)
    context = load(TlsFiles(certificate, key)).context
    return Door(lambda: context)


async def serve(port: int, files: list[str]) -> None:
    """Serves until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    sock = socket.create_server(("127.0.0.1", port))
    server = await listen(sock, EchoService(), Limits(), _door(files))
    sys.stdout.write(f"{server.port}\n")
    sys.stdout.flush()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    await stop.wait()
    await server.drain(1.0)


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2:]))
