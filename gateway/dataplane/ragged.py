"""Requests whose last axes differ, joined all the same: inputs are padded with zeros, answers are cut back. Pure.

Only where a version's settings say so (`pad_ragged`): the model must not mind zeros behind the last element, as models
do that take a mask, or whose padding is zero. Only last axes are padded that lie between the same two powers of two, so
that no more than half of what is run is padding. Triton leaves this to its backends ("ragged batching").
"""

import json
from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.oip.contents import ELEMENT_BYTES
from gateway.oip.request import Input, Raw
from gateway.routing.snapshot import Pool

if TYPE_CHECKING:
    from gateway.dataplane.job import Job

UNPADDED: Final = -1
SHORT_RUN_BYTES: Final = 64
"""Shorter runs are moved byte by byte, of all runs at once; from here on that is no faster, as measured."""


class Last(NamedTuple):
    """The last axis of one input of one request. width: its size, or UNPADDED; element_bytes: of one element."""

    width: int
    element_bytes: int


def last_axes(inputs: Sequence[Input], pool: Pool) -> tuple[Last, ...]:
    """Of every input in the model's order; empty where nothing is padded.

    Texts have no zero, and rows of texts no common size: neither inputs nor outputs may be BYTES then.
    """
    if not (pool.queueing.pad_ragged and pool.batched):
        return ()
    if any(tensor.datatype == "BYTES" for tensor in (*pool.inputs, *pool.outputs)):
        return ()
    found = tuple(
        Last(
            given.shape[-1] if len(spec.shape) > 1 and spec.shape[-1] == -1 else UNPADDED, ELEMENT_BYTES[spec.datatype]
        )
        for given, spec in zip(inputs, pool.inputs, strict=True)
    )
    return found if any(last.width != UNPADDED for last in found) else ()


def joins(inputs: Sequence[Input], lasts: Sequence[Last]) -> bytes:
    """The same for requests that may be joined."""
    described = []
    for tensor, last in zip(inputs, lasts, strict=True):
        inner = list(tensor.shape[1:])
        if last.width != UNPADDED:
            inner[-1] = -(last.width - 1).bit_length() if last.width > 1 else -last.width
        described.append([tensor.name, tensor.datatype, inner])
    return b"ragged " + json.dumps(described).encode()


class Padded:
    """A batch of jobs with different last axes.

    signature: of the wire section; tensors: of every job, padded, in the model's order.
    """

    __slots__ = ("_widths", "signature", "tensors")

    def __init__(self, jobs: Sequence["Job"]) -> None:
        lasts = [job.plan.lasts for job in jobs]
        self._widths = [max(last.width for last in column) for column in zip(*lasts, strict=True)]
        entries = json.loads(jobs[0].plan.signature)
        for entry, width in zip(entries, self._widths, strict=True):
            if width != UNPADDED:
                entry[2][-1] = width
        self.signature = json.dumps(entries, separators=(",", ":")).encode()
        self.tensors: list[list[Raw]] = [
            [
                _pad(tensor, last.width * last.element_bytes, width * last.element_bytes)
                for tensor, last, width in zip(job.tensors, job.plan.lasts, self._widths, strict=True)
            ]
            for job in jobs
        ]

    def own(self, job: "Job", signature: bytes, pool: Pool) -> tuple[bytes, tuple[tuple[int, ...], ...]]:
        """The signature of the outputs as they are for one job alone, and for each which axes are cut to which size.

        An axis is cut when the model declares it dynamic, and it is as long as a last axis was padded to be. Cuts are
        the inner shape of the output, with the job's own sizes.
        """
        sizes = {
            width: last.width
            for width, last in zip(reversed(self._widths), reversed(job.plan.lasts), strict=True)
            if width != UNPADDED
        }
        entries, cuts = json.loads(signature), []
        declared = {spec.name: spec.shape[1:] for spec in pool.outputs}
        for entry in entries:
            dynamic = declared.get(entry[0], ())
            if len(dynamic) == len(entry[2]):
                entry[2] = [
                    sizes.get(size, size) if axis == -1 else size for size, axis in zip(entry[2], dynamic, strict=True)
                ]
            cuts.append(tuple(entry[2]))
        return json.dumps(entries, separators=(",", ":")).encode(), tuple(cuts)


def _pad(raw: Raw, own_bytes: int, width_bytes: int) -> Raw:
    """Every run of `own_bytes`, followed by zeros up to `width_bytes`. A tensor of no elements has nothing to pad."""
    if own_bytes == width_bytes or width_bytes < 0:
        return raw
    return _runs(raw, own_bytes, own_bytes, width_bytes)


def cut(raw: Raw, shape: Sequence[int], own: Sequence[int], element_bytes: int) -> Raw:
    """The first `own` sizes of every axis of a row-major tensor of this shape."""
    if tuple(shape) == tuple(own):
        return raw
    for axis in range(len(shape) - 1, -1, -1):
        if shape[axis] != own[axis]:
            inner_bytes = prod(own[axis + 1 :]) * element_bytes
            chunk_bytes, kept_bytes = shape[axis] * inner_bytes, own[axis] * inner_bytes
            raw = _runs(raw, chunk_bytes, kept_bytes, kept_bytes)
    return raw


def _runs(raw: Raw, chunk_bytes: int, kept_bytes: int, width_bytes: int) -> bytes:
    """The first `kept_bytes` of every chunk, each followed by zeros up to `width_bytes`."""
    chunks = len(raw) // chunk_bytes if chunk_bytes else 0
    way = _byte_by_byte if kept_bytes < min(chunks, SHORT_RUN_BYTES) else _run_by_run
    return way(raw, chunk_bytes, kept_bytes, width_bytes)


def _run_by_run(raw: Raw, chunk_bytes: int, kept_bytes: int, width_bytes: int) -> bytes:
    runs: list[Raw] = [raw[at : at + kept_bytes] for at in range(0, len(raw), chunk_bytes)]
    return bytes(width_bytes - kept_bytes).join([*runs, b""])


def _byte_by_byte(raw: Raw, chunk_bytes: int, kept_bytes: int, width_bytes: int) -> bytes:
    """The first byte of all runs at once, then the second. Raises ValueError for a part of a chunk, as of garbage."""
    raw = bytes(raw)  # of other views, strides are slow
    found = bytearray(len(raw) // chunk_bytes * width_bytes)
    for at in range(kept_bytes):
        found[at::width_bytes] = raw[at::chunk_bytes]
    return bytes(found)
