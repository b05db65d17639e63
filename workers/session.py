"""One ONNX Runtime session: loading it with an error worth reading, and running it."""

import ctypes
import re
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort

from workers.errors import FrameError, LoadFailed, ModelFailed, Refused, place
from workers.tensors import DATATYPES, DTYPES, Array, Tensor

FATAL: Final = 4
"""ONNX Runtime's log severity. Errors reach whom they concern as exceptions; on stderr a client could flood the log."""
ONNX_BF16: Final = 16
"""TensorProto.BFLOAT16"""
MAX_TEXT: Final = 500
"""Characters of one error."""

_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (Load model from .*? failed:)?")
_PLACE = re.compile(r"(/\S+/)?[\w-]+\.(cc|h):\d+ (\w+( [\w:]+)*[\w:~<>]*\([^)]*\)( const)? |\w+ )")
_NODE = re.compile(r"Non-zero status code returned while running (\w+) node\. Name:'(.*?)' Status Message: ")
_ADVICE = " Please fix either the inputs/outputs or the model."
_ALLOCATION = re.compile(r"(?:(node \w+ '.*?'): )?.*Failed to allocate memory for requested buffer of size (\d+)")
_SHAPES = re.compile(r"\b(shapes?|reshaped?|broadcast\w*|dimensions?|rank)\b", re.IGNORECASE)


