"""Arrays as the Open Inference Protocol writes them: little-endian, row-major, no padding; BYTES with u32 lengths."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # the upper half of an FP32; numpy has no such type
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(np.object_),
}


class RowsError(ValueError):
    """The rows do not fit the model; one line."""


@dataclass(frozen=True)
class TensorSpec:
    """One input as ModelMetadata describes it. `batched`: the first axis counts rows and may be of any length."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    """-1: any size."""
    batched: bool

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of one row."""
        return self.shape[1:] if self.batched else self.shape

    def __str__(self) -> str:
        return f"{self.name!r} {self.datatype} {list(self.shape)}"


def specs(inputs: Sequence[Any]) -> tuple[TensorSpec, ...]:
    """The inputs of a ModelMetadataResponse. Raises RowsError for a data type nobody knows."""
    batched = all(len(tensor.shape) > 0 and tensor.shape[0] == -1 for tensor in inputs)
    for tensor in inputs:
        if tensor.datatype not in _DTYPES:
            raise RowsError(f"input {tensor.name!r} has the unknown data type {tensor.datatype!r}")
    return tuple(TensorSpec(tensor.name, tensor.datatype, tuple(tensor.shape), batched) for tensor in inputs)


def fit(values: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    """`values` (rows first) with the dtype and row shape of `spec`. Raises RowsError when a number would change."""
    values = np.asarray(values)
    if values.ndim == 1 and spec.row_shape == (1,):
        values = values.reshape(-1, 1)
    row_shape = values.shape[1:]
    same_rank = values.ndim >= 1 and len(row_shape) == len(spec.row_shape)
    if not same_rank or any(want not in (-1, got) for want, got in zip(spec.row_shape, row_shape, strict=True)):
        raise RowsError(f"{spec} takes rows of shape {list(spec.row_shape)}, the file has {list(row_shape)}")
    if spec.datatype == "BYTES":
        return _texts(values, spec)
    if values.dtype.kind in "SU":
        values = _parse(values, spec)
    if values.dtype.kind not in "biuf":
        raise RowsError(f"{spec} cannot be read from {values.dtype} values")
    return _numbers(values, spec)


def raw(row: NDArray[Any], spec: TensorSpec) -> bytes:
    """The bytes of one row."""
    if spec.datatype == "BYTES":
        return b"".join(struct.pack("<I", len(item)) + item for item in np.ravel(row).tolist())
    return np.ascontiguousarray(row).tobytes()


def random(spec: TensorSpec, count: int, source: np.random.Generator) -> NDArray[Any]:
    """`count` rows of random values; axes of any size get the size 1."""
    shape = (count, *(1 if size == -1 else size for size in spec.row_shape))
    if spec.datatype == "BYTES":
        return np.array([f"text {number}" for number in source.integers(0, 1000, shape).ravel()]).reshape(shape)
    if spec.datatype in ("FP16", "BF16", "FP32", "FP64"):
        return source.standard_normal(shape)
    return source.integers(0, 2 if spec.datatype == "BOOL" else 10, shape)


def _texts(values: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    if values.dtype.kind not in "SU":
        raise RowsError(f"{spec} takes text, the file has {values.dtype} values")
    encoded = np.empty(values.size, dtype=np.object_)
    encoded[:] = [item.encode() if isinstance(item, str) else item for item in values.ravel().tolist()]
    return encoded.reshape(values.shape)


def _parse(values: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    whole = spec.datatype.startswith(("INT", "UINT"))
    try:
        return values.astype("u8" if spec.datatype == "UINT64" else "i8" if whole else "f8")
    except (ValueError, OverflowError) as error:
        raise RowsError(f"{spec}: {error}") from error


def _numbers(values: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    if spec.datatype == "BF16":
        return _bfloat16(values.astype("<f4"))
    dtype = _DTYPES[spec.datatype]
    if values.dtype == dtype:
        return values
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            fitted = values.astype(dtype)
        lossless = bool(np.array_equal(np.isfinite(fitted), np.isfinite(values)))
    else:
        with np.errstate(invalid="ignore"):
            fitted = values.astype(dtype)
        # Compared as Python sees them: a cast back would wrap the same way and hide the change.
        lossless = bool(np.array_equal(fitted.astype(object), values.astype(object)))
    if not lossless:
        raise RowsError(f"{spec} cannot hold every number of the file ({values.dtype})")
    return fitted


def _bfloat16(values: NDArray[np.float32]) -> NDArray[Any]:
    """Rounded to nearest, ties to even; NaN stays NaN."""
    bits = values.view("<u4").astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), 0x7FC0, rounded).astype("<u2")
