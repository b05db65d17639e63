"""What a model answers when ONNX Runtime is called in this process, and how fast: the yardstick of every server."""

import os
import time
from typing import Any, Final

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when onnxruntime is imported

import grpc
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from loadtests.bench.errors import BenchError
from loadtests.bench.workload import INPUT, Workload
from protos.inference_pb2 import ModelInferResponse
from protos.inference_pb2_grpc import GRPCInferenceServiceStub

PATIENCE_S: Final = 30.0
WARM_UP: Final = 20
_DTYPES: Final[dict[str, np.dtype[Any]]] = {"FP32": np.dtype("<f4"), "INT64": np.dtype("<i8")}

Outputs = dict[str, NDArray[Any]]


class Truth:
    """One model in this process, one thread."""

    def __init__(self, workload: Workload) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(str(workload.onnx), options, providers=["CPUExecutionProvider"])
        self._feed = {INPUT: workload.row}

    def outputs(self) -> Outputs:
        """By name, for the workload's row."""
        names = [output.name for output in self._session.get_outputs()]
        return dict(zip(names, self._session.run(None, self._feed), strict=True))

    def rows_per_s(self, seconds: float) -> float:
        """Runs the row again and again."""
        for _ in range(WARM_UP):
            self._session.run(None, self._feed)
        runs, start_s = 0, time.perf_counter()
        while (spent_s := time.perf_counter() - start_s) < seconds or not runs:
            self._session.run(None, self._feed)
            runs += 1
        return runs / spent_s


def check(port: int, workload: Workload, expected: Outputs) -> int:
    """Asks once and compares with the truth; returns the size of the answer. Raises BenchError.

    h2load counts HTTP 200 as success: first of all an answer has to be one.
    """
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            ask = GRPCInferenceServiceStub(channel).ModelInfer
            reply = ask(workload.request, timeout=PATIENCE_S, wait_for_ready=True)
        except grpc.RpcError as error:
            said = getattr(error, "details", str)  # a failed call has details; its type does not say so
            raise BenchError(f"it does not answer: {said()}") from error
    compare(reply, expected)
    return int(reply.ByteSize())


def compare(reply: ModelInferResponse, expected: Outputs) -> None:
    """Raises BenchError unless every output is there with the right numbers; its shape may have an axis of 1 more."""
    for name, wanted in expected.items():
        found = _tensor(reply, name)
        if found is None or found.size != wanted.size or not np.allclose(found, wanted.ravel(), rtol=1e-3, atol=1e-5):
            raise BenchError(f"its answer is wrong: {name} is {found}, not {wanted.ravel()}")


def _tensor(reply: ModelInferResponse, name: str) -> NDArray[Any] | None:
    """An output's numbers, from raw or typed contents."""
    for index, output in enumerate(reply.outputs):
        if output.name != name or output.datatype not in _DTYPES:
            continue
        if reply.raw_output_contents:
            return np.frombuffer(reply.raw_output_contents[index], _DTYPES[output.datatype])
        contents = output.contents
        return np.array(contents.fp32_contents if output.datatype == "FP32" else contents.int64_contents)
    return None
