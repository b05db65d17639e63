"""What the requests carry: rows of a file, checked against the model's metadata, or numbers made up from it.

`.npz` holds one array per input, `.npy` the array of a model with one input, `.jsonl` one object per row with a key per
input, `.csv` one row per line: the features of a model with one input (header optional), or one named column per input.
The first axis of an array counts rows. Text formats are read as the model's data type.
"""

import csv
import json
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadtests import tensors
from loadtests.tensors import RowsError, TensorSpec
from protos.inference_pb2 import ModelInferRequest

MAX_ROWS = 10_000
"""Rows beyond this many are left out: requests are built once, before the load starts."""
SYNTHETIC_ROWS = 256

_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*|\s*[-+]?(nan|inf)\s*", re.IGNORECASE)

Columns = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Rows:
    """One array per input, the first axis counting rows, dtypes and shapes as the model wants them."""

    columns: Columns
    count: int
    source: str
    """The file's name, or why the numbers are made up."""
    synthetic: bool


def load(path: Path, inputs: Sequence[TensorSpec]) -> Rows:
    """The rows of a file. Raises RowsError with one line that names the file, the input and the remedy."""
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise RowsError(f"{path}: rows are read from {', '.join(sorted(_READERS))} files")
    try:
        found = reader(path, inputs)
        columns = {spec.name: tensors.fit(found[spec.name], spec) for spec in _same_names(found, inputs)}
    except OSError as error:
        raise RowsError(f"cannot read the rows {path}: {error.strerror or error}") from error
    except (RowsError, ValueError, zipfile.BadZipFile) as error:
        raise RowsError(f"{path}: {str(error).splitlines()[0]}") from error
    counts = {len(column) for column in columns.values()}
    if len(counts) != 1:
        raise RowsError(f"{path}: the inputs have different numbers of rows: {', '.join(map(str, sorted(counts)))}")
    count = min(MAX_ROWS, counts.pop())
    if not count:
        raise RowsError(f"{path} has no rows")
    return Rows({name: column[:count] for name, column in columns.items()}, count, str(path), synthetic=False)


def synthesize(inputs: Sequence[TensorSpec], seed: int) -> Rows:
    """Rows made up from the metadata alone: random numbers of the right types and shapes, which no user ever sent."""
    source = np.random.default_rng(seed)
    columns = {spec.name: tensors.fit(tensors.random(spec, SYNTHETIC_ROWS, source), spec) for spec in inputs}
    return Rows(columns, SYNTHETIC_ROWS, "made up from the model's metadata", synthetic=True)


def requests(model: str, inputs: Sequence[TensorSpec], rows: Rows) -> list[ModelInferRequest]:
    """One request per row, tensors as raw bytes."""
    made = []
    for row in range(rows.count):
        request = ModelInferRequest(model_name=model)
        for spec in inputs:
            value = rows.columns[spec.name][row]
            shape = (1, *value.shape) if spec.batched else value.shape
            request.inputs.add(name=spec.name, datatype=spec.datatype, shape=shape)
            request.raw_input_contents.append(tensors.raw(value, spec))
        made.append(request)
    return made


def _same_names(found: Columns, inputs: Sequence[TensorSpec]) -> Sequence[TensorSpec]:
    wanted = {spec.name for spec in inputs}
    problems = [f"no input {name!r}" for name in sorted(wanted - set(found))]
    problems += [f"{name!r} is not an input of the model" for name in sorted(set(found) - wanted)]
    if problems:
        raise RowsError(f"{'; '.join(problems)}; the model takes {', '.join(map(str, inputs))}")
    return inputs


def _read_npz(path: Path, inputs: Sequence[TensorSpec]) -> Columns:
    with np.load(path, allow_pickle=False) as archive:
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise RowsError("not an .npz archive")
        return {name: archive[name] for name in archive.files}


def _read_npy(path: Path, inputs: Sequence[TensorSpec]) -> Columns:
    loaded = np.load(path, allow_pickle=False)
    if not isinstance(loaded, np.ndarray):
        raise RowsError("not an .npy array")
    return {_only(inputs, ".npz with one array per input").name: loaded}


def _read_csv(path: Path, inputs: Sequence[TensorSpec]) -> Columns:
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = [line for line in csv.reader(file) if line]
    if not lines:
        raise RowsError("the file is empty")
    for number, line in enumerate(lines, 1):
        if len(line) != len(lines[0]):
            raise RowsError(f"row {number} has {len(line)} fields, the first has {len(lines[0])}")
    header = None if all(_NUMBER.fullmatch(cell) for cell in lines[0]) else lines.pop(0)
    if not lines:
        raise RowsError("nothing but a header line")
    table = np.array(lines, dtype=np.str_)
    if header is not None and (len(inputs) > 1 or header == [inputs[0].name]):
        return {name.strip(): table[:, column] for column, name in enumerate(header)}
    only = _only(inputs, "a header line that names the inputs")
    if len(only.row_shape) == 1 and only.row_shape[0] not in (-1, table.shape[1]):
        raise RowsError(f"{table.shape[1]} columns, but {only} takes {only.row_shape[0]}; is there a label column?")
    return {only.name: table if only.row_shape else table[:, 0]}


def _read_jsonl(path: Path, inputs: Sequence[TensorSpec]) -> Columns:
    found: dict[str, list[NDArray[Any]]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise RowsError(f"line {number} is not JSON: {error}") from error
        if not isinstance(row, dict) or (found and row.keys() != found.keys()):
            raise RowsError(f"line {number} is not an object with the same keys as the first")
        for name, value in row.items():
            found.setdefault(name, []).append(_json_array(name, value, number))
    try:
        return {name: np.stack(values) for name, values in found.items()}
    except ValueError as error:
        raise RowsError(f"rows have different shapes: {error}") from error


def _json_array(name: str, value: object, number: int) -> NDArray[Any]:
    try:
        array = np.array(value)
    except ValueError as error:
        raise RowsError(f"line {number}: {name!r} is ragged") from error
    if array.dtype == np.object_:
        raise RowsError(f"line {number}: {name!r} holds something that is neither number, text nor truth value")
    return array


def _only(inputs: Sequence[TensorSpec], instead: str) -> TensorSpec:
    if len(inputs) != 1:
        raise RowsError(f"the model has {len(inputs)} inputs; use {instead}")
    return inputs[0]


_READERS: dict[str, Callable[[Path, Sequence[TensorSpec]], Columns]] = {
    ".npz": _read_npz,
    ".npy": _read_npy,
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
}
