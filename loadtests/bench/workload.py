"""What the benches serve and send: models, and for each one framed request for h2load and the open-loop generator."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from loadtests.openloop.payload import framed
from protos import inference_pb2 as pb

MODEL: Final = "mlp"
CANDIDATE: Final = "1"
"""The version that is not released at first sight: the highest is."""
INPUT: Final = "X"
IR_VERSION: Final = 9
OPSET: Final = 17

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Workload:
    """One model, served from `models`, and one request of one row."""

    name: str
    models: Path
    onnx: Path
    payload: Path
    """The framed request."""
    row: Rows
    """Input X FP32, first axis 1."""

    @property
    def request(self) -> pb.ModelInferRequest:
        """The same request, to ask once and look at the answer."""
        return pb.ModelInferRequest.FromString(self.payload.read_bytes()[5:])


def classifier(folder: Path) -> Workload:
    """The 30-feature classifier; its payload is a real row."""
    make_models(folder)
    payload = folder / f"{MODEL}.payload"
    request = write_payload(payload)
    row = np.frombuffer(request.raw_input_contents[0], np.float32).reshape(1, 30)
    models = folder / "models"
    return Workload(MODEL, models, models / MODEL / "2" / "model.onnx", payload, row)


def make_models(folder: Path) -> Path:
    """Two versions of a 30-feature classifier (X FP32 [n,30] -> label INT64 [n], probabilities FP32 [n,2])."""
    from skl2onnx import to_onnx
    from sklearn.datasets import load_breast_cancer
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows, labels = load_breast_cancer(return_X_y=True)
    rows = rows.astype("float32")
    for version in (1, 2):
        model = make_pipeline(StandardScaler(), MLPClassifier((64, 32), max_iter=400, random_state=version))
        model.fit(rows, labels)
        path = folder / "models" / MODEL / str(version) / "model.onnx"
        path.parent.mkdir(parents=True)
        path.write_bytes(to_onnx(model, rows[:1], options={"zipmap": False}, target_opset=18).SerializeToString())
    return folder / "models" / MODEL / "1" / "model.onnx"


def write_payload(path: Path) -> pb.ModelInferRequest:
    """One gRPC-framed request (a real row) for h2load."""
    from sklearn.datasets import load_breast_cancer

    return _write(path, MODEL, load_breast_cancer().data[:1].astype("float32"))


NETWORKS: Final = {"convnet": (3, 32, 64, 128, 256), "convnet-light": (3, 8, 16, 32, 64)}
"""Channels before and after each convolution: a few ms of one core per row, and less than one."""


def convnet(folder: Path, name: str) -> Workload:
    """X FP32 [n,3,224,224] -> probabilities FP32 [n,10]: tensors as large as ResNet's, through one of NETWORKS."""
    from onnx import helper

    random = np.random.default_rng(0)
    widths = NETWORKS[name]
    nodes, weights, last = [], {}, INPUT
    for depth, (before, after) in enumerate(pairwise(widths)):
        kernel = 7 if depth == 0 else 3
        weights[f"kernel_{depth}"] = random.normal(scale=0.1, size=(after, before, kernel, kernel)).astype(np.float32)
        convolution = {"strides": [2, 2], "pads": [kernel // 2] * 4}
        nodes.append(helper.make_node("Conv", [last, f"kernel_{depth}"], [f"conv_{depth}"], **convolution))
        nodes.append(helper.make_node("Relu", [f"conv_{depth}"], [f"relu_{depth}"]))
        last = f"relu_{depth}"
    weights["matrix"] = random.normal(size=(widths[-1], 10)).astype(np.float32)
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["means"]),
        helper.make_node("Flatten", ["means"], ["features"]),
        helper.make_node("MatMul", ["features", "matrix"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    row = random.normal(size=(1, 3, 224, 224)).astype(np.float32)
    return _made(folder, name, (nodes, weights, "probabilities", [10]), row)


def fixed_cost(folder: Path, rounds: int, size: int = 192, settings: str = "") -> Workload:
    """X FP32 [n,30] -> Y FP32 [n,1], after `rounds` multiplications of a [size,size] matrix, whatever n is.

    settings: the text of its model.toml.
    """
    from onnx import helper

    weights: dict[str, NDArray[Any] | np.generic] = {
        "matrix": np.random.default_rng(0).normal(scale=size**-0.5, size=(size, size)).astype(np.float32),
        "zero": np.float32(0),
    }
    nodes = [  # depends on X: else everything would be folded into a constant
        helper.make_node("ReduceMean", [INPUT], ["means"], axes=[1], keepdims=1),
        helper.make_node("ReduceMean", ["means"], ["mean"], axes=[0], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["matrix", "nothing"], ["state_0"]),
    ]
    for step in range(rounds):
        nodes.append(helper.make_node("MatMul", [f"state_{step}", "matrix"], [f"product_{step}"]))
        nodes.append(helper.make_node("Tanh", [f"product_{step}"], [f"state_{step + 1}"]))
    nodes += [
        helper.make_node("ReduceMean", [f"state_{rounds}"], ["level"], keepdims=0),
        helper.make_node("Mul", ["level", "zero"], ["level_nothing"]),
        helper.make_node("Add", ["means", "level_nothing"], ["Y"]),
    ]
    made = _made(folder, "fixed", (nodes, weights, "Y", [1]), np.ones((1, 30), np.float32))
    (made.onnx.parent / "model.toml").write_text(settings)
    return made


Graph = tuple[list[Any], Mapping[str, NDArray[Any] | np.generic], str, list[int]]
"""Nodes, constants, name of the FP32 output and its row's shape."""


def _made(folder: Path, name: str, graph: Graph, row: Rows) -> Workload:
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants, output, shape = graph
    inputs = [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", *row.shape[1:]])]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", *shape])]
    tensors = [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()]
    opset = [helper.make_opsetid("", OPSET)]
    made = helper.make_graph(nodes, name, inputs, outputs, tensors)
    path = folder / f"{name}-models" / name / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(helper.make_model(made, opset_imports=opset, ir_version=IR_VERSION).SerializeToString())
    payload = folder / f"{name}.payload"
    _write(payload, name, row)
    return Workload(name, path.parents[2], path, payload, row)


def _write(path: Path, model: str, row: Rows) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=model, raw_input_contents=[row.tobytes()])
    request.inputs.add(name=INPUT, datatype="FP32", shape=row.shape)
    path.write_bytes(framed(request.SerializeToString()))
    return request
