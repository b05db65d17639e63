"""A server to attack, in a process of its own: `python -m tests.integration.flood_server '{"limit": value}'`.

Prints its port. `/test/Echo` answers at once; `/test/Work` works for 200 ms whether or not the caller is still there;
`/test/Large` answers with as many KiB as the request has bytes; `/test/State` says in JSON how it is.
Streams: `/test/Chat` echoes, `/test/Deaf` wants no messages, `/test/Watch` may idle, `/test/Pour` sends without end.
"""

import asyncio
import json
import signal
import socket
import sys
from pathlib import Path

import uvloop

from gateway.transport.call import NO_TRAILERS, Call, Handler, Stream, Streaming
from gateway.transport.h2.server import H2Server, Limits, listen

WORK_S = 0.2
PIECE = bytes(16 << 10)


class Service:
    """The methods."""

    def __init__(self) -> None:
        self.server: H2Server
        self.running = 0
        self.most_running = 0
        self.refusals: dict[str, int] = {}

    def resolve(self, path: str) -> Handler | Streaming | None:
        """Finds a method."""
        methods: dict[str, Handler | Streaming] = {
            "Echo": self.echo,
            "Work": self.work,
            "Large": self.large,
            "State": self.state,
            "Chat": Streaming(chat),
            "Deaf": Streaming(deaf),
            "Watch": Streaming(deaf, may_idle=True),
            "Pour": Streaming(pour),
        }
        return methods.get(path.removeprefix("/test/"))

    def echo(self, call: Call) -> None:
        """Answers with the request."""
        call.reply(call.message, NO_TRAILERS)

    def work(self, call: Call) -> None:
        """Is busy for a while, as a worker is that cannot be interrupted."""
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        asyncio.get_running_loop().call_later(WORK_S, self._worked, call)

    def large(self, call: Call) -> None:
        """Answers with much, in memory of its own."""
        call.reply(b"x" * (len(call.message) << 10), NO_TRAILERS)

    def state(self, call: Call) -> None:
        """What the attacks did since the last time; the peak of memory begins anew."""
        for reason, count in self.server.take_refusals().items():
            self.refusals[reason] = self.refusals.get(reason, 0) + count
        facts = {
            "most_running": self.most_running,
            "running": self.running,
            "connections": self.server.connections,
            "refusals": self.refusals,
            "held_bytes": self.server.held_bytes,
            "memory_kib": _memory_kib("VmRSS"),
            "peak_kib": _memory_kib("VmHWM"),
        }
        if call.message == b"begin":
            self.most_running, self.refusals = self.running, {}
            Path("/proc/self/clear_refs").write_text("5")
        call.reply(json.dumps(facts).encode(), NO_TRAILERS)

    def _worked(self, call: Call) -> None:
        self.running -= 1
        call.reply(b"", NO_TRAILERS)


def chat(stream: Stream) -> None:
    """Echoes every message, as fast as the caller reads."""

    def answer(message: bytes) -> None:
        if not stream.send(message):
            stream.pause()

    stream.on_message = answer
    stream.on_writable = stream.resume
    stream.on_end = stream.finish
    stream.on_cancel = _nothing


def deaf(stream: Stream) -> None:
    """Takes no message."""
    stream.pause()
    stream.on_cancel = _nothing


def pour(stream: Stream) -> None:
    """Sends as much as the caller takes."""

    def more() -> None:
        while not stream.closed and stream.send(PIECE):
            pass

    stream.on_writable = more
    stream.on_cancel = _nothing
    more()


def _nothing() -> None:
    """Nobody works on it any more."""


def _memory_kib(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


async def serve(limits: Limits) -> None:
    """Serves on a port of the kernel's choice until SIGTERM."""
    loop, stop, service = asyncio.get_running_loop(), asyncio.Event(), Service()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    service.server = await listen(socket.create_server(("127.0.0.1", 0)), service, limits)
    sys.stdout.write(f"{service.server.port}\n")
    sys.stdout.flush()
    await stop.wait()
    service.server.close()


if __name__ == "__main__":
    uvloop.run(serve(Limits(**json.loads(sys.argv[1]))))
