"""A stand-in for what grpcio hands to a handler."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from gateway.transport.grpcio.rpc import Caller, Rpc
from gateway.transport.h2.limits import Counters, Limits


class Context:
    """The messages of a caller, and what it was sent. `hold` makes `write` wait, as when the caller does not read."""

    def __init__(self, *messages: bytes, ended: bool = True) -> None:
        self.inbox: asyncio.Queue[Any] = asyncio.Queue()
        for message in messages:
            self.inbox.put_nowait(message)
        if ended:
            self.end()
        self.sent: list[object] = []
        self.code: grpc.StatusCode | None = None
        self.details = ""
        self.trailers: object = ()
        self.gone = False
        self.room = asyncio.Event()
        self.room.set()

    def end(self) -> None:
        """The caller sends no more."""
        self.inbox.put_nowait(grpc.aio.EOF)

    async def read(self) -> Any:
        return await self.inbox.get()

    async def write(self, message: bytes) -> None:
        await self.room.wait()
        if self.gone:
            raise grpc.aio.InternalError("gone")
        self.sent.append(message)

    async def send_initial_metadata(self, metadata: object) -> None:
        if self.gone:
            raise grpc.aio.InternalError("gone")
        self.sent.append(metadata)

    def disable_next_message_compression(self) -> None:
        self.sent.append("plain")

    def set_code(self, code: grpc.StatusCode) -> None:
        self.code = code

    def set_details(self, details: str) -> None:
        self.details = details

    def set_trailing_metadata(self, metadata: object) -> None:
        self.trailers = metadata


def rpc(context: Context, limits: Limits | None = None) -> Rpc:
    return Rpc(context, Caller(), limits or Limits(), Counters())  # type: ignore[arg-type] # all of it that is used


async def until(holds: Callable[[], object]) -> None:
    """Lets other tasks run until something is true."""
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - for whatever tasks do, in the fewest turns
            await asyncio.sleep(0)
