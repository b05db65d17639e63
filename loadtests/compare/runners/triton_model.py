"""Triton's Python backend calling ONNX Runtime; a copy of this file is the model. MODEL: path of the model.onnx."""

import os
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb


class TritonPythonModel:
    """Joins the requests that Triton batched into one run."""

    def initialize(self, args: Any) -> None:
        """One thread, as everywhere in the comparison."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name
        self.outputs = [output.name for output in self.session.get_outputs()]

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response for each request. Triton wants at least one axis behind the batch's."""
        rows = [pb.get_input_tensor_by_name(request, self.input).as_numpy() for request in requests]
        found = self.session.run(None, {self.input: rows[0] if len(rows) == 1 else np.concatenate(rows)})
        found = [output.reshape(-1, 1) if output.ndim == 1 else output for output in found]
        responses, at = [], 0
        for each in rows:
            cut = [output[at : at + len(each)] for output in found]
            pairs = zip(self.outputs, cut, strict=True)
            responses.append(pb.InferenceResponse([pb.Tensor(name, output) for name, output in pairs]))
            at += len(each)
        return responses
