"""A connection to one worker: frames out, answers in, in order."""

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final, cast

import structlog

from gateway.dataplane.answer import misfit
from gateway.dataplane.cost import Cost
from gateway.dataplane.job import Batch, Data
from gateway.dataplane.slots import Slot, Slots
from workers import wire

DEPTH: Final = 2
"""Batches in flight at one worker: one runs, one waits in its socket so that the hop hides behind the compute."""
SLOW_US: Final = 50_000
"""A batch that waits behind one of this length had better wait in the lane, where it grows, and where requests whose
deadline passes or whose caller leaves are still dropped: the hop is nothing to such a worker."""
OF_NO_BATCH: Final = frozenset({wire.ATTACH, wire.ALIVE})

log = structlog.get_logger(__name__)


class Channel(asyncio.Protocol):
    """Sends batches to one worker. When it dies, every batch in flight gets `on_lost`, oldest first."""

    def __init__(
        self,
        address: str,
        on_free: Callable[[], None],
        on_gone: Callable[["Channel"], None],
        slow_us: int = SLOW_US,
    ) -> None:
        self.address = address
        self.in_flight: deque[Batch] = deque()
        self.retiring = False
        self.slots: Slots | None = None
        """Memory offered to the worker; its channel closes it."""
        self._on_free = on_free
        self._on_gone = on_gone
        self._progress_s = 0.0
        """When the worker last answered, or got work after it had none (monotonic)."""
        self._alive_s = 0.0
        """When it last said that it is at work, be it for other proxies."""
        self._transport: asyncio.WriteTransport | None = None
        self._chunks: list[bytes] = []
        self._have = 0
        self._need = 0
        self._depth = DEPTH
        self._slow_us = slow_us
        self._broken = False
        """Closed for what the worker sent; what follows that is not read."""

    @property
    def connected(self) -> bool:
        """The worker is there and takes batches."""
        return self._transport is not None and not self.retiring

    def has_room(self, *, exclusive: bool) -> bool:
        """Whether a batch may be sent now."""
        if self._transport is None or self.retiring:
            return False
        waiting = self.in_flight
        return not waiting or (not exclusive and len(waiting) < self._depth and not waiting[0].exclusive)

    def take_slot(self) -> Slot | None:
        """A slot for the next batch, which owns it; None: its tensors travel over the socket."""
        return self.slots.take() if self.slots is not None else None

    def tidy(self) -> None:
        """Gives back shared memory that has not been needed since the last call."""
        if self.slots is not None:
            self.slots.tidy()

    def send(self, batch: Batch, now_s: float) -> None:
        """Puts the batch on the wire."""
        assert self._transport is not None  # noqa: S101 - has_room said so
        batch.sent_s = now_s
        batch.channel = self
        if not self.in_flight:
            self._progress_s = now_s
        self.in_flight.append(batch)
        self._transport.write(batch.frame)

    def cancel(self, batch: Batch) -> None:
        """Nobody waits for the batch any more: the worker need not run it. It is answered in its turn all the same."""
        if self._transport is not None and batch in self.in_flight and not batch.begun:
            self._transport.write(wire.HEADER.pack(0, batch.number, wire.CANCEL, 0, 0, 0))

    def hangs(self, now_s: float, limit_s: float) -> bool:
        """The worker has had a batch for longer than the limit, and that not for other proxies' sake; 0: never."""
        return bool(self.in_flight) and 0 < limit_s < now_s - max(self._progress_s, self._alive_s)

    def busy_s(self, cost: Cost, now_s: float) -> float:
        """For how long the worker is expected to be busy with what it has."""
        if not self.in_flight:
            return 0.0
        run_us = sum([cost.run_us(batch.rows) for batch in self.in_flight])
        return max(0.0, run_us / 1e6 - (now_s - self._progress_s))

    def abort(self) -> None:
        """Gives the worker up: what is in flight goes back to its lane."""
        self.retiring = True
        if self._transport is not None:
            self._transport.abort()

    def retire(self) -> None:
        """Closes once nothing is in flight."""
        self.retiring = True
        if not self.in_flight and self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's transports are no subclasses of it
        if self.retiring:  # meanwhile nobody wants it any more
            transport.close()
        else:
            self._on_free()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self.slots is not None:
            self.slots.close()
            self.slots = None
        lost, self.in_flight = self.in_flight, deque()
        # The lane puts lost jobs back at the front of its queue, so the newest go first to keep their order.
        for batch in reversed(lost):
            batch.on_lost(batch)
        self._on_gone(self)

    def data_received(self, data: bytes) -> None:
        if self._chunks:
            self._chunks.append(data)
            self._have += len(data)
            if self._have < self._need:
                return
            data = b"".join(self._chunks)
            self._chunks.clear()
        position, end, header = 0, len(data), wire.HEADER.size
        while end - position >= header:
            length, number, kind, flags, _, micros = wire.HEADER.unpack_from(data, position)
            stop = position + header + length
            if stop > end:
                if not self.in_flight or number != self.in_flight[0].number:  # else garbage is waited for to its end
                    self._close_broken(f"the beginning of an answer to batch {number}, which is not its turn")
                    return
                self._need = header + length
                break
            self._answered(number, kind, flags, micros, data, position + header, stop)
            if self._broken:
                return
            position = stop
        else:
            self._need = header
        if position < end:
            self._chunks.append(data[position:] if position else data)
            self._have = end - position

    def _answered(  # noqa: PLR0913 - the fields of a frame, unpacked once
        self, number: int, kind: int, flags: int, micros: int, data: bytes, start: int, stop: int
    ) -> None:
        if kind in OF_NO_BATCH:
            self._heard(kind, flags)
            return
        if not self.in_flight:
            self._close_broken("an answer to nothing")
            return
        batch = self.in_flight[0]
        if number != batch.number:
            self._close_broken(f"an answer to batch {number} instead of {batch.number}")
            return
        began_s, self._progress_s = self._progress_s, monotonic()
        if kind == wire.BEGUN:
            batch.begun = True
            return
        found: Data = data
        if flags and kind != wire.ERROR:
            try:
                found = batch.answer_in_slot(data, start, stop)
            except ValueError as error:
                self._close_broken(str(error))
                return
            start, stop = 0, len(found)
        self.in_flight.popleft()
        batch.took_us = (self._progress_s - began_s) * 1e6
        if kind != wire.ERROR:
            self._depth = DEPTH if micros < self._slow_us else 1
        if self.retiring:
            self.retire()
        else:
            self._on_free()
        if kind == wire.ERROR:
            batch.on_error(batch, flags, data[start:stop].decode(errors="replace"))
        else:
            self._hand_over(batch, kind, micros, found, start, stop)
        if not batch.held:
            batch.release()

    def _hand_over(self, batch: Batch, kind: int, micros: int, data: Data, start: int, stop: int) -> None:
        """Whatever goes wrong, nobody may be left without an answer."""
        try:
            batch.on_answer(batch, kind, micros, data, start, stop)
        except Exception as error:
            log.exception("an answer cannot be taken", address=self.address)
            misfit(batch, repr(error), monotonic())
            self._close_broken("an answer that cannot be taken")

    def _heard(self, kind: int, flags: int) -> None:
        if kind == wire.ALIVE:
            self._alive_s = monotonic()
        else:
            self._attached(accepted=bool(flags))

    def _attached(self, *, accepted: bool) -> None:
        if self.slots is None or not self.slots.pending:
            self._close_broken("an answer to an offer nobody made")
        elif accepted:
            self.slots.accepted()
        else:
            log.warning("a worker takes no shared memory; large tensors go over its socket", address=self.address)
            self.slots.close()
            self.slots = None

    def _close_broken(self, what: str) -> None:
        if self.in_flight and self.in_flight[0].exclusive:
            self.in_flight[0].begun = True  # whatever this was, it came when that one was run
        self._broken = True
        log.error("worker sent garbage; its connection is closed", address=self.address, what=what)
        self.abort()
