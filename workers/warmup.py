"""Warm-up: runs a model on made-up inputs before it is ready, and finds out whether requests may be joined.

A dynamic axis 0 does not yet mean a batch: it may be a sequence, and a model may mix its rows. So joining is allowed
only where it was seen to change nothing: two rows together have to give what each gives alone.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from math import prod
from time import perf_counter_ns
from typing import Final, NamedTuple

import numpy as np

from workers.errors import FrameError
from workers.session import Model
from workers.tensors import DTYPES, FLOATS, Array, Tensor, widened

MAX_INPUT_BYTES: Final = 64 << 20
"""The largest made-up batch is cut to this."""
LARGE_RUNS: Final = 2
"""The largest batch is run so often, as the first run of a size is slow: what it costs is the shorter time."""
SLOW_US: Final = 1_000_000
"""Not when it takes longer than this: nobody should wait long for a model to become ready."""
INNER_SIZES: Final = (1, 16, 224)
"""Tried for dynamic inner axes; some models (convolutions) refuse 1."""

Feed = dict[str, Array]
Style = Callable[[Tensor, tuple[int, ...], int], Array]


class WarmUp(NamedTuple):
    """What warm-up found out.

    outputs: as declared, unknown ranks filled in. note: why not batched, else empty.
    costs: (rows, microseconds) of a single row, run before, and of the largest batch, where it was run.
    """

    batched: bool
    outputs: tuple[Tensor, ...]
    note: str
    costs: tuple[tuple[int, int], ...] = ()


def warm_up(model: Model, *, batching: bool, max_batch_size: int) -> WarmUp:
    """Runs the model on made-up rows. Never raises for what the model does with them."""
    try:
        style, inner, arrays = _first_accepted(model)
    except FrameError as error:
        return WarmUp(False, model.outputs, f"requests run one by one: warm-up inputs were refused: {error}")
    outputs = tuple(
        output if output.shape or not array.ndim else output._replace(shape=(-1,) * array.ndim)
        for output, array in zip(model.outputs, arrays, strict=True)
    )
    costs = [(1, _cost_us(model, _rows(model, style, inner, 0)))]
    if not batching:
        return WarmUp(False, outputs, "requests run one by one: batching is off", tuple(costs))
    obstacle = _fixed_axis(model.inputs, outputs) or _mixes_rows(model, style, inner, arrays)
    if not obstacle:
        obstacle, cost = _try_large(model, _rows(model, style, inner, 0), max_batch_size)
        costs.append(cost)
    if obstacle:
        return WarmUp(False, outputs, f"requests run one by one: {obstacle}", tuple(costs[:1]))
    return WarmUp(True, outputs, "", tuple(costs))


def _cost_us(model: Model, feed: Feed) -> int:
    """How long a run takes, whatever comes of it."""
    started_ns = perf_counter_ns()
    with suppress(FrameError):
        model.run(feed)
    return max(1, (perf_counter_ns() - started_ns) // 1000)


def _first_accepted(model: Model) -> tuple[Style, int, list[Array]]:
    """The first kind of made-up row the model accepts, and its answer. Raises the first refusal if it accepts none."""
    first: FrameError | None = None
    for style, inner in _attempts(model.inputs):
        try:
            return style, inner, model.run(_rows(model, style, inner, 0))
        except FrameError as error:
            first = first or error
    assert first is not None  # noqa: S101 - for the type checker: there is at least one attempt
    raise first


def _attempts(inputs: Sequence[Tensor]) -> Iterator[tuple[Style, int]]:
    dynamic = any(-1 in tensor.shape[1:] for tensor in inputs)
    for inner in INNER_SIZES if dynamic else INNER_SIZES[:1]:
        if sum(prod(_shape(tensor, inner)) for tensor in inputs) * 8 <= MAX_INPUT_BYTES or inner == INNER_SIZES[0]:
            yield _varied, inner
            yield _ones, inner
            yield _zeros, inner


def _shape(tensor: Tensor, inner: int) -> tuple[int, ...]:
    """The shape of one row."""
    return tuple((inner if axis else 1) if size < 0 else size for axis, size in enumerate(tensor.shape))


def _rows(model: Model, style: Style, inner: int, row: int) -> Feed:
    return {tensor.name: style(tensor, _shape(tensor, inner), row) for tensor in model.inputs}


def _varied(tensor: Tensor, shape: tuple[int, ...], row: int) -> Array:
    """Different in every row and column, and harmless: floats in [0, 1), texts of a digit, integers 1 or 2 (never 0
    or -1, which some models divide by).
    """
    if tensor.datatype == "BYTES":
        return np.full(shape, str(row), dtype=object)
    # Steps of the golden ratio spread evenly; numpy.random would cost start-up time and memory.
    spread = ((np.arange(prod(shape)) * 0.6180339887 + 0.25 + 0.5 * row) % 1.0).reshape(shape)
    if tensor.datatype == "BF16":
        return (spread.astype(np.float32).view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    if tensor.datatype in FLOATS:
        return spread.astype(DTYPES[tensor.datatype])
    halves = (spread * 2).astype(np.int64)
    return (halves if tensor.datatype == "BOOL" else halves + 1).astype(DTYPES[tensor.datatype])


def _ones(tensor: Tensor, shape: tuple[int, ...], row: int) -> Array:
    if tensor.datatype == "BYTES":
        return np.full(shape, "1", dtype=object)
    return np.full(shape, 0x3F80 if tensor.datatype == "BF16" else 1, DTYPES[tensor.datatype])


def _zeros(tensor: Tensor, shape: tuple[int, ...], row: int) -> Array:
    if tensor.datatype == "BYTES":
        return np.full(shape, "", dtype=object)
    return np.zeros(shape, DTYPES[tensor.datatype])


def _fixed_axis(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> str:
    """The first tensor that has no dynamic axis 0, in words; empty if all have one."""
    if not inputs:
        return "the model has no input"
    for what, tensors in (("input", inputs), ("output", outputs)):
        for tensor in tensors:
            if not tensor.shape or tensor.shape[0] != -1:
                return f"{what} '{tensor.name}' has no dynamic first axis"
    return ""


def _mixes_rows(model: Model, style: Style, inner: int, first: list[Array]) -> str:
    """How two rows together differ from the same rows alone, in words; empty if they do not."""
    feeds = [_rows(model, style, inner, row) for row in (0, 1)]
    try:
        second = model.run(feeds[1])
        both = model.run({name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]})
    except FrameError as error:
        return f"two rows at once were refused: {error}"
    for output, alone, other, joined in zip(model.outputs, first, second, both, strict=True):
        if alone.shape[:1] != (1,) or other.shape[:1] != (1,) or joined.shape[:1] != (2,):
            return f"the first axis of output '{output.name}' is not the input's rows"
        if joined.shape[1:] != alone.shape[1:] or other.shape[1:] != alone.shape[1:]:
            return f"the shape of output '{output.name}' depends on its rows"
        if not _alike(output.datatype, joined, np.concatenate([alone, other])):
            return f"output '{output.name}' of a row depends on the other rows of its batch"
    return ""


def _alike(datatype: str, a: Array, b: Array) -> bool:
    if datatype not in FLOATS:
        return bool(np.array_equal(a, b))
    coarse = datatype in {"FP16", "BF16"}
    relative, absolute = (2e-2, 1e-2) if coarse else (1e-3, 1e-5)
    return bool(np.allclose(widened(a, datatype), widened(b, datatype), relative, absolute, equal_nan=True))


def _try_large(model: Model, one: Feed, max_batch_size: int) -> tuple[str, tuple[int, int]]:
    """Runs the largest batch: (how that fails, in words, or empty; its rows and microseconds)."""
    row_bytes = sum(array.nbytes for array in one.values())
    rows = max(2, min(max_batch_size, MAX_INPUT_BYTES // max(1, row_bytes)))
    feed = {name: np.repeat(array, rows, axis=0) for name, array in one.items()}
    obstacle, took_us = "", 0
    for _ in range(LARGE_RUNS):
        started_ns = perf_counter_ns()
        obstacle = _fails_large(model, feed, rows)
        run_us = max(1, (perf_counter_ns() - started_ns) // 1000)
        took_us = min(took_us or run_us, run_us)
        if obstacle or run_us > SLOW_US:
            break
    return obstacle, (rows, took_us)


def _fails_large(model: Model, feed: Feed, rows: int) -> str:
    try:
        arrays = model.run(feed)
    except FrameError as error:
        return f"a batch of {rows} rows was refused: {error}"
    for output, array in zip(model.outputs, arrays, strict=True):
        if array.shape[:1] != (rows,):
            return f"the first axis of output '{output.name}' is not the input's rows"
    return ""
