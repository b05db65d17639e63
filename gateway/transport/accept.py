"""Accepts connections: counts each from its first moment, reads its PROXY header, ends its TLS, hands it over.

Until a peer has introduced itself, with the first frames of its protocol, it is a stranger. A stranger has its place
among `max_connections` like everyone else, so that nobody escapes the limit by never finishing a handshake. But it
holds the place only while there is room: when there is none, the oldest one leaves it to whoever comes next.
"""

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from gateway.transport import proxy_header
from gateway.transport.arrival import Arrival, Door, Guest
from gateway.transport.peers import socket_address
from gateway.transport.proxy_header import BadProxyHeader
from gateway.transport.seldom import Seldom

logger = logging.getLogger(__name__)

BACKLOG: Final = 1024
AT_ONCE: Final = 64
"""Connections accepted from one socket in one turn of the loop."""
PAUSE_S: Final = 0.2
"""How long nobody is accepted when no more files can be opened."""
STRANGER_S: Final = 1.0
"""A stranger younger than this is not sent away for want of room: it may be on its way through its handshake."""
EXHAUSTED: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
NO_TLS: Final = frozenset(("WRONG_VERSION_NUMBER", "HTTP_REQUEST"))
"""What OpenSSL calls it when the first bytes are none of TLS."""


class Host(Protocol):
    """Who is accepted for."""

    def receive(self, arrival: Arrival) -> Guest:
        """Makes the guest. It is to set `arrival.met` in `connection_made`, and call `Acceptor.left` once when lost."""


