"""The worker's loop: one thread, one frame at a time, any number of proxies, none of whom can make another wait.

A proxy that stops half-way through a frame or does not take its answer keeps only its own connection from being served;
one with large batches gets no more of the time than one with small ones.

Before every run the loop looks once at what has arrived, so that a frame that was cancelled meanwhile is not run.
"""

import contextlib
import os
import select
import signal
import socket
from pathlib import Path
from time import monotonic, perf_counter
from types import FrameType
from typing import Final

from workers.connection import Connection
from workers.errors import BadFrame
from workers.service import Service, begun
from workers.turns import Turns
from workers.wire import ALIVE, FLAGS_AT, HEADER, TELL

MAX_CONNECTIONS: Final = 256
FLUSH_S: Final = 2.0
"""How long an answered frame may take to leave after SIGTERM."""
ALIVE_EVERY_S: Final = 0.1
"""Who waits, or is about to be served, hears at most so often that the worker is at work, always before a run."""
ORPHAN_CHECK_S: Final = 10.0
"""A worker whose control process died serves its proxies on; without any for this long it ends."""


def listen(path: Path) -> socket.socket:
    """A listening Unix socket only this user can connect to. Raises OSError."""
    if path.is_socket():  # left behind by a killed process
        path.unlink()
    listener = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(mask)
    listener.listen(MAX_CONNECTIONS)
    listener.setblocking(False)
    return listener


def complain(line: str) -> None:
    """One line on stderr, which may be closed."""
    with contextlib.suppress(OSError):
        os.write(2, f"worker {os.getpid()}: {line}\n".encode(errors="replace"))


