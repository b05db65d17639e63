"""Small ONNX models for tests. Every function returns a serialized model; `save` puts one into a models directory.

Datatypes are the protocol's words (FP32, BYTES...); -1 in a shape: any size. All models are deterministic.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET: Final = 20
IR_VERSION: Final = 9
CRASH: Final = -1
"""The row on which `crasher` kills its process."""
FAIL: Final = 0
"""The row which `crasher` answers with an error."""

ELEMENT_TYPES: Final[dict[str, int]] = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}

Info = tuple[str, str, tuple[int, ...]]
"""Name, datatype and shape of an input or output."""


def save(models: Path, model: str, version: int, content: bytes) -> Path:
    """Writes `models/<model>/<version>/model.onnx` and returns its path."""
    path = models / model / str(version) / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def identity(datatype: str = "FP32", shape: tuple[int, ...] = (-1, 3)) -> bytes:
    """Y = X."""
    return _model([helper.make_node("Identity", ["X"], ["Y"])], [("X", datatype, shape)], [("Y", datatype, shape)])


def two_inputs() -> bytes:
    """SUM = A + B over FP32 [-1,2], and LENGTHS = B's row sums: more than one input and output."""
    nodes = [
        helper.make_node("Add", ["A", "B"], ["SUM"]),
        helper.make_node("ReduceSum", ["B", "axes"], ["LENGTHS"], keepdims=0),
    ]
    pair = (-1, 2)
    return _model(
        nodes,
        [("A", "FP32", pair), ("B", "FP32", pair)],
        [("SUM", "FP32", pair), ("LENGTHS", "FP32", (-1,))],
        axes=np.array([1], np.int64),
    )


def constant(value: int, features: int = 4) -> bytes:
    """value INT64 [-1]: the same number for every row of X FP32 [-1,features]; tells versions apart."""
    nodes = [
        helper.make_node("ReduceSum", ["X", "axes"], ["sums"], keepdims=0),
        helper.make_node("Mul", ["sums", "zero"], ["zeros"]),
        helper.make_node("Cast", ["zeros"], ["integers"], to=TensorProto.INT64),
        helper.make_node("Add", ["integers", "number"], ["value"]),
    ]
    return _model(
        nodes,
        [("X", "FP32", (-1, features))],
        [("value", "INT64", (-1,))],
        axes=np.array([1], np.int64),
        zero=np.float32(0),
        number=np.int64(value),
    )


