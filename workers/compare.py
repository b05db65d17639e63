"""Compares a shadow's answer with production's, row by row. Pure and vectorised.

A row agrees when every deciding output does: integers, booleans and texts by equality, floating-point outputs with a
last axis of more than one by their arg-max. Only where nothing decides (a regression) do rows agree when their numbers
are close.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.tensors import FLOATS, Array, Tensor, encoded_elements, widened

RELATIVE_TOLERANCE: Final = 1e-3
ABSOLUTE_TOLERANCE: Final = 1e-5


class Comparison(NamedTuple):
    """`rows` compared, of these `agreed`; `incomparable`: none was compared; the difference is over float outputs."""

    rows: int
    agreed: int
    incomparable: bool
    max_abs_difference: float


INCOMPARABLE: Final = Comparison(0, 0, True, 0.0)


class Given(NamedTuple):
    """Production's answer: any subset of its outputs. BYTES elements are bytes."""

    tensors: Mapping[str, Array]
    datatypes: Mapping[str, str]


def compare(
    outputs: Sequence[Tensor], arrays: Sequence[Array], given: Given, rows: int, *, batched: bool
) -> Comparison:
    """Compares this model's answer (`outputs` declare `arrays`) with production's to the same `rows` of input.

    Batched: axis 0 of every array is the rows. Else the whole answer is one row.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # differences may well be infinite
        return _compare(outputs, arrays, given, rows, batched)


def _compare(outputs: Sequence[Tensor], arrays: Sequence[Array], given: Given, rows: int, batched: bool) -> Comparison:
    mine = {output.name: (output.datatype, array) for output, array in zip(outputs, arrays, strict=True)}
    decided: list[NDArray[np.bool_]] = []
    close: list[NDArray[np.bool_]] = []
    largest = 0.0
    for name, theirs in given.tensors.items():
        datatype, array = mine.get(name, ("", None))
        if array is None or datatype != given.datatypes[name] or array.shape != theirs.shape:
            return INCOMPARABLE
        inner = array.shape[1:] if batched else array.shape
        if datatype not in FLOATS:
            decided.append(_all_equal(array, theirs, datatype, rows))
            continue
        a, b = (widened(side, datatype).reshape(rows, *inner) for side in (array, theirs))
        if inner and inner[-1] > 1:
            decided.append(_per_row(a.argmax(axis=-1) == b.argmax(axis=-1), rows))
        else:
            close.append(_per_row(np.isclose(a, b, RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE, equal_nan=True), rows))
        largest = max(largest, max_abs_difference(a, b))
    judges = decided or close
    if not judges:  # production sent no output at all
        return INCOMPARABLE
    return Comparison(rows, int(np.count_nonzero(np.logical_and.reduce(judges))), False, largest)


def max_abs_difference(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """The largest |a - b|. Equal infinities and pairs of NaN count 0, NaN or infinity against a number infinity."""
    if not a.size:
        return 0.0
    difference = np.abs(a - b)
    difference[(a == b) | (np.isnan(a) & np.isnan(b))] = 0.0
    difference[np.isnan(difference)] = np.inf
    return float(difference.max())


def _all_equal(array: Array, theirs: Array, datatype: str, rows: int) -> NDArray[np.bool_]:
    if datatype == "BYTES":
        array = np.array(encoded_elements(array), dtype=object).reshape(array.shape)
    return _per_row(array == theirs, rows)


def _per_row(elements: Array, rows: int) -> NDArray[np.bool_]:
    """Whether all elements of each row are true; a row without elements is."""
    if not elements.size:
        return np.ones(rows, np.bool_)
    return np.asarray(elements.reshape(rows, -1).all(axis=1))
