"""A client as users have it: grpcio's asyncio client in a process of its own. Prints how many seconds its calls took.

usage: python -m tests.bench.grpcio_client PORT unary|bidi|many ITEMS IN_FLIGHT < MESSAGE

It connects, makes one call, prints `ready`, waits for a line on stdin after the message (4 bytes length, message), so
that several begin together, and sends ITEMS messages: each a call of its own, IN_FLIGHT at once; on one stream,
IN_FLIGHT ahead of their echoes; or asks for ITEMS replies by one call. Every reply must be equal to its request.
"""

import asyncio
import struct
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

import grpc

from tests.bench.echo import BIDI, COUNT, MANY, UNARY


class Wrong(Exception):
    """A reply that is not its request."""


def _expect(reply: object, message: object) -> None:
    if reply != message:
        raise Wrong(f"unexpected reply {reply!r:.80}")


async def unary(channel: grpc.aio.Channel, message: bytes, items: int, in_flight: int) -> None:
    """One call for each item."""
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(UNARY)
    left = items

    async def caller() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            _expect(await call(message), message)

    await asyncio.gather(*(caller() for _ in range(min(in_flight, items))))


async def bidi(channel: grpc.aio.Channel, message: bytes, items: int, in_flight: int) -> None:
    """One stream."""
    multi: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(BIDI)
    stream = multi()
    for _ in range(min(in_flight, items)):
        await stream.write(message)
    for number in range(items):
        _expect(await stream.read(), message)
        if number + in_flight < items:
            await stream.write(message)
    await stream.done_writing()
    _expect(await stream.read(), grpc.aio.EOF)


async def many(channel: grpc.aio.Channel, message: bytes, items: int, in_flight: int) -> None:
    """One call with many replies."""
    request = COUNT.pack(items) + message[COUNT.size :]
    multi: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(MANY)
    count = 0
    async for reply in multi(request):
        _expect(reply, request)
        count += 1
    if count != items:
        raise Wrong(f"{count} replies instead of {items}")


SHAPES: dict[str, Callable[[grpc.aio.Channel, bytes, int, int], Coroutine[Any, Any, None]]] = {
    "unary": unary,
    "bidi": bidi,
    "many": many,
}


async def main(port: str, shape: str, items: str, in_flight: str) -> None:
    """Runs one shape."""
    source = sys.stdin.buffer
    (size,) = struct.unpack(">L", source.read(4))
    message = source.read(size)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        await unary(channel, message, 1, 1)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        source.readline()
        started_s = time.perf_counter()
        await SHAPES[shape](channel, message, int(items), int(in_flight))
        sys.stdout.write(f"{time.perf_counter() - started_s}\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