def classifier(features: int = 30, classes: int = 2, seed: int = 0) -> bytes:
    """A linear classifier as scikit-learn exports one: X FP32 [-1,features] -> label INT64 [-1], probabilities FP32
    [-1,classes]. Other seeds have other weights.
    """
    random = np.random.default_rng(seed)
    nodes = [
        helper.make_node("Gemm", ["X", "weights", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0),
    ]
    return _model(
        nodes,
        [("X", "FP32", (-1, features))],
        [("label", "INT64", (-1,)), ("probabilities", "FP32", (-1, classes))],
        weights=random.normal(size=(features, classes)).astype(np.float32),
        bias=random.normal(size=classes).astype(np.float32),
    )


def regressor(features: int = 4, offset: float = 0.0) -> bytes:
    """Y FP32 [-1,1]: the row sums of X FP32 [-1,features] plus the offset."""
    nodes = [
        helper.make_node("ReduceSum", ["X", "axes"], ["sums"], keepdims=1),
        helper.make_node("Add", ["sums", "offset"], ["Y"]),
    ]
    return _model(
        nodes,
        [("X", "FP32", (-1, features))],
        [("Y", "FP32", (-1, 1))],
        axes=np.array([1], np.int64),
        offset=np.float32(offset),
    )


def slow(rounds: int = 100, size: int = 256, features: int = 4) -> bytes:
    """Y FP32 [-1,1] from X FP32 [-1,features], after `rounds` multiplications of a [size,size] matrix.

    Each run costs rounds * size**3 multiply-adds whatever its rows: 0.1 to 1 ms of one core per round of 256.
    """
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["state", "matrix"], ["product"]),
            helper.make_node("Tanh", ["product"], ["next_state"]),
            helper.make_node("Identity", ["go"], ["next_go"]),
        ],
        "round",
        [_info("round", "INT64", ()), _info("go", "BOOL", ()), _info("state", "FP32", (size, size))],
        [_info("next_go", "BOOL", ()), _info("next_state", "FP32", (size, size))],
    )
    nodes = [
        helper.make_node("ReduceMean", ["X", "axes"], ["means"], keepdims=1),
        helper.make_node("ReduceMean", ["means"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),  # a dependency on X: else the loop would be folded away
        helper.make_node("Add", ["matrix", "nothing"], ["start"]),
        helper.make_node("Loop", ["rounds", "go_on", "start"], ["end"], body=body),
        helper.make_node("ReduceMean", ["end"], ["level"], keepdims=0),
        helper.make_node("Mul", ["level", "zero"], ["level_nothing"]),
        helper.make_node("Add", ["means", "level_nothing"], ["Y"]),
    ]
    return _model(
        nodes,
        [("X", "FP32", (-1, features))],
        [("Y", "FP32", (-1, 1))],
        axes=np.array([1], np.int64),
        zero=np.float32(0),
        matrix=np.random.default_rng(0).normal(scale=size**-0.5, size=(size, size)).astype(np.float32),
        rounds=np.int64(rounds),
        go_on=np.bool_(True),
    )


def crasher() -> bytes:
    """Y INT64 [-1] = the smallest integer divided by X INT64 [-1].

    A row CRASH kills the process (the quotient overflows: SIGFPE on x86), a row FAIL makes the model raise, all other
    rows are answered.
    """
    nodes = [helper.make_node("Div", ["smallest", "X"], ["Y"])]
    return _model(nodes, [("X", "INT64", (-1,))], [("Y", "INT64", (-1,))], smallest=np.int64(-(2**63)))


def hungry() -> bytes:
    """Y INT64 [-1] = X INT64 [-1], after filling as many MiB of memory as the largest of them says."""
    nodes = [
        helper.make_node("ReduceMax", ["X"], ["most"], keepdims=1),
        helper.make_node("Mul", ["most", "numbers"], ["size"]),
        helper.make_node("ConstantOfShape", ["size"], ["zeros"], value=numpy_helper.from_array(np.zeros(1, np.int64))),
        helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        helper.make_node("Add", ["X", "sum"], ["Y"]),
    ]
    return _model(nodes, [("X", "INT64", (-1,))], [("Y", "INT64", (-1,))], numbers=np.array([1 << 17], np.int64))


def lookup(entries: int = 3) -> bytes:
    """Y FP32 [-1] = 10 * X for X INT64 [-1] in 0..entries-1; any other index makes the model raise (Gather)."""
    nodes = [helper.make_node("Gather", ["table", "X"], ["Y"])]
    table = np.arange(entries, dtype=np.float32) * 10
    return _model(nodes, [("X", "INT64", (-1,))], [("Y", "FP32", (-1,))], table=table)


def text_labels(*words: str) -> bytes:
    """Y INT64 [-1]: the position of X BYTES [-1] in `words`, -1 for any other text."""
    node = helper.make_node(
        "LabelEncoder",
        ["X"],
        ["Y"],
        domain="ai.onnx.ml",
        keys_strings=list(words),
        values_int64s=list(range(len(words))),
        default_int64=-1,
    )
    return _model([node], [("X", "BYTES", (-1,))], [("Y", "INT64", (-1,))])


def text_join() -> bytes:
    """Y BYTES [-1] = A + "/" + B, element by element."""
    nodes = [
        helper.make_node("StringConcat", ["A", "slash"], ["left"]),
        helper.make_node("StringConcat", ["left", "B"], ["Y"]),
    ]
    slash = np.array("/", dtype=object)
    texts: list[Info] = [(name, "BYTES", (-1,)) for name in "ABY"]
    return _model(nodes, texts[:2], texts[2:], slash=slash)


def scalar() -> bytes:
    """Y FP32 [] = 2 * X FP32 []: no axis at all."""
    return _model([helper.make_node("Add", ["X", "X"], ["Y"])], [("X", "FP32", ())], [("Y", "FP32", ())])


def normalizes_batch() -> bytes:
    """Y FP32 [-1,3] = X with each column brought to sum 1 by a softmax over axis 0: rows depend on each other."""
    nodes = [helper.make_node("Softmax", ["X"], ["Y"], axis=0)]
    return _model(nodes, [("X", "FP32", (-1, 3))], [("Y", "FP32", (-1, 3))])


def images(size: int = 224, seed: int = 0) -> bytes:
    """scores FP32 [-1,1000] of images X FP32 [-1,3,size,size]: a small convolutional network, a few ms for each."""
    random = np.random.default_rng(seed)
    channels = [(3, 32, 7, 2), (32, 64, 3, 2), (64, 96, 3, 2), (96, 128, 3, 1)]
    nodes, constants = [], {}
    value = "X"
    for layer, (before, after, kernel, stride) in enumerate(channels):
        scale = np.sqrt(2 / (before * kernel * kernel))
        constants[f"w{layer}"] = random.normal(0, scale, (after, before, kernel, kernel)).astype(np.float32)
        pads = [kernel // 2] * 4
        nodes.append(helper.make_node("Conv", [value, f"w{layer}"], [f"c{layer}"], strides=[stride] * 2, pads=pads))
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"]))
        value = f"r{layer}"
    nodes += [
        helper.make_node("GlobalAveragePool", [value], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("MatMul", ["features", "last"], ["scores"]),
    ]
    constants["last"] = random.normal(0, 0.1, (128, 1000)).astype(np.float32)
    return _model(nodes, [("X", "FP32", (-1, 3, size, size))], [("scores", "FP32", (-1, 1000))], **constants)


def repeats_rows() -> bytes:
    """Y FP32 [-1,3] = X FP32 [-1,3] twice, one below the other: the rows of the answer are not those of the request."""
    nodes = [helper.make_node("Concat", ["X", "X"], ["Y"], axis=0)]
    return _model(nodes, [("X", "FP32", (-1, 3))], [("Y", "FP32", (-1, 3))])


def inner_sum() -> bytes:
    """Y FP32 [-1] = the row sums of X FP32 [-1,-1]: a dynamic inner axis."""
    nodes = [helper.make_node("ReduceSum", ["X", "axes"], ["Y"], keepdims=0)]
    return _model(nodes, [("X", "FP32", (-1, -1))], [("Y", "FP32", (-1,))], axes=np.array([1], np.int64))


def zipmap() -> bytes:
    """A classifier exported without `zipmap: False`: one output is a sequence of maps, which no tensor can carry."""
    values = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, shape=None))
    output = helper.make_value_info("probabilities", helper.make_sequence_type_proto(values))
    node = helper.make_node("ZipMap", ["X"], ["probabilities"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])
    graph = helper.make_graph([node], "zipmap", [_info("X", "FP32", (-1, 2))], [output])
    return _serialized(graph)


def _info(name: str, datatype: str, shape: tuple[int, ...]) -> Any:
    """A tensor's declaration; each -1 becomes an axis with a name of its own, axis 0 is "n" everywhere."""
    axes = [("n" if axis == 0 else f"{name}_{axis}") if size < 0 else size for axis, size in enumerate(shape)]
    return helper.make_tensor_value_info(name, ELEMENT_TYPES[datatype], axes)


def _model(nodes: list[Any], inputs: list[Info], outputs: list[Info], **constants: NDArray[Any] | np.generic) -> bytes:
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(
        nodes, "model", [_info(*info) for info in inputs], [_info(*info) for info in outputs], tensors
    )
    return _serialized(graph)


def _serialized(graph: Any) -> bytes:
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    return bytes(model.SerializeToString())