class Acceptor:
    """Accepts for one server, on all its sockets."""

    def __init__(
        self, host: Host, max_connections: int, handshake_timeout_s: float, count: Callable[[str], None]
    ) -> None:
        """`count` hears why a connection was refused: `connections`, `files`, `handshake`, `proxy_header` or `tls`."""
        self.max_connections = max_connections
        self.open = 0
        """Connections, strangers included."""
        self.empty = asyncio.Event()
        """Set while there is none."""
        self.empty.set()
        self._host = host
        self._handshake_timeout_s = handshake_timeout_s
        self._count = count
        self._loop = asyncio.get_running_loop()
        self._listening: dict[socket.socket, Door] = {}
        self._paused: dict[socket.socket, asyncio.TimerHandle] = {}
        self._strangers: dict[Arrival, None] = {}
        """In the order they came. Who has introduced itself since is only taken out when room is needed."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._seldom = Seldom()

    def listen(self, sock: socket.socket, door: Door) -> None:
        """Accepts from a bound socket from now on, and owns it. Raises OSError when it cannot listen."""
        sock.setblocking(False)
        sock.listen(BACKLOG)
        self._listening[sock] = door
        self._loop.add_reader(sock, self._turn, sock)

    def stop(self) -> None:
        """Accepts nobody any more but those whom the kernel has accepted already."""
        for sock in [*self._listening]:
            for _ in range(BACKLOG // AT_ONCE + 1):
                if not self._turn(sock):
                    break
            self._pause(sock)
            self._paused.pop(sock).cancel()
            del self._listening[sock]
            sock.close()

    def send_strangers_away(self) -> None:
        """Ends the connections of those who were not handed over yet."""
        for task in [*self._tasks]:
            task.cancel()

    def left(self, arrival: Arrival) -> None:
        """A connection is gone."""
        if arrival.gone:
            return
        arrival.gone = True
        self._strangers.pop(arrival, None)
        self.open -= 1
        if not self.open:
            self.empty.set()

    def _turn(self, sock: socket.socket) -> bool:
        """Accepts some; whether there may be more."""
        door = self._listening[sock]
        for _ in range(AT_ONCE):
            try:
                accepted, name = sock.accept()
            except (BlockingIOError, InterruptedError):
                return False
            except OSError as error:
                if error.errno in EXHAUSTED:
                    self._count("files")
                    self._say("files", f"cannot accept connections: {error.strerror}; raise the limit (ulimit -n)")
                    self._pause(sock)
                    return False
                continue  # that client has left already, or its network failed
            self._admit(accepted, door, name)
        return True

    def _pause(self, sock: socket.socket) -> None:
        if sock not in self._paused:
            self._loop.remove_reader(sock)
            self._paused[sock] = self._loop.call_later(PAUSE_S, self._resume, sock)

    def _resume(self, sock: socket.socket) -> None:
        del self._paused[sock]
        self._loop.add_reader(sock, self._turn, sock)

    def _admit(self, sock: socket.socket, door: Door, name: object) -> None:
        if self.open >= self.max_connections and not self._make_room():
            self._count("connections")
            sock.close()
            return
        sock.setblocking(False)
        arrival = Arrival(door, socket_address(name), self._loop.time())
        self.open += 1
        self.empty.clear()
        self._strangers[arrival] = None
        arrival.task = task = self._loop.create_task(self._welcome(arrival, sock))
        self._tasks.add(task)
        task.add_done_callback(partial(self._welcomed, arrival, sock))

    def _welcomed(self, arrival: Arrival, sock: socket.socket, task: asyncio.Task[None]) -> None:
        """Whatever became of it; a task that is cancelled before its first step would not come to its own `finally`."""
        self._tasks.discard(task)
        arrival.task = None  # it would live as long as the connection
        if arrival.guest is None:
            sock.close()
        if not arrival.met:
            self.left(arrival)

    def _make_room(self) -> bool:
        """Sends the oldest stranger away, if it had its time."""
        while self._strangers:
            arrival = next(iter(self._strangers))
            known = arrival.met and arrival.guest is not None and arrival.guest.greeted
            if not known and self._loop.time() - arrival.accepted_s < STRANGER_S:
                return False
            del self._strangers[arrival]
            if not known:
                self._count("handshake")
                arrival.cut()
                return True
        return False

    async def _welcome(self, arrival: Arrival, sock: socket.socket) -> None:
        """Brings a connection to its guest, or ends it."""
        try:
            await self._hand_over(arrival, sock)
        except (
            TimeoutError,
            ConnectionAbortedError,
        ):  # the latter is how a loop says that a TLS handshake took too long
            self._count("handshake")
        except BadProxyHeader as error:
            self._count("proxy_header")
            self._say("proxy_header", f"{arrival.address} sent no valid PROXY header: {error}")
        except OSError as error:
            if arrival.door.tls is not None:
                self._refuse_tls(arrival, error)
        except Exception:
            logger.exception("cannot serve the connection of %s", arrival.address)

    async def _hand_over(self, arrival: Arrival, sock: socket.socket) -> None:
        door = arrival.door
        if door.proxy_protocol:
            async with asyncio.timeout(self._handshake_timeout_s):
                arrival.address = await self._read_header(sock) or arrival.address

        def receive() -> Guest:
            arrival.guest = guest = self._host.receive(arrival)
            return guest

        if door.tls is None:
            await self._loop.connect_accepted_socket(receive, sock)
        else:
            timeout_s = self._handshake_timeout_s
            await self._loop.connect_accepted_socket(receive, sock, ssl=door.tls(), ssl_handshake_timeout=timeout_s)

    def _refuse_tls(self, arrival: Arrival, error: OSError) -> None:
        """Not everyone who leaves within a handshake is worth a line: port scanners and simple health checks do."""
        self._count("tls")
        if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
            why = "the client does not speak TLS" if error.reason in NO_TLS else error.reason or str(error)
            detail = getattr(error, "verify_message", "")
            self._say(f"tls {why}", f"TLS handshake with {arrival.address} failed: {detail or why}")

    async def _read_header(self, sock: socket.socket) -> str | None:
        """The address in the PROXY header. Reads its bytes and none of those that follow. Raises BadProxyHeader."""
        reading = proxy_header.read()
        wanted = next(reading)
        while True:
            data = await self._receive_exactly(sock, wanted)
            try:
                wanted = reading.send(data)
            except StopIteration as read:
                address: str | None = read.value
                return address

    async def _receive_exactly(self, sock: socket.socket, size: int) -> bytes:
        data = b""
        while len(data) < size:
            try:
                try:
                    piece = sock.recv(size - len(data))
                except (BlockingIOError, InterruptedError):
                    piece = await self._loop.sock_recv(sock, size - len(data))
            except ConnectionError:
                piece = b""
            if not piece:
                raise BadProxyHeader("the connection ended before it was whole")
            data += piece
        return data

    def _say(self, kind: str, text: str) -> None:
        line = self._seldom.line(kind, text, self._loop.time())
        if line:
            logger.warning("%s", line)
