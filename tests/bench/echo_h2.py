"""The transport alone: answers every unary gRPC call with its own request. `python -m tests.bench.echo_h2 PORT`."""

import asyncio
import gc
import signal
import socket
import sys

import uvloop

from gateway.transport.call import NO_TRAILERS, Call, Handler
from gateway.transport.h2.server import Limits, listen


def echo(call: Call) -> None:
    """The request is the reply."""
    call.reply(call.message, NO_TRAILERS)


class EchoService:
    """Every path is an echo."""

    def resolve(self, path: str) -> Handler | None:
        """`echo`, whatever the path."""
        return echo


async def serve(port: int) -> None:
    """Serves until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    sock = socket.create_server(("127.0.0.1", port))
    server = await listen(sock, EchoService(), Limits())
    sys.stdout.write(f"{server.port}\n")
    sys.stdout.flush()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    await stop.wait()
    await server.drain(1.0)


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
