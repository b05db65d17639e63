"""Cuts a worker's result into replies."""

import json
import struct
from collections.abc import Iterable
from itertools import repeat
from math import prod
from time import monotonic
from typing import Final

import structlog

from gateway.dataplane.job import Batch, Data, Job
from gateway.dataplane.plan import ReplyShape
from gateway.dataplane.ragged import Padded, cut
from gateway.dataplane.tap import Series
from gateway.errors import CutoverError, InferenceFailed, RequestError
from gateway.oip import reply
from gateway.oip.contents import ELEMENT_BYTES, element_offset
from gateway.oip.request import COPY_LIMIT_BYTES, Raw
from workers import wire

EXPECTED: Final = (CutoverError, LookupError, ValueError, TypeError, RecursionError, struct.error)
"""What reading an answer that makes no sense may raise; RecursionError: its signature nests too deep."""

log = structlog.get_logger(__name__)

_TABLE: Final = wire.SECTION.size
_STRINGS: Final = b'"BYTES"'


def deliver(batch: Batch, data: Data, start: int, stop: int) -> bool:
    """Answers every job of the batch from the RESULT section in data[start:stop]; False when it does not fit."""
    now_s = monotonic()
    try:
        signature, sizes, offsets = read_section(data, start, stop, batch.rows)
        _reply_all(batch, data, signature, sizes, offsets, now_s)
    except Exception as error:  # whatever it is, nobody may be left without an answer
        if not isinstance(error, EXPECTED):
            log.exception("an answer cannot be cut into replies")
        misfit(batch, str(error), now_s)
        return False
    return True


def misfit(batch: Batch, what: str, now_s: float) -> None:
    """Fails every job of a batch whose answer makes no sense."""
    for job in batch.jobs:  # some may have been answered before the mismatch showed: they are done
        job.fail(InferenceFailed(f"the worker's answer does not fit the request: {what}"), now_s)


def read_section(data: Data, start: int, stop: int, rows: int) -> tuple[bytes, list[int], list[int]]:
    """(signature, byte size of each tensor, offset of each tensor). Raises ValueError when the section is malformed."""
    signature_size, count, found_rows = wire.SECTION.unpack_from(data, start)
    position = start + _TABLE + 4 * count
    if position + signature_size > stop:  # before a count that lies is believed
        raise ValueError(f"a table of {count} tensors in {stop - start} bytes")
    sizes = [wire.SIZE.unpack_from(data, start + _TABLE + 4 * i)[0] for i in range(count)]
    signature = bytes(data[position : position + signature_size])
    position += signature_size
    offsets = []
    for size in sizes:
        offsets.append(position)
        position += size
    if position != stop or found_rows != rows:
        raise ValueError(f"{found_rows} rows and {position - start} bytes for {rows} rows and {stop - start} bytes")
    return signature, sizes, offsets


def _reply_all(batch: Batch, data: Data, signature: bytes, sizes: list[int], offsets: list[int], now_s: float) -> None:
    jobs = batch.jobs
    plan = jobs[0].plan
    if batch.padded is not None:
        messages = _messages_cut(batch, batch.padded, memoryview(data), signature, offsets)
    elif _STRINGS in signature:
        messages = _messages_with_strings(batch, data, signature, sizes, offsets)
    elif (
        batch.rows and len(data) <= COPY_LIMIT_BYTES * 4 and not plan.special and all(job.plan is plan for job in jobs)
    ):
        messages = _messages_alike(batch, plan.reply_shape(signature), data, sizes, offsets)
    else:
        messages = _messages(batch, memoryview(data), signature, sizes, offsets)
    tally = Tally(batch.sent_s, now_s)
    try:
        for job, message in zip(jobs, messages, strict=True):
            call = job.call
            if call.closed:
                job.left(now_s)
                continue
            job.done = True
            call.reply(reply.id_field(job.id) + message if job.id else message, job.trailers)
            if call.arrived_s != tally.arrived_s or job.series is not tally.series:
                tally.turn(job.series, call.arrived_s)
            tally.count += 1
    finally:  # a later job may ask for an output that is not there
        tally.add()


def _messages_alike(
    batch: Batch, shape: ReplyShape, data: Data, sizes: list[int], offsets: list[int]
) -> Iterable[bytes]:
    """The replies to jobs of one plan: every tensor is cut into equal cells, and rows of cells are joined."""
    _check_sizes(shape, batch.jobs[0].plan.rows, sizes, batch.rows)
    view = memoryview(data)
    columns: list[Iterable[bytes]] = [repeat(shape.head, len(batch.jobs))]
    for (output, prefix, size), cell in zip(shape.parts, shape.cells, strict=True):
        columns.append(repeat(prefix))
        begin = offsets[output]
        columns.append(
            [row for (row,) in cell.iter_unpack(view[begin : begin + sizes[output]])] if size else repeat(b"")
        )
    return map(b"".join, zip(*columns, strict=False))


