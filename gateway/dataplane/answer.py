"""Cuts a worker's result into replies."""

import json
import struct
from math import prod
from time import monotonic
from typing import Final

from gateway.dataplane.job import Batch
from gateway.dataplane.plan import ReplyShape
from gateway.dataplane.tap import Series
from gateway.errors import CutoverError, InferenceFailed
from gateway.observe.histogram import index
from gateway.oip import reply
from gateway.oip.contents import element_offset
from gateway.oip.request import COPY_LIMIT_BYTES, Raw
from workers import wire

_TABLE: Final = wire.SECTION.size
_STRINGS: Final = b'"BYTES"'


def deliver(batch: Batch, data: bytes, start: int, stop: int) -> bool:
    """Answers every job of the batch from the RESULT section in data[start:stop]; False when it does not fit."""
    now_s = monotonic()
    try:
        signature, sizes, offsets = read_section(data, start, stop, batch.rows)
        _reply_all(batch, data, signature, sizes, offsets, now_s)
    except (CutoverError, LookupError, ValueError, TypeError, struct.error) as error:
        misfit(batch, str(error), now_s)
        return False
    return True


def misfit(batch: Batch, what: str, now_s: float) -> None:
    """Fails every job of a batch whose answer makes no sense."""
    for job in batch.jobs:  # some may have been answered before the mismatch showed: they are done
        job.fail(InferenceFailed(f"the worker's answer does not fit the request: {what}"), now_s)


def read_section(data: bytes, start: int, stop: int, rows: int) -> tuple[bytes, list[int], list[int]]:
    """(signature, byte size of each tensor, offset of each tensor). Raises ValueError when the section is malformed."""
    signature_size, count, found_rows = wire.SECTION.unpack_from(data, start)
    position = start + _TABLE + 4 * count
    sizes = [wire.SIZE.unpack_from(data, start + _TABLE + 4 * i)[0] for i in range(count)]
    signature = data[position : position + signature_size]
    position += signature_size
    offsets = []
    for size in sizes:
        offsets.append(position)
        position += size
    if position != stop or found_rows != rows:
        raise ValueError(f"{found_rows} rows and {position - start} bytes for {rows} rows and {stop - start} bytes")
    return signature, sizes, offsets


def _reply_all(batch: Batch, data: bytes, signature: bytes, sizes: list[int], offsets: list[int], now_s: float) -> None:
    spans = _string_spans(batch, data, signature, sizes, offsets) if _STRINGS in signature else None
    source: Raw = data if len(data) <= COPY_LIMIT_BYTES * 4 else memoryview(data)
    steps = [size // batch.rows if batch.rows else 0 for size in sizes]
    plan = shape = None
    row = 0
    clock = _Clock(batch.sent_s, now_s)
    for number, job in enumerate(batch.jobs):
        if job.plan is not plan:
            plan = job.plan
            shape = plan.replies.get(signature) or plan.reply_shape(signature)
            if spans is None:
                _check_sizes(shape, plan.rows, sizes, batch.rows)
        assert shape is not None  # noqa: S101 - for the type checker
        pieces: list[Raw] = [reply.id_field(job.id), shape.head] if job.id else [shape.head]
        if spans is None:
            for output, prefix, size in shape.parts:
                begin = offsets[output] + row * steps[output]
                pieces.append(prefix)
                pieces.append(source[begin : begin + size])
        else:
            for output, _, _ in shape.parts:
                begin, end = spans[number][output]
                pieces.append(reply.raw_prefix(end - begin))
                pieces.append(source[begin:end])
        row += job.plan.rows
        call = job.call
        if call.closed:
            job.left(now_s)
        else:
            job.done = True
            call.reply(b"".join(pieces), job.trailers)
            clock.count(job.series, call.arrived_s)


def _check_sizes(shape: ReplyShape, rows: int, sizes: list[int], batch_rows: int) -> None:
    """Raises ValueError when a tensor is not as long as the signature says: its rows would be cut at wrong places."""
    for output, _, size in shape.parts:
        if size * batch_rows != sizes[output] * rows:
            raise ValueError(f"output {output} has {sizes[output]} bytes, {size} for {rows} of {batch_rows} rows")


class _Clock:
    """Adds durations to series; requests that came in one read share theirs."""

    __slots__ = ("_arrived_s", "_latency", "_latency_us", "_now_s", "_sent_s", "_series", "_waited", "_waited_us")

    def __init__(self, sent_s: float, now_s: float) -> None:
        self._sent_s = sent_s
        self._now_s = now_s
        self._arrived_s = -1.0
        self._series: Series | None = None
        self._latency = self._latency_us = self._waited = self._waited_us = 0

    def count(self, series: Series, arrived_s: float) -> None:
        if arrived_s != self._arrived_s or series is not self._series:
            self._arrived_s = arrived_s
            self._series = series
            self._latency_us = int((self._now_s - arrived_s) * 1e6)
            self._waited_us = int((self._sent_s - arrived_s) * 1e6)
            self._latency, self._waited = index(self._latency_us), index(self._waited_us)
            series.latency_max_us = max(series.latency_max_us, self._latency_us)
            series.queue_max_us = max(series.queue_max_us, self._waited_us)
        series.ok += 1
        series.latency[self._latency] += 1
        series.latency_sum_us += self._latency_us
        series.queue[self._waited] += 1
        series.queue_sum_us += self._waited_us


def _string_spans(
    batch: Batch, data: bytes, signature: bytes, sizes: list[int], offsets: list[int]
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
