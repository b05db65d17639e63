"""A TCP connection that a test can cut, or make silent: what lies between a program and a server on loopback."""

import asyncio
from contextlib import suppress
from typing import Self

HOST = "127.0.0.1"
CHUNK_BYTES = 1 << 16


class Wire:
    """Passes bytes on between whoever connects to `port` and a server; for use in `async with`."""

    def __init__(self, server_port: int) -> None:
        self.port = 0
        self._server_port = server_port
        self._there = asyncio.Event()
        self._back = asyncio.Event()
        self._refuses = False
        self._ways: set[asyncio.Task[None]] = set()
        self._ends: set[asyncio.StreamWriter] = set()
        self._listener: asyncio.Server | None = None
        self.restore()

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._connected, HOST, self.port)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._listener is not None:
            self._listener.close()
        self.restore()
        self.cut()
        if self._ways:
            await asyncio.wait(self._ways)

    def silence(self, *, answers_only: bool = False) -> None:
        """From here on nothing gets through, or nothing from the server, and nobody is told: a cable pulled out."""
        self._back.clear()
        if not answers_only:
            self._there.clear()

    def restore(self) -> None:
        """Passes on what waited, and lets connections in again."""
        self._refuses = False
        self._there.set()
        self._back.set()

    def cut(self, *, refuse: bool = False) -> None:
        """Resets every connection; with `refuse`, new ones, too, until `restore`."""
        self._refuses = refuse
        for end in tuple(self._ends):
            end.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            writer.transport.abort()
            return
        try:
            there_reader, there = await asyncio.open_connection(HOST, self._server_port)
        except OSError:
            writer.transport.abort()
            return
        for source, sink, passes in ((reader, there, self._there), (there_reader, writer, self._back)):
            self._ends.add(sink)
            way = asyncio.get_running_loop().create_task(self._pass(source, sink, passes))
            self._ways.add(way)
            way.add_done_callback(self._ways.discard)

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, passes: asyncio.Event) -> None:
        with suppress(OSError):
            while data := await source.read(CHUNK_BYTES):
                await passes.wait()
                sink.write(data)
                await sink.drain()
        self._ends.discard(sink)
        sink.close()
        with suppress(OSError):
            await sink.wait_closed()
