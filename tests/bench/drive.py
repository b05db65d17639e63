"""Sends scripts to a server over sockets and waits for all answers. One thread, blocking sends of a few kilobytes."""

import select
import socket
import struct
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.bench.load import BenchError
from tests.bench.raw_client import Script, greeting
from tests.bench.replies import Replies

PATIENCE_S = 30
"""A server that sends nothing for so long is taken for dead."""
READ_BYTES = 1 << 18


@dataclass(frozen=True)
class Driven:
    """What a run took. client_s: CPU time of this process, which must not be what limits the server."""

    items: int
    duration_s: float
    client_s: float


class Wire:
    """One connection and its script, of which the first `limit` items are sent."""

    def __init__(self, port: int, script: Script | None = None, limit: int = 0) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A timeout of Python's would cost a system call before each read and write; the kernel's costs none.
        self.sock.setblocking(True)
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self.sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", PATIENCE_S, 0))
        self.replies = Replies()
        self._script = script
        self._bytes = memoryview(script.blob if script else b"")
        self._limit = limit
        self._sent = 0
        self._answered = 0
        self._owed = 0
        """Items that may be sent as far as the number in flight goes, but not as far as windows go."""
        self.sock.sendall(greeting())
        while not self.replies.greeted:
            self.read()

    @property
    def left(self) -> int:
        """Items not sent yet."""
        return self._limit - self._sent

    @property
    def settled(self) -> bool:
        """Every item was answered, and the stream ended, if it is one."""
        if self._script is None or self._answered < self._limit:
            return self._script is None
        return self.replies.ended >= (1 if self._script.streamed else self._limit)

    def send(self, count: int) -> None:
        """Sends up to `count` more items in one write; those for which windows have no room follow later."""
        script, replies = self._script, self.replies
        if script is None:
            return
        start, wanted = self._sent, min(count + self._owed, self.left)
        count = min(wanted, replies.window_bytes // script.item_bytes)
        if script.streamed:
            room = replies.stream_window_bytes + replies.stream_credit_bytes - start * script.item_bytes
            count = min(count, room // script.item_bytes)
        self._owed = wanted - count
        if count <= 0:
            return
        replies.window_bytes -= count * script.item_bytes
        self._sent = start + count
        self.sock.sendall(self._bytes[script.ends[start - 1] if start else 0 : script.ends[self._sent - 1]])
        if self._sent == self._limit and script.tail:
            self.sock.sendall(script.tail)

    def read(self) -> int:
        """Reads what is there; how many items were answered by it."""
        try:
            data = self.sock.recv(READ_BYTES)
        except BlockingIOError:
            raise BenchError(f"the server sent nothing for {PATIENCE_S} s") from None
        if not data:
            raise BenchError("the server closed the connection")
        replies = self.replies
        replies.feed(data)
        if replies.control:
            self.sock.sendall(replies.control)
            replies.control.clear()
        script = self._script
        if script is None:
            return 0
        before = self._answered
        self._answered = replies.data_bytes // script.answer_bytes if script.streamed else replies.ended
        if self._owed:
            self.send(0)
        return self._answered - before

    def check(self) -> None:
        """Raises BenchError unless the answers had exactly the bytes they ought to have."""
        expected_bytes = self._limit * self._script.answer_bytes if self._script else 0
        if self.replies.data_bytes != expected_bytes:
            raise BenchError(f"{self.replies.data_bytes} data bytes instead of {expected_bytes}: some were not answers")


@contextmanager
def wires(port: int, scripts: Sequence[Script | None], limit: int = 0) -> Iterator[list[Wire]]:
    """Open connections that have exchanged SETTINGS, closed at the end of the block."""
    with ExitStack() as stack:
        opened = []
        for script in scripts:
            opened.append(wire := Wire(port, script, limit))
            stack.callback(wire.sock.close)
        yield opened


def drive(port: int, scripts: Sequence[Script], limit: int, in_flight: int) -> Driven:
    """Sends the first `limit` items of each script, keeping `in_flight` in flight on all connections together.

    With as many connections as may be in flight or fewer, each keeps its share; with more, they take turns.
    """
    with wires(port, scripts, limit) as opened:
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        if len(opened) <= in_flight:
            _each_its_share(opened, in_flight // len(opened))
        else:
            _in_turns(opened, in_flight)
        duration_s, cpu_s = time.perf_counter() - started_s, time.process_time() - started_cpu_s
        for wire in opened:
            wire.check()
    return Driven(limit * len(scripts), duration_s, cpu_s)


def _each_its_share(opened: list[Wire], share: int) -> None:
    for wire in opened:
        wire.send(share)
    for wire in _readable(opened):
        answered = wire.read()
        if answered:
            wire.send(answered)


def _in_turns(opened: list[Wire], in_flight: int) -> None:
    turns = deque(opened)
    for _ in range(in_flight):
        _next_turn(turns)
    for wire in _readable(opened):
        for _ in range(wire.read()):
            _next_turn(turns)


def _next_turn(turns: deque[Wire]) -> None:
    """One item on the connection that waited longest."""
    if turns:
        wire = turns.popleft()
        wire.send(1)
        if wire.left:
            turns.append(wire)


def _readable(opened: list[Wire]) -> Iterator[Wire]:
    """Connections with something to read, again and again until all are settled."""
    by_descriptor = {wire.sock.fileno(): wire for wire in opened}
    with select.epoll() as poll:
        for descriptor in by_descriptor:
            poll.register(descriptor, select.EPOLLIN)
        unsettled = len(opened)
        while unsettled:
            events = poll.poll(PATIENCE_S)
            if not events:
                raise BenchError(f"the server sent nothing for {PATIENCE_S} s")
            for descriptor, _ in events:
                wire = by_descriptor[descriptor]
                yield wire
                if wire.settled:
                    unsettled -= 1
                    poll.unregister(descriptor)
