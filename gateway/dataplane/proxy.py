"""A proxy process: one link to the control process, one transport, one plane.

It serves from its last snapshot whatever happens to the control process, and exits when told to drain.
"""

import asyncio
import contextlib
import fcntl
import gc
import os
import resource
import signal
import socket
from collections.abc import Callable
from time import monotonic
from typing import Final

import msgspec

from gateway.dataplane.entrance import credentials, port_door, socket_door
from gateway.dataplane.errands import Errands
from gateway.dataplane.plane import Plane, Settings
from gateway.dataplane.service import About, DataService
from gateway.oip.reserved import SHARED_MEMORY
from gateway.routing import link
from gateway.routing.outcome import Report
from gateway.routing.snapshot import Snapshot
from gateway.routing.update import Update, updated
from gateway.transport.call import Server
from gateway.transport.h2.memory import HIGH_SHARE
from gateway.transport.h2.server import Limits, listen
from gateway.transport.peers import Trusted
from gateway.transport.tls import Credentials

MANY_FILES: Final = 1 << 16
"""More need not be open at once for a file number to count as high; the kernel's table grows with the number."""
ROOM_FOR_OTHERS: Final = 16
REPORT_EVERY_S: Final = 1.0
SWEEP_EVERY_S: Final = 0.1
ORPHAN_GRACE_MS: Final = 20_000
"""For a drain that no control process gave: SIGTERM to the proxy itself."""


class Proxy:
    """Runs until drained. `run` returns the exit code."""

    def __init__(self, control: str, index: int, on_orphaned: Callable[[], None] = lambda: None) -> None:
        """`on_orphaned()` is called when the control process is gone; the proxy serves its last snapshot then."""
        self._on_orphaned = on_orphaned
        self._control = control
        self._index = index
        self._loop = asyncio.get_running_loop()
        self._drain: asyncio.Future[int] = self._loop.create_future()
        self._plane: Plane | None = None
        self._service: DataService | None = None
        self._errands = Errands(self._send)
        self._answering: set[asyncio.Task[None]] = set()
        self._server: Server | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._credentials: Credentials | None = None
        self._watching: asyncio.Task[None] | None = None
        self.client_socket: socket.socket | None = None
        """Listens for clients, too, for all proxies together."""

    async def run(self, pid: int) -> int:
        """Serves until the control process says Drain or SIGTERM comes."""
        self._loop.add_signal_handler(signal.SIGTERM, self._begin_drain, ORPHAN_GRACE_MS)
        reader, self._writer = await asyncio.open_unix_connection(self._control)
        self._send(link.Hello(self._index, pid))
        follow = self._loop.create_task(self._follow(reader))
        try:
            waiting: set[asyncio.Future[object]] = {follow, self._drain}  # type: ignore[arg-type] # results are unused
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if follow.done() and (error := follow.exception()) is not None:
                self._send(link.ProxyFailed(f"{error}"))
                await self._flush()
                raise error
            if follow.done() and self._server is None:
                return 1  # turned away, or the control process died: nobody is served and nobody ever would be
            grace_ms = await self._drain  # the link may end before: go on serving
            await self._finish(grace_ms)
        finally:
            follow.cancel()
            for task in (self._watching, *self._answering):
                if task is not None:
                    task.cancel()
        return 0

    async def _follow(self, reader: asyncio.StreamReader) -> None:
        frames = link.Frames()
        while data := await _read(reader):
            for body in frames.feed(data):
                await self._take(link.from_control.decode(body))
        self._errands.gone()
        if not self._drain.done():
            self._on_orphaned()

    async def _take(self, message: link.FromControl) -> None:
        match message:
            case link.Configure():
                self._configuration = message
                settings = Settings(
                    max_in_flight=message.max_in_flight,
                    max_queue=message.max_queue,
                    max_shadow_queue=message.max_shadow_queue,
                    worker_wait_s=message.worker_wait_ms / 1000,
                    worker_timeout_s=message.worker_timeout_ms / 1000,
                    shared_tensors_above_bytes=message.shared_tensors_above_bytes,
                    shared_memory=SHARED_MEMORY in message.extensions,
                )
                self._plane = Plane(settings, self._loop, lambda address: self._send(link.Hung(address)))
                about = About(message.server_name, message.server_version, message.extensions)
                self._service = DataService(self._plane, self._errands, about, self._loop, reflect=message.reflection)
            case link.Publish(snapshot):
                self._apply(snapshot)
                if self._server is None:
                    await self._listen()
            case link.ErrandDone():
                self._errands.done(message)
            case link.Survey(number):
                answering = self._loop.create_task(self._answer_survey(number))  # a Publish must not wait for it
                self._answering.add(answering)
                answering.add_done_callback(self._answering.discard)
            case link.Tracing():
                assert self._plane is not None  # noqa: S101 - Configure always comes first
                self._plane.trace(message)
            case link.Lease(until_s):
                assert self._plane is not None  # noqa: S101 - Configure always comes first
                self._plane.lease(until_s)
            case Update():
                assert self._plane is not None  # noqa: S101 - Configure always comes first
                self._apply(updated(self._plane.snapshot, message))
            case link.Drain(grace_ms):
                self._begin_drain(grace_ms)

    def _apply(self, snapshot: Snapshot) -> None:
        assert self._plane is not None  # noqa: S101 - Configure always comes first
        self._plane.apply(snapshot)
        self._send(link.Applied(snapshot.epoch))

    async def _answer_survey(self, number: int) -> None:
        if self._plane is not None and self._server is not None:
            await self._plane.until_connected()
            self._send(msgspec.structs.replace(self._told(self._plane, self._server), answers=number))

    async def _listen(self) -> None:
        assert self._service is not None  # noqa: S101 - Configure always comes first
        settings = self._configuration
        entrance = settings.entrance
        self._credentials = credentials(entrance)
        self._server = await self._open(self._service, self._credentials)
        if self._credentials is not None:
            self._watching = self._loop.create_task(self._credentials.watch(entrance.reload_s))
        self._send(link.Listening(self._server.port))
        gc.collect()
        gc.freeze()  # what is alive now stays; the collector need not look at it again
        gc.set_threshold(100_000, 50, 100)
        self._sweep()
        self._report()

    async def _open(self, service: DataService, known: Credentials | None) -> Server:
        """Listens by the transport that was chosen."""
        settings, entrance = self._configuration, self._configuration.entrance
        sock, limits = bound(settings.host, settings.port), transport_limits(settings)
        if entrance.transport == "grpcio":
            # Strangers must not fill the log; whoever looks for a fault sets it otherwise. grpcio reads it once.
            os.environ.setdefault("GRPC_VERBOSITY", "NONE")
            from gateway.transport.grpcio import server as grpcio  # large: only for who wants it

            return await grpcio.listen(sock, service, limits, known, Trusted.parse(entrance.trusted_proxies))
        server = await listen(sock, service, limits, port_door(entrance, known))
        if self.client_socket is not None:
            server.listen(self.client_socket, socket_door(entrance))
        return server

    def _sweep(self) -> None:
        assert self._plane is not None  # noqa: S101 - started by _listen
        self._plane.sweep()
        self._errands.sweep(monotonic())
        self._loop.call_later(SWEEP_EVERY_S, self._sweep)

    def _report(self) -> None:
        assert self._plane is not None  # noqa: S101 - started by _listen
        assert self._server is not None  # noqa: S101 - likewise
        self._send(self._told(self._plane, self._server))
        self._loop.call_later(REPORT_EVERY_S, self._report)

    def _told(self, plane: Plane, server: Server) -> Report:
        """What has happened since the last report."""
        report = plane.report(server.connections, server.take_refusals(), server.held_bytes)
        if self._credentials is None:
            return report
        known = self._credentials
        return msgspec.structs.replace(report, tls_not_after_s=known.not_after_s, tls_reloads=known.take_reloads())

    def _send(self, message: link.FromProxy) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(link.encode(message))

    async def _flush(self) -> None:
        if self._writer is not None and not self._writer.is_closing():
            await self._writer.drain()

    def _begin_drain(self, grace_ms: int) -> None:
        if not self._drain.done():
            self._drain.set_result(grace_ms)

    async def _finish(self, grace_ms: int) -> None:
        if self._service is not None:
            self._service.drain()
        if self._server is not None and self._plane is not None:
            await self._server.drain(grace_ms / 1000)
            self._send(self._told(self._plane, self._server))
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(ConnectionError):
                await self._writer.wait_closed()


