"""A server for conformance tests, in a process of its own: `python -m tests.conformance.service`. Prints its port.

Methods of `/test.Conformance/`: what they do is in their docstrings. SIGTERM drains.

usage: python -m tests.conformance.service [--transport h2|grpcio]
"""

import argparse
import asyncio
import json
import logging
import signal
import socket
import sys

import uvloop

from gateway.errors import Code
from gateway.transport.call import (
    NO_TRAILERS,
    PEER_ADDRESS,
    Call,
    Handler,
    Metadata,
    ReplyOptions,
    Server,
    Stream,
    Streaming,
    Trailers,
)
from gateway.transport.grpcio import server as grpcio
from gateway.transport.h2 import server as h2
from gateway.transport.h2.limits import Limits

LIMITS = Limits(max_message_bytes=100 << 20, max_streams=1024)
UNTOLD = frozenset(("accept-encoding", "content-type", "grpc-accept-encoding", "grpc-encoding", "grpc-timeout", "te"))
"""Metadata that is between client and transport: grpcio keeps most of it to itself."""


class Service:
    """The methods."""

    def __init__(self) -> None:
        self.cancelled = 0
        self.waiting: list[Call] = []

    def resolve(self, path: str) -> Handler | Streaming | None:
        """Finds a method."""
        methods: dict[str, Handler | Streaming] = {
            "Echo": self.echo,
            "Mirror": self.mirror,
            "Fail": self.fail,
            "Wait": self.wait,
            "Cancelled": self.count_cancelled,
            "Waiting": self.count_waiting,
            "Crash": self.crash,
            "Fill": self.fill,
            "Tell": self.tell,
            "Each": Streaming(self.each),
            "Count": Streaming(self.count),
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

    def fill(self, call: Call) -> None:
        """Answers with as many bytes as the request says, all of the value it says: `60000 7`."""
        size, value = map(int, call.message.split())
        call.reply(bytes([value]) * size, NO_TRAILERS)

    def tell(self, call: Call) -> None:
        """Does what `Plan` says in metadata, with the metadata and the message as answer."""
        plan = Plan(call.metadata)
        if plan.code is not Code.OK:
            call.fail(plan.code, plan.text, plan.trailers)
            return
        message = told(call.metadata) + b"\n" + call.message
        call.reply(message, plan.trailers, ReplyOptions(plan.headers, plan.compress))

    def each(self, stream: Stream) -> None:
        """Answers each message with itself; ends as `Plan` says when its caller does, or after `limit` messages."""
        plan, left = Plan(stream.metadata), int(stream.metadata.values.get("limit", "-1"))
        if plan.headers.pairs:
            stream.send_headers(plan.headers)

        def answer(message: bytes) -> None:
            nonlocal left
            left -= 1
            stream.send(message, compress=plan.compress)
            if left == 0:
                plan.end(stream)

        stream.on_message = answer
        stream.on_end = lambda: plan.end(stream)

    def count(self, stream: Stream) -> None:
        """Sends as many messages as metadata `count` says, of `size` bytes each, as fast as they are taken."""
        left, message = int(stream.metadata.values["count"]), bytes(int(stream.metadata.values["size"]))

        def go_on() -> None:
            nonlocal left
            while left:
                left -= 1
                if not stream.send(message):
                    return
            stream.finish()

        stream.on_writable = go_on
        stream.on_end = go_on
        stream.on_cancel = self._lost

    def _lost(self) -> None:
        self.cancelled += 1

    def _left(self, call: Call) -> None:
        self.waiting.remove(call)
        self.cancelled += 1


class Plan:
    """How a call is to end: metadata `plan`, a JSON object; see the tests for its keys."""

    def __init__(self, metadata: Metadata) -> None:
        wanted = json.loads(metadata.values.get("plan", "{}"))
        self.code = Code(wanted.get("code", 0))
        self.text = wanted.get("text", "")
        self.headers = _pairs(wanted.get("headers", []))
        self.trailers = _pairs(wanted.get("trailers", []))
        self.compress = wanted.get("compress", False)

    def end(self, stream: Stream) -> None:
        """Ends a stream so."""
        if self.code is Code.OK:
            stream.finish(self.trailers)
        else:
            stream.fail(self.code, self.text, self.trailers)


def _pairs(pairs: list[tuple[str, str]]) -> Trailers:
    """In JSON binary values are hexadecimal."""
    return Trailers(*[(key, bytes.fromhex(value) if key.endswith("-bin") else value) for key, value in pairs])


def told(metadata: Metadata) -> bytes:
    """What a service knows of a call, but for its clock and its caller's port."""
    values = {key: value for key, value in metadata.values.items() if key not in UNTOLD}
    values[PEER_ADDRESS] = values[PEER_ADDRESS].rpartition(":")[0]  # each connection has its own port
    known = {"path": metadata.path, "values": values, "timeout": metadata.timeout_s is not None}
    return json.dumps(known, sort_keys=True).encode()


async def start(transport: str, service: Service) -> Server:
    """Listens on a port of the kernel's choice."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", 0))
    if transport == "h2":
        return await h2.listen(sock, service, LIMITS)
    return await grpcio.listen(sock, service, LIMITS)


async def serve(transport: str) -> None:
    """Serves until SIGTERM."""
    loop, stop, service = asyncio.get_running_loop(), asyncio.Event(), Service()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.slow_callback_duration = 5.0  # some messages are large, some machines slow
    server = await start(transport, service)
    sys.stdout.write(f"{server.port}\n")
    sys.stdout.flush()
    await stop.wait()
    loop.call_later(0.2, service.release)
    await server.drain(10.0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A server for conformance tests")
    parser.add_argument("--transport", choices=("h2", "grpcio"), default="h2")
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    uvloop.run(serve(parser.parse_args().transport))