class Model:
    """A loaded model. `inputs` and `outputs` are what its file declares."""

    def __init__(self, session: Any, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self._session = session
        self._names = [output.name for output in outputs]
        self._has_bf16 = any(tensor.datatype == "BF16" for tensor in (*inputs, *outputs))

    def run(self, feed: Mapping[str, Array]) -> list[Array]:
        """All outputs, in the model's order, row-major. Raises Refused or ModelFailed with one line for the caller."""
        try:
            if self._has_bf16:
                return self._run_bf16(feed)
            arrays: list[Array] = self._session.run(self._names, feed)
        except Exception as error:  # ONNX Runtime's errors have no other base class
            raise explain_run(error) from error
        return arrays

    def _run_bf16(self, feed: Mapping[str, Array]) -> list[Array]:
        """Through OrtValues: numpy has no BF16, ONNX Runtime takes and gives its bits."""
        values = {
            name: ort.OrtValue.ortvalue_from_numpy_with_onnx_type(feed[name], ONNX_BF16)
            if datatype == "BF16"
            else ort.OrtValue.ortvalue_from_numpy(feed[name])
            for name, datatype, _ in self.inputs
        }
        results = self._session.run_with_ort_values(self._names, values)
        return [
            _bits(value) if output.datatype == "BF16" else value.numpy()
            for output, value in zip(self.outputs, results, strict=True)
        ]


def load(path: Path, threads: int, *, hoards: bool = True) -> Model:
    """Loads a model for the CPU. Raises LoadFailed with one line naming the file and the remedy.

    hoards: ONNX Runtime keeps the memory of a run for the next one. Where memory is limited it must not: after one
    request too many its arena asks for twice that much again and again, until it holds all that is left.
    """
    _check_file(path)
    options = ort.SessionOptions()
    options.log_severity_level = FATAL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = threads
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.enable_cpu_mem_arena = hoards
    options.enable_mem_pattern = False  # plans memory for one shape; batches change theirs all the time
    # Spinning threads would burn the cores that proxies and other workers need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    ort.set_default_logger_severity(FATAL)
    try:
        # No fallback: it would print to stdout and try the same once more.
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:  # ONNX Runtime's errors have no other base class
        raise LoadFailed(explain_load(path, error)) from error
    inputs = [_declared(path, "input", node) for node in session.get_inputs()]
    outputs = [_declared(path, "output", node) for node in session.get_outputs()]
    if not outputs:
        raise LoadFailed(f"{place(path)}: the model has no output; export it again")
    if any(tensor.datatype == "BF16" for tensor in (*inputs, *outputs)) and not _serves_bf16():
        raise LoadFailed(
            f"{place(path)}: BF16 needs a newer onnxruntime than {ort.__version__}; upgrade it or export with FP32"
        )
    return Model(session, inputs, outputs)


def explain_load(path: Path, error: Exception) -> str:
    """One line for whoever deployed the model: what is wrong with the file, and the remedy."""
    where = place(path)
    text = str(error)
    for folder in {path.parent, path.parent.resolve()}:
        text = text.replace(f"{folder}/", f"{Path(where).parent}/")
    text = one_line(text).removesuffix(".")
    for sign, remedy in (
        ("Protobuf parsing failed", "not an ONNX model, or truncated; copy or export it again"),
        ("No graph was found", "not an ONNX model, or truncated; copy or export it again"),
        ("onnx opset versions", "export with an opset this onnxruntime knows, or upgrade onnxruntime"),
        ("Unsupported model IR version", "export with an older onnx package, or upgrade onnxruntime"),
        ("External data path does not exist", "copy the model's external data file next to it"),
        ("xternal", "copy the model's external data again, whole"),
        ("No Op registered", "only ONNX Runtime's own operators are served; export without custom ones"),
        ("No opset import for domain", "only ONNX Runtime's own operators are served; export without custom ones"),
        ("Could not find an implementation", "export with a datatype or opset the CPU provider implements"),
        ("ermission denied", "make the file readable for the user Cutover runs as"),
    ):
        if sign in text:
            return f"{where}: {text}: {remedy}"
    return f"{where}: {text}: check the model with onnx.checker and export it again"


def explain_run(error: Exception) -> FrameError:
    """What a failed run means for the caller: its input was refused, or the model failed."""
    name = type(error).__name__
    text = one_line(str(error))
    if isinstance(error, MemoryError) or "bad_alloc" in text:
        return ModelFailed("the model failed: out of memory")
    if found := _ALLOCATION.match(text):
        return ModelFailed(f"the model failed: out of memory: {found[1] or 'it'} asked for {found[2]} bytes")
    if name in {"InvalidArgument", "ValueError"} or (name in {"Fail", "RuntimeException"} and _SHAPES.search(text)):
        return Refused(f"the model refuses the input: {text}")
    return ModelFailed(f"the model failed: {text or name}")


def one_line(text: str) -> str:
    """ONNX Runtime's text without error numbers and places in its source, on one line."""
    text = _PREFIX.sub("", " ".join(text.split()))
    text = _NODE.sub(lambda found: f"node {found[1]} '{found[2]}': ", text).replace(_ADVICE, "")
    text = _PLACE.sub("", text).strip()
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def _check_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise LoadFailed(f"{place(path)}: is a directory; put the model there as a file")
        with path.open("rb") as file:
            if not file.read(1):
                raise LoadFailed(f"{place(path)}: is empty; copy or export the model again")
    except FileNotFoundError as error:
        raise LoadFailed(f"{place(path)}: no such file; export the model to this path") from error
    except OSError as error:
        raise LoadFailed(
            f"{place(path)}: {error.strerror}; make it a file the user Cutover runs as can read"
        ) from error


def _declared(path: Path, what: str, node: Any) -> Tensor:
    datatype = DATATYPES.get(node.type)
    if datatype:
        shape = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in node.shape)
        return Tensor(node.name, datatype, shape)
    if node.type.startswith("seq(map("):
        remedy = "export the model with options={'zipmap': False}"
    elif node.type.startswith("tensor("):
        remedy = "export with a datatype the Open Inference Protocol has"
    else:
        remedy = "export the model with tensors only"
    raise LoadFailed(f"{place(path)}: {what} '{node.name}' is {node.type}, which no request can carry; {remedy}")


def _serves_bf16() -> bool:
    return hasattr(ort.OrtValue, "ortvalue_from_numpy_with_onnx_type")


def _bits(value: Any) -> Array:
    """A copy of a BF16 OrtValue's bits."""
    shape = tuple(value.shape())
    dtype = DTYPES["BF16"]
    data = ctypes.string_at(value.data_ptr(), prod(shape) * dtype.itemsize)
    return np.frombuffer(data, dtype).reshape(shape)