def _messages(
    batch: Batch, data: memoryview, signature: bytes, sizes: list[int], offsets: list[int]
) -> Iterable[bytes]:
    """The replies to jobs of several plans, or with large tensors."""
    steps = [size // batch.rows if batch.rows else 0 for size in sizes]
    row = 0
    for job in batch.jobs:
        shape = job.plan.reply_shape(signature)
        _check_sizes(shape, job.plan.rows, sizes, batch.rows)
        pieces: list[Raw] = [shape.head]
        for output, prefix, size in shape.parts:
            begin = offsets[output] + row * steps[output]
            pieces += (prefix, data[begin : begin + size])
        row += job.plan.rows
        yield _special(job, shape, pieces[2::2]) if shape.special else b"".join(pieces)


def _messages_with_strings(
    batch: Batch, data: Data, signature: bytes, sizes: list[int], offsets: list[int]
) -> Iterable[bytes]:
    """The replies when an output is BYTES: rows differ in size."""
    view = memoryview(data)
    for job, spans in zip(batch.jobs, _string_spans(batch, data, signature, sizes, offsets), strict=True):
        shape = job.plan.reply_shape(signature)
        pieces: list[Raw] = [shape.head]
        for output, _, _ in shape.parts:
            begin, end = spans[output]
            pieces += (reply.raw_prefix(end - begin), view[begin:end])
        yield _special(job, shape, pieces[2::2]) if shape.special else b"".join(pieces)


def _messages_cut(
    batch: Batch, padded: Padded, data: memoryview, signature: bytes, offsets: list[int]
) -> Iterable[bytes]:
    """The replies to jobs that were padded: each gets its answers as long as if it had been alone."""
    outputs = [(tuple(shape), ELEMENT_BYTES[datatype]) for _, datatype, shape in json.loads(signature)]
    row = 0
    for job in batch.jobs:
        plan = job.plan
        own_signature, own = padded.own(job, signature, plan.pool)
        shape = plan.reply_shape(own_signature)
        pieces: list[Raw] = [shape.head]
        for output, prefix, size in shape.parts:
            inner, element_bytes = outputs[output]
            step_bytes = prod(inner) * element_bytes
            begin = offsets[output] + row * step_bytes
            tensor = cut(
                data[begin : begin + plan.rows * step_bytes],
                (plan.rows, *inner),
                (plan.rows, *own[output]),
                element_bytes,
            )
            if len(tensor) != size:
                raise ValueError(f"output {output} has {len(tensor)} bytes, {size} for {plan.rows} rows")
            pieces += (prefix, tensor)
        row += plan.rows
        yield _special(job, shape, pieces[2::2]) if shape.special else b"".join(pieces)


def _special(job: Job, shape: ReplyShape, tensors: list[Raw]) -> bytes:
    """The reply to a job with outputs that do not come as usual. What is wrong with them is its own affair.

    Nothing is written for a caller that left: what it had offered may serve others by now.
    """
    if job.call.closed:
        return b""
    pieces: list[Raw] = [shape.head]
    try:
        for tensor, kind in zip(tensors, shape.special, strict=True):
            raw = tensor if kind is None else kind.encode(tensor)
            pieces += (reply.raw_prefix(len(raw)), raw)
    except RequestError as error:
        job.fail(error, monotonic())
    return b"".join(pieces)


def _check_sizes(shape: ReplyShape, rows: int, sizes: list[int], batch_rows: int) -> None:
    """Raises ValueError when a tensor is not as long as the signature says: its rows would be cut at wrong places."""
    for output, _, size in shape.parts:
        if size * batch_rows != sizes[output] * rows:
            raise ValueError(f"output {output} has {sizes[output]} bytes, {size} for {rows} of {batch_rows} rows")


class Tally:
    """Adds durations to series, once for all requests that came in one read and belong to one series."""

    __slots__ = ("_now_s", "_sent_s", "arrived_s", "count", "series")

    def __init__(self, sent_s: float, now_s: float) -> None:
        self._sent_s = sent_s
        self._now_s = now_s
        self.arrived_s = -1.0
        self.series: Series | None = None
        self.count = 0

    def turn(self, series: Series, arrived_s: float) -> None:
        """Other requests follow."""
        self.add()
        self.series = series
        self.arrived_s = arrived_s
        self.count = 0

    def add(self) -> None:
        """Adds what was counted since the last turn."""
        series, count = self.series, self.count
        if series is not None:
            latency_us = int((self._now_s - self.arrived_s) * 1e6)
            waited_us = int((self._sent_s - self.arrived_s) * 1e6)
            series.answered(count, latency_us, waited_us)


def _string_spans(
    batch: Batch, data: Data, signature: bytes, sizes: list[int], offsets: list[int]
) -> list[list[tuple[int, int]]]:
    """For every job, where each output's part of a result with strings begins and ends."""
    inner = [(datatype, prod(shape)) for _, datatype, shape in json.loads(signature)]
    cursors = list(offsets)
    spans = []
    for job in batch.jobs:
        row = []
        for output, (datatype, elements) in enumerate(inner):
            begin = cursors[output]
            if datatype == "BYTES":
                end = element_offset(data, begin, elements * job.plan.rows)
            else:
                end = begin + sizes[output] // max(batch.rows, 1) * job.plan.rows
            row.append((begin, end))
            cursors[output] = end
        spans.append(row)
    if any(end != start + size for end, start, size in zip(cursors, offsets, sizes, strict=True)):
        raise ValueError("its strings end elsewhere than their tensor")
    return spans