class Loop:
    """Serves frames until it is stopped."""

    def __init__(self, service: Service, listener: socket.socket, status_fd: int) -> None:
        self._service = service
        self._listener = listener
        self._status_fd = status_fd
        self._parent = os.getppid()
        self._orphan = False
        self._stopping = False
        self._connections: dict[int, Connection] = {}
        self._turns: Turns[Connection] = Turns()
        self._told_s = 0.0
        """When that was said (perf_counter)."""
        self._epoll = select.epoll()
        self._epoll.register(listener.fileno(), select.EPOLLIN)
        self._wake_fd, self._stop_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._epoll.register(self._wake_fd, select.EPOLLIN)
        self._watch_status()

    def catch_sigterm(self) -> None:
        """Makes SIGTERM stop the loop. Only for the main thread."""
        # The C-level handler writes to the pipe, so that a signal just before the wait ends it, too.
        signal.set_wakeup_fd(self._stop_fd, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._on_sigterm)

    def _on_sigterm(self, _signal: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def stop(self) -> None:
        """Makes `run` return, from any thread; it may be doing so already."""
        self._stopping = True
        with contextlib.suppress(OSError):
            os.write(self._stop_fd, b"!")

    def run(self) -> None:
        """Returns once stopped, when the frame being run has been answered, or when nobody is left to serve."""
        poll, waiting = self._epoll.poll, self._turns.waiting
        while not self._stopping:
            events = poll(0 if waiting else self._idle_timeout_s())
            for fd, event in events:
                self._handle(fd, event)
            if waiting:
                self._serve(self._turns.take())
            elif not events and self._abandoned():
                break
        self._close()

    def _serve(self, connection: Connection) -> None:
        """Answers one frame."""
        if self._connections.get(connection.fd) is not connection:
            return
        try:
            span = connection.frame()
            if span is None:
                return
            buffer = connection.buffer
            if buffer[span[0] + FLAGS_AT] & TELL:
                connection.send(begun(buffer, span[0]))  # that a proxy is gone shows with the answer
            started_s = perf_counter()
            if started_s - self._told_s > ALIVE_EVERY_S:
                self._told_s = started_s
                self._tell_who_waits(connection)
            pieces = self._service.answer(buffer, *span, connection.slots)
            connection.used_s += perf_counter() - started_s
            if not connection.send(pieces):
                self._drop(connection)
            elif not self._await_room(connection) and connection.has_frame():
                self._turns.enter(connection)
        except BadFrame as error:
            self._reject(connection, error)

    def _await_room(self, connection: Connection) -> bool:
        """Whether the peer is to take something first; then nothing is read from it meanwhile."""
        if not connection.draining:
            return False
        self._epoll.modify(connection.fd, select.EPOLLOUT)
        return True

    def _tell_who_waits(self, served: Connection) -> None:
        """Their proxies would take the worker for hung, after long runs for others; so would that of the one served."""
        for connection in self._connections.values():
            if (connection is served or connection.waits) and not connection.draining:
                connection.send([HEADER.pack(0, 0, ALIVE, 0, 0, 0)])  # that a proxy is gone shows with the answer
                self._await_room(connection)

    def _handle(self, fd: int, event: int) -> None:
        connection = self._connections.get(fd)
        if connection is None:
            self._handle_other(fd)
        elif event & (select.EPOLLHUP | select.EPOLLERR):
            self._drop(connection)
        elif event & select.EPOLLOUT:
            self._flush(connection)
        else:
            try:
                if not connection.receive():
                    self._drop(connection)
                elif connection.has_frame():
                    self._turns.enter(connection)
            except BadFrame as error:
                self._reject(connection, error)

    def _flush(self, connection: Connection) -> None:
        if not connection.flush():
            self._drop(connection)
        elif not connection.draining:
            self._epoll.modify(connection.fd, select.EPOLLIN)
            try:
                if connection.has_frame():
                    self._turns.enter(connection)
            except BadFrame as error:
                self._reject(connection, error)

    def _handle_other(self, fd: int) -> None:
        if fd == self._listener.fileno():
            self._accept()
        elif fd == self._wake_fd:
            os.read(fd, 64)
        elif fd == self._status_fd:  # its reader is gone; the proxies may still be there
            self._orphan = True
            self._epoll.unregister(fd)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:  # the caller left meanwhile
            return
        if len(self._connections) >= MAX_CONNECTIONS:
            complain(f"more than {MAX_CONNECTIONS} connections; the newest is closed")
            sock.close()
            return
        connection = Connection(sock)
        self._connections[connection.fd] = connection
        self._epoll.register(connection.fd, select.EPOLLIN)

    def _reject(self, connection: Connection, error: BadFrame) -> None:
        complain(f"connection closed: {error}")
        self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        del self._connections[connection.fd]
        self._epoll.unregister(connection.fd)
        connection.close()

    def _idle_timeout_s(self) -> float:
        return ORPHAN_CHECK_S if self._orphan and not self._connections else -1

    def _abandoned(self) -> bool:
        """After a quiet idle timeout: whether the control process is dead, not only its pipe, and no proxy is left."""
        return self._orphan and not self._connections and os.getppid() != self._parent

    def _watch_status(self) -> None:
        try:
            self._epoll.register(self._status_fd, select.EPOLLERR)
        except OSError:  # a file, or closed already: then the parent's life tells
            self._orphan = True

    def _close(self) -> None:
        """Lets answers leave, for a while, and closes everything."""
        self._listener.close()
        deadline_s = monotonic() + FLUSH_S
        while waiting := [connection for connection in self._connections.values() if connection.draining]:
            poller = select.poll()
            for connection in waiting:
                poller.register(connection.fd, select.POLLOUT)
            left_s = deadline_s - monotonic()
            if left_s <= 0:
                break
            poller.poll(left_s * 1000)
            for connection in waiting:
                if not connection.flush():
                    self._drop(connection)
        for connection in list(self._connections.values()):
            self._drop(connection)
        self._epoll.close()
        if signal.getsignal(signal.SIGTERM) == self._on_sigterm:
            signal.set_wakeup_fd(-1)
        os.close(self._wake_fd)
        os.close(self._stop_fd)
