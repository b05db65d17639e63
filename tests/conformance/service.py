"""A server for conformance tests, in a process of its own: `python -m tests.conformance.service`. Prints its port.

Methods of `/test.Conformance/`: what they do is in their docstrings. SIGTERM drains.
"""

import asyncio
import logging
import signal
import socket
import sys

import uvloop

from gateway.errors import Code
from gateway.transport.call import NO_TRAILERS, Call, Handler, Trailers
from gateway.transport.h2.server import Limits, listen


class Service:
    """The methods."""

    def __init__(self) -> None:
        self.cancelled = 0
        self.waiting: list[Call] = []

    def resolve(self, path: str) -> Handler | None:
        """Finds a method."""
        methods: dict[str, Handler] = {
            "Echo": self.echo,
            "Mirror": self.mirror,
            "Fail": self.fail,
            "Wait": self.wait,
            "Cancelled": self.count_cancelled,
            "Waiting": self.count_waiting,
            "Crash": self.crash,
        }
        return methods.get(path.removeprefix("/test.Conformance/"))

    def echo(self, call: Call) -> None:
        """Answers with the request."""
        call.reply(call.message, NO_TRAILERS)

    def mirror(self, call: Call) -> None:
        """Answers a little later, with the metadata whose key begins with `x-` as trailers, and the time left."""
        pairs = [(key, value) for key, value in call.metadata.values.items() if key.startswith("x-")]
        pairs.append(("time-left", str(call.deadline_s - asyncio.get_running_loop().time())))
        asyncio.get_running_loop().call_soon(call.reply, call.message, Trailers(*pairs))

    def fail(self, call: Call) -> None:
        """Fails with the code in metadata `code` and the request as message."""
        call.fail(Code(int(call.metadata.values["code"])), call.message.decode(), Trailers(("x-extra", "kept")))

    def wait(self, call: Call) -> None:
        """Answers when the server drains."""
        self.waiting.append(call)
        call.on_cancel = lambda: self._left(call)

    def release(self) -> None:
        """Answers everyone who waits."""
        for waiting in self.waiting:
            waiting.reply(waiting.message, NO_TRAILERS)
        self.waiting.clear()

    def count_cancelled(self, call: Call) -> None:
        """How many Wait calls were cancelled."""
        call.reply(str(self.cancelled).encode(), NO_TRAILERS)

    def count_waiting(self, call: Call) -> None:
        """How many wait."""
        call.reply(str(len(self.waiting)).encode(), NO_TRAILERS)

    def crash(self, call: Call) -> None:
        """Raises."""
        raise RuntimeError("as ordered")

    def _left(self, call: Call) -> None:
        self.waiting.remove(call)
        self.cancelled += 1


async def serve() -> None:
    """Serves on a port of the kernel's choice until SIGTERM."""
    loop, stop, service = asyncio.get_running_loop(), asyncio.Event(), Service()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    server = await listen(socket.create_server(("127.0.0.1", 0)), service, Limits(max_message_bytes=100 << 20))
    sys.stdout.write(f"{server.port}\n")
    sys.stdout.flush()
    await stop.wait()
    loop.call_later(0.2, service.release)
    await server.drain(10.0)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    uvloop.run(serve())
