"""Copies of real requests to shadow versions, compared with the answers production gave.

A copy starts when production has answered: the shadow's worker gets the inputs and production's outputs in one frame,
runs the model at idle priority and sends back only the comparison. Whole batches are copied as they went over the wire,
so a copy costs the proxy a few bytes of header. Nothing here touches a call: a shadow can neither delay nor fail one.

While production needs the CPU, copies are held: they wait, what does not fit is dropped before it costs anything, and
only so few are run that production does not feel them and a gateway that is always busy still learns something.
"""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from random import random
from time import monotonic
from typing import Final

from gateway.dataplane.channel import Channel
from gateway.dataplane.job import Batch, Data, next_number
from gateway.dataplane.slots import Slot
from gateway.dataplane.tap import BatchTap, ShadowTap
from gateway.routing.snapshot import Pool
from workers import wire

MAX_QUEUE_BYTES: Final = 64 << 20
MAX_SIGNATURES: Final = 1024
SLOW_COPY_US: Final = 1000
"""Of a copy that takes longer, only one at a time is with a worker: what has been sent cannot be held back."""
TRICKLE_US: Final = 2000
"""What held copies may use, for each sweep of 100 ms: a fiftieth of a core."""
MAX_TRICKLE_US: Final = 5000
OVERHEAD_US: Final = 200
"""What a copy costs beside its run, in the proxy and in the worker."""
_BODY: Final = wire.HEADER.size


class Copies(Batch):
    """A copy of a batch that production has answered; `copies` is how many requests it holds."""

    __slots__ = ("copies", "spared")

    copies: int
    spared: bool
    """Sent although production needs the CPU: what it costs is charged."""


class ShadowLane:
    """The bounded queue of copies for one shadow version. What does not fit is dropped and counted."""

    __slots__ = (
        "_bytes", "_channels", "_copies", "_fits", "_held", "_loop", "_max_queue", "_queue", "_scheduled",
        "_trickle_us", "batches", "pool", "tap",
    )  # fmt: skip

    def __init__(
        self, pool: Pool, loop: asyncio.AbstractEventLoop, max_queue: int, held: Callable[[], bool] = lambda: False
    ) -> None:
        """`held()`: production needs the CPU just now."""
        self.pool = pool
        self.tap = ShadowTap(pool.model, pool.version)
        self.batches = BatchTap(pool.model, pool.version, shadow=True)
        self._loop = loop
        self._max_queue = max_queue
        self._held = held
        self._trickle_us = 0
        """What held copies may still use; less than nothing after a long one."""
        self._queue: deque[Copies] = deque()
        self._copies = 0
        self._bytes = 0
        self._channels: tuple[Channel, ...] = ()
        self._scheduled = False
        self._fits: dict[bytes, bool] = {}

    @property
    def queued(self) -> int:
        """Copies waiting."""
        return self._copies

    @property
    def idle(self) -> bool:
        """Nothing is in flight, and nothing waits that could still be sent."""
        return not any(channel.in_flight for channel in self._channels) and not (self._queue and self._channels)

    def update(self, pool: Pool, channels: tuple[Channel, ...]) -> None:
        """Takes a new description of the same pool."""
        self.pool = pool
        self._channels = channels
        self._fits.clear()
        self.schedule()

    def offer(self, batch: Batch, data: Data, start: int, stop: int) -> None:
        """Copies an answered batch: its RUN frame, and production's RESULT section in data[start:stop]."""
        copies = len(batch.jobs)
        self.tap.copies += copies
        # A large batch fits as well as a small one: else a full queue would take only copies of quiet moments.
        if self._copies >= self._max_queue or self._bytes >= MAX_QUEUE_BYTES or not self._channels:
            self.tap.dropped += copies
            return
        if not self._accepts(batch):
            self.tap.incomparable += copies
            return
        body = batch.body
        length = len(body) + stop - start
        header = wire.HEADER.pack(length, next_number(), wire.COMPARE, 0, 0, 0)
        frame = b"".join((header, body, memoryview(data)[start:stop]))
        copy = Copies(frame, batch.rows, [], self._compared, self._failed, self._count_failed)
        copy.copies = copies
        copy.sent_s = monotonic()
        self._queue.append(copy)
        self._copies += copies
        self._bytes += len(frame)
        self.schedule()

    def sweep(self) -> None:
        """Called ten times a second: gives what held copies may use, and goes on once they are not held."""
        self._trickle_us = min(self._trickle_us + TRICKLE_US, MAX_TRICKLE_US)
        self.schedule()

    def abandon(self) -> None:
        """The version is a shadow no more: drops what waits."""
        self.tap.dropped += self._copies
        self._queue.clear()
        self._copies = self._bytes = 0

    def schedule(self) -> None:
        """Pumps in the next turn of the loop, after what production has to do in this one."""
        if self._queue and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._scheduled = False
        while self._queue:
            channel = next((free for free in self._channels if free.has_room(exclusive=False)), None)
            if channel is None:
                return
            held = self._held()
            if held and not self._may_trickle:
                return
            copy = self._queue.popleft()
            self._copies -= copy.copies
            self._bytes -= len(copy.frame)
            copy.spared = held
            copy.slot = channel.take_slot()
            if copy.slot is not None:
                copy.frame = _placed(copy.frame, copy.slot) or copy.frame
            channel.send(copy, copy.sent_s)  # the latency of a copy counts from the queue

    @property
    def _may_trickle(self) -> bool:
        """While copies are held, one at a time may go, until the allowance is used up."""
        return self._trickle_us > 0 and not any(channel.in_flight for channel in self._channels)

    def _accepts(self, batch: Batch) -> bool:
        """Whether production's inputs are this version's inputs, too."""
        plan = batch.jobs[0].plan
        if plan.pool.batched != self.pool.batched:
            return False
        signature = plan.signature if batch.padded is None else batch.padded.signature
        fits = self._fits.get(signature)
        if fits is None:
            if len(self._fits) >= MAX_SIGNATURES:
                self._fits.clear()
            fits = self._fits[signature] = _fits(signature, self.pool)
        return fits

    def _compared(self, batch: Batch, kind: int, micros: int, data: Data, start: int, stop: int) -> None:
        assert isinstance(batch, Copies)  # noqa: S101 - for the type checker
        self._charge(batch, micros)
        if kind != wire.COMPARED or stop - start != wire.COMPARISON.size:
            self._count_failed(batch)
            return
        rows, agreed, incomparable, _, difference = wire.COMPARISON.unpack_from(data, start)
        tap = self.tap
        tap.compared += rows
        tap.agreed += agreed
        tap.max_abs_difference = max(tap.max_abs_difference, difference)
        if incomparable:
            tap.incomparable += batch.copies
        else:
            tap.answered(batch.copies, int((monotonic() - batch.sent_s) * 1e6))
        self.batches.add(batch.rows, micros)

    def _failed(self, batch: Batch, code: int, text: str) -> None:
        self._count_failed(batch)

    def _count_failed(self, batch: Batch) -> None:
        assert isinstance(batch, Copies)  # noqa: S101 - for the type checker
        self._charge(batch, 0)
        self.tap.failed += batch.copies

    def _charge(self, copy: Copies, micros: int) -> None:
        if copy.spared:
            self._trickle_us -= micros + OVERHEAD_US


