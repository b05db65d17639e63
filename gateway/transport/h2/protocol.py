"""Drives one `Connection` on an asyncio (uvloop) transport."""

import asyncio
from collections.abc import Callable
from random import random
from time import monotonic
from typing import cast

from gateway.transport.arrival import Arrival, Guest, introduce
from gateway.transport.call import Service
from gateway.transport.h2.connection import Connection
from gateway.transport.h2.errors import ErrorCode
from gateway.transport.h2.lifetime import Lifetime, Verdict
from gateway.transport.h2.limits import Counters, Limits
from gateway.transport.h2.memory import Memory
from gateway.transport.h2.sending import BURST_BYTES
from gateway.transport.peers import BadPeer

DRAIN_ANSWER_S = 1.0
"""How long a draining connection waits for the answer to its PING."""


class H2Protocol(Guest):
    """One client connection. All replies of one turn of the loop leave in one write."""

    def __init__(
        self,
        service: Service,
        limits: Limits,
        loop: asyncio.AbstractEventLoop,
        on_change: Callable[["H2Protocol", bool], None],
        counters: Counters | None = None,
        memory: Memory | None = None,
    ) -> None:
        """`on_change` hears when the connection opens (True) and when it is gone (False)."""
        self._counters = counters or Counters()
        self._loop = loop
        self._limits = limits
        self._on_change = on_change
        self._connection = Connection(service, limits, self._wake, self._counters, memory)
        self._sender = self._connection.sender
        self._woken = False
        """`_rise` is due."""
        self._stuck_bytes = 0
        """What a full socket has not taken, roughly."""
        self._transport: asyncio.Transport
        self._lifetime = Lifetime(limits, random())  # noqa: S311 - spreads reconnections, guards nothing
        self._strange_s = 0.0
        """How long the peer has not introduced itself."""
        self._goodbye: asyncio.TimerHandle | None = None
        self._closing = False
        self.arrival: Arrival | None = None
        """How the connection came, where an `Acceptor` let it in."""

    @property
    def held_bytes(self) -> int:
        """What requests and replies of the connection take in memory."""
        return self._sender.account.held_bytes

    @property
    def greeted(self) -> bool:
        """The peer has introduced itself."""
        return self._connection.greeted

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        self._transport = stream = cast("asyncio.Transport", transport)
        stream.set_write_buffer_limits(high=BURST_BYTES)
        self._on_change(self, True)
        if self.arrival is not None:
            try:
                self._sender.peer = introduce(self.arrival, stream)
            except BadPeer:
                self._counters.tls += 1
                self.cut()

    def data_received(self, data: bytes) -> None:
        """Bytes from the peer; answers produced at once leave at once."""
        if self._closing:
            return
        connection = self._connection
        connection.receive(data, monotonic())
        if self._sender.out or self._sender.room_bytes < 0 or connection.ending:
            self._flush()

    def eof_received(self) -> bool:
        """The peer sends no more, so it is served no more: flow control needs both ways. The transport closes."""
        self._closing = True
        self._cut_later()
        return False

    def pause_writing(self) -> None:
        """The socket is full: replies wait in their queues."""
        self._sender.paused = True
        self._stick(self._transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """The peer reads again."""
        self._sender.paused = False
        self._stick(0)
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer is gone; its calls are cancelled."""
        if self._goodbye is not None:
            self._goodbye.cancel()
        self._closing = True
        self._stick(0)
        self._connection.lost()
        self._on_change(self, False)

    def sweep(self, elapsed_s: float) -> None:
        """Looks for what takes too long; called once in a while with the time since the last call."""
        if self._closing:
            return
        connection = self._connection
        if not connection.greeted:
            self._strange_s += elapsed_s
            if self._strange_s > self._limits.handshake_timeout_s:
                self._counters.handshake += 1
                self.cut()
        else:
            connection.sweep(elapsed_s, monotonic(), self._transport.get_write_buffer_size())
            self._age(elapsed_s)
        if connection.ending or self._sender.out:
            self._flush()

    def _age(self, elapsed_s: float) -> None:
        """Says goodbye when the connection has had its time; the calls that outlast their grace are cancelled."""
        verdict = self._lifetime.look(elapsed_s, idle=self._connection.idle, opened=self._connection.opened)
        if verdict == Verdict.OVERDUE:
            self._counters.age_grace += 1
            self._connection.close(ErrorCode.NO_ERROR, verdict)
        elif verdict and self._goodbye is None:
            self._counters.count("idle" if verdict == Verdict.IDLE else "age")
            self.drain(verdict)

    def drain(self, reason: str = "shutting down") -> None:
        """Lets calls in flight finish, then closes."""
        if self._closing or self._goodbye is not None:
            return
        self._connection.drain(reason)
        self._goodbye = self._loop.call_later(DRAIN_ANSWER_S, self._leave)
        self._flush()

    def close(self) -> None:
        """Closes now; calls in flight are cancelled."""
        self._connection.close(ErrorCode.NO_ERROR, "shutting down")
        self._flush()

    def shed(self) -> None:
        """Sends a peer away that holds much of the listener's memory."""
        self._counters.memory += 1
        self._connection.close(ErrorCode.ENHANCE_YOUR_CALM, "short of memory")
        if self._sender.paused:
            self.cut()
            self._stick(0)
        else:
            self._flush()

    def cut(self) -> None:
        """Ends the connection at once, without a word."""
        self._closing = True
        self._transport.abort()

    def _stick(self, size: int) -> None:
        """So much is stuck in front of the socket."""
        self._sender.account.change(size - self._stuck_bytes)
        self._stuck_bytes = size

    def _wake(self) -> None:
        """Once in a turn of the loop, however many ask: each flush may ask again, for the turn after it."""
        if not self._woken:
            self._woken = True
            self._loop.call_soon(self._rise)

    def _rise(self) -> None:
        self._woken = False
        self._flush()

    def _leave(self) -> None:
        self._connection.leave()
        self._flush()

    def _flush(self) -> None:
        if self._closing:
            return
        connection, sender = self._connection, self._sender
        finished = connection.ending and connection.finished
        if finished or not sender.paused:
            data = connection.output()
            if data:
                self._transport.write(data)
            if sender.room_bytes < 0 and sender.can_pump:
                sender.awake = True
                self._wake()
        if connection.ending and connection.finished:
            self._linger()

    def _linger(self) -> None:
        """Closes our direction and reads the peer's to its end.

        Closing at once would reset the connection, and a reset may overtake the GOAWAY. A peer that does not take the
        hint is cut off.
        """
        self._closing = True
        self._cut_later()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def _cut_later(self) -> None:
        """What is still to be written has this long to leave."""
        if self._goodbye is not None:
            self._goodbye.cancel()
        self._goodbye = self._loop.call_later(self._limits.linger_s, self.cut)
