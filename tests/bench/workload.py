"""What the bench serves and sends: two versions of a small classifier and one framed request."""

import struct
from pathlib import Path

from protos import inference_pb2 as pb

MODEL = "mlp"
CANDIDATE = "1"
"""The version that is not released at first sight: the highest is."""


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

    row = load_breast_cancer().data[0].astype("float32")
    request = pb.ModelInferRequest(model_name=MODEL, raw_input_contents=[row.tobytes()])
    request.inputs.add(name="X", datatype="FP32", shape=[1, 30])
    path.write_bytes(framed(request))
    return request


def framed(request: pb.ModelInferRequest) -> bytes:
    """The request as gRPC sends it: uncompressed, its length in front."""
    body = request.SerializeToString()
    return b"\0" + struct.pack(">I", len(body)) + body
