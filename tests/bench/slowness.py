"""A small classifier and a version of it that takes fifty times as long for the same answers."""

import os
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from protos import inference_pb2 as pb

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when onnxruntime is imported

MODEL: Final = "classifier"
PRODUCTION: Final = 2
"""The highest version is released at first sight."""
SLOW: Final = 1
TIMES: Final = 50
FEATURES: Final = 30
_WIDTH: Final = 128
_PROBE: Final = 48
_RUNS: Final = 300
_ROWS: Final = 16
"""Of the batch whose time is compared: what 64 requests in flight are commonly joined to."""


def classifier(burden: int) -> bytes:
    """X FP32 [n,30] -> label INT64 [n], probabilities FP32 [n,2]; a burden of so many layers changes no answer."""
    random = np.random.default_rng(7)

    def weights(rows: int, columns: int) -> Any:
        return random.normal(scale=rows**-0.5, size=(rows, columns)).astype(np.float32)

    constants = {"first": weights(FEATURES, 64), "second": weights(64, 32), "third": weights(32, 2)}
    constants["zero"] = np.zeros(1, np.float32)
    nodes = [
        helper.make_node("MatMul", ["X", "first"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "second"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("MatMul", ["d", "third"], ["small"]),
    ]
    if burden:
        constants |= {"wide": weights(FEATURES, _WIDTH), "narrow": weights(_WIDTH, 2)}
        nodes.append(helper.make_node("MatMul", ["X", "wide"], ["r0"]))
        for layer in range(burden):
            constants[f"w{layer}"] = weights(_WIDTH, _WIDTH)
            nodes.append(helper.make_node("MatMul", [f"r{layer}", f"w{layer}"], [f"m{layer}"]))
            nodes.append(helper.make_node("Tanh", [f"m{layer}"], [f"r{layer + 1}"]))
        nodes.append(helper.make_node("MatMul", [f"r{burden}", "narrow"], ["large"]))
        nodes.append(helper.make_node("Mul", ["large", "zero"], ["nothing"]))
    nodes.append(helper.make_node("Add", ["small", "nothing" if burden else "zero"], ["logits"]))
    nodes.append(helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1))
    nodes.append(helper.make_node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0))
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "classifier",
        [info("X", TensorProto.FLOAT, ["n", FEATURES])],
        [info("label", TensorProto.INT64, ["n"]), info("probabilities", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


def burden(times: float = TIMES) -> int:
    """The burden with which the classifier takes so many times as long as without, as measured in this process."""
    bare_s, burdened_s = run_s(classifier(0)), run_s(classifier(_PROBE))
    return max(1, round(_PROBE * (times - 1) * bare_s / max(burdened_s - bare_s, bare_s)))


def run_s(model: bytes) -> float:
    """The quickest of many runs of one batch on one thread: the one that nobody disturbed."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    rows = np.random.default_rng(0).random((_ROWS, FEATURES), dtype=np.float32)
    spent_s = []
    for _ in range(_RUNS):
        started_s = time.perf_counter()
        session.run(None, {"X": rows})
        spent_s.append(time.perf_counter() - started_s)
    return min(spent_s)


def make_models(folder: Path) -> tuple[Path, float]:
    """A models directory with both versions, and how many times as long the slow one takes."""
    versions = {PRODUCTION: classifier(0), SLOW: classifier(burden())}
    for version, model in versions.items():
        path = folder / MODEL / str(version) / "model.onnx"
        path.parent.mkdir(parents=True)
        path.write_bytes(model)
    return folder, run_s(versions[SLOW]) / run_s(versions[PRODUCTION])


def request() -> pb.ModelInferRequest:
    """One row for the classifier."""
    row = np.random.default_rng(1).normal(size=(1, FEATURES)).astype(np.float32)
    made = pb.ModelInferRequest(model_name=MODEL, raw_input_contents=[row.tobytes()])
    made.inputs.add(name="X", datatype="FP32", shape=[1, FEATURES])
    return made
