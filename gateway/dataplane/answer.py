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
from gateway.dataplane.plan import Cut, ReplyShape
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
        _reply_all(batch, _messages(batch, data, start, stop), now_s)
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


def _messages(batch: Batch, data: Data, start: int, stop: int) -> Iterable[bytes]:
    """The replies, job by job, without ids."""
    jobs = batch.jobs
    plan = jobs[0].plan
    alike = (
        stop - start <= COPY_LIMIT_BYTES * 4
        and batch.padded is None
        and not plan.special
        and not [job for job in jobs if job.plan is not plan]
    )
    if alike and isinstance(data, bytes):
        cut = plan.cuts.get(data[start : start + plan.result_head_bytes])
        if cut is not None and cut.rows == batch.rows and cut.size == stop - start:
            return _messages_alike(len(jobs), cut, data, start)
    signature, sizes, offsets = read_section(data, start, stop, batch.rows)
    if batch.padded is not None:
        return _messages_cut(batch, batch.padded, memoryview(data), signature, offsets)
    if _STRINGS in signature:
        return _messages_with_strings(batch, data, signature, sizes, offsets)
    if alike and batch.rows:
        cut = _cut(plan.reply_shape(signature), plan.rows, batch.rows, sizes, [offset - start for offset in offsets])
        plan.keep_cut(bytes(data[start : offsets[0]]), cut)
        return _messages_alike(len(jobs), cut, data, start)
    return _messages_mixed(batch, memoryview(data), signature, sizes, offsets)


def _reply_all(batch: Batch, messages: Iterable[bytes], now_s: float) -> None:
    """Durations are counted once for all requests that came in one read and belong to one series."""
    series, arrived_s, count = batch.jobs[0].series, -1.0, 0
    try:
        for job, message in zip(batch.jobs, messages, strict=True):
            call = job.call
            if call.closed:
                job.left(now_s)
                continue
            job.done = True
            call.reply(reply.id_field(job.id) + message if job.id else message, job.trailers)
            if call.arrived_s != arrived_s or job.series is not series:
                if count:
                    _count(series, count, arrived_s, batch.sent_s, now_s)
                series, arrived_s, count = job.series, call.arrived_s, 0
            count += 1
    finally:  # a later job may ask for an output that is not there
        if count:
            _count(series, count, arrived_s, batch.sent_s, now_s)


def _count(series: Series, count: int, arrived_s: float, sent_s: float, now_s: float) -> None:
    series.answered(count, int((now_s - arrived_s) * 1e6), int((sent_s - arrived_s) * 1e6))


def _cut(shape: ReplyShape, job_rows: int, batch_rows: int, sizes: list[int], offsets: list[int]) -> Cut:
    """How results like this one are cut for requests of one plan; offsets from the start of the section."""
    _check_sizes(shape, job_rows, sizes, batch_rows)
    columns = [
        (prefix, cell, offsets[output], offsets[output] + sizes[output])
        for (output, prefix, _), cell in zip(shape.parts, shape.cells, strict=True)
    ]
    return Cut(shape.head, batch_rows, offsets[-1] + sizes[-1], tuple(columns))


def _messages_alike(count: int, cut: Cut, data: Data, start: int) -> Iterable[bytes]:
    """The replies to so many jobs of one plan: every tensor is cut into equal cells, and rows of cells are joined."""
    view = memoryview(data)
    columns: list[Iterable[bytes]] = [repeat(cut.head, count)]
    for prefix, cell, begin, end in cut.columns:
        columns.append(repeat(prefix))
        if cell.size:
            columns.append([row for (row,) in cell.iter_unpack(view[start + begin : start + end])])
        else:
            columns.append(repeat(b""))
    return map(b"".join, zip(*columns, strict=False))


def _messages_mixed(
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