async def _read(reader: asyncio.StreamReader) -> bytes:
    """What comes next from the control process; nothing when it is gone, be it with words of ours unread."""
    with contextlib.suppress(ConnectionError):
        return await reader.read(1 << 18)
    return b""


def transport_limits(settings: link.Configure) -> Limits:
    """What the proxy was told, as limits of its transport; the others keep their defaults."""
    return Limits(
        max_connections=settings.max_connections,
        # A larger one could never fit: better said at its prefix, with the number, than as "try again later".
        max_message_bytes=min(settings.max_message_bytes, int(settings.peers.max_buffered_bytes * HIGH_SHARE)),
        max_streams=settings.max_streams,
        max_header_list_bytes=settings.max_header_bytes,
        max_header_block_bytes=max(Limits().max_header_block_bytes, settings.max_header_bytes),
        upload_timeout_s=settings.upload_timeout_ms / 1000,
        write_timeout_s=settings.write_timeout_ms / 1000,
        idle_timeout_s=settings.idle_timeout_ms / 1000,
        **msgspec.structs.asdict(settings.peers),
    )


def bound(host: str, port: int) -> socket.socket:
    """A TCP socket that shares its port with the other proxies (SO_REUSEPORT)."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    sock = _first_to_close(sock)
    sock.setblocking(False)
    return sock


def _first_to_close(sock: socket.socket) -> socket.socket:
    """The socket under a file number above those of connections, if there is one.

    When a process is killed, Linux closes its files from the highest number down. A client that comes back the moment
    its connection breaks would else be given to the dying process once more, be reset, and wait a second.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = MANY_FILES if files == resource.RLIM_INFINITY else min(files, MANY_FILES)
    try:
        number = fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, highest - ROOM_FOR_OTHERS)
    except OSError:
        return sock
    sock.close()
    return socket.socket(fileno=number)