class Mirror:
    """Copies the batches of one production lane (the stable version's) to its shadow lanes, each at its own rate.

    The rate is drawn per batch: every request has the same chance, and the copies stay joined.
    """

    __slots__ = ("_targets",)

    def __init__(self, targets: tuple[tuple[ShadowLane, float], ...]) -> None:
        self._targets = targets

    def __call__(self, batch: Batch, data: Data, start: int, stop: int) -> None:
        for lane, rate in self._targets:
            if rate >= 1.0 or random() < rate:  # noqa: S311 - sampling, not secrecy
                lane.offer(batch, data, start, stop)


def _placed(frame: bytes, slot: Slot) -> bytes:
    """The COMPARE frame with its sections put into the slot; empty when they had better travel with it."""
    _, number, kind, _, _, _ = wire.HEADER.unpack_from(frame)
    signature_size, count, _ = wire.SECTION.unpack_from(frame, _BODY)
    tensors_at = _BODY + wire.SECTION.size + wire.SIZE.size * count + signature_size
    tensors = memoryview(frame)[tensors_at:]
    place = slot.put(frame[_BODY:tensors_at], [tensors], len(frame) - _BODY)
    return wire.HEADER.pack(len(place), number, kind, wire.SLOT, slot.number, 0) + place if place else b""


def _fits(signature: bytes, pool: Pool) -> bool:
    expected = {tensor.name: tensor for tensor in pool.inputs}
    given = json.loads(signature)
    if len(given) != len(expected):
        return False
    for name, datatype, shape in given:
        tensor = expected.get(name)
        if tensor is None or tensor.datatype != datatype:
            return False
        inner = tensor.shape[1:] if pool.batched else tensor.shape
        if len(inner) != len(shape) or any(wanted not in (-1, size) for wanted, size in zip(inner, shape, strict=True)):
            return False
    return True
