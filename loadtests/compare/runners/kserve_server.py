"""A KServe server calling ONNX Runtime. usage: kserve_server.py NAME HTTP_PORT GRPC_PORT; MODEL: the model.onnx."""

import os
import sys
from typing import Any

import onnxruntime as ort
from kserve import InferOutput, InferResponse, Model, ModelServer

TYPES = {"float32": "FP32", "int64": "INT64"}


class Classifier(Model):  # type: ignore[misc] # KServe has no types
    """One input, any number of outputs."""

    def __init__(self, name: str) -> None:
        """One thread, as everywhere in the comparison."""
        super().__init__(name)
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
        self.outputs = [output.name for output in self.session.get_outputs()]
        self.ready = True

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        """Runs the one request."""
        name = self.session.get_inputs()[0].name
        found = self.session.run(None, {name: payload.inputs[0].as_numpy()})
        outputs = []
        for each, output in zip(self.outputs, found, strict=True):
            answer = InferOutput(each, list(output.shape), TYPES[str(output.dtype)])
            answer.set_data_from_numpy(output)
            outputs.append(answer)
        return InferResponse(response_id=payload.id or "x", model_name=self.name, infer_outputs=outputs)


if __name__ == "__main__":
    ModelServer(http_port=int(sys.argv[2]), grpc_port=int(sys.argv[3]), workers=1).start([Classifier(sys.argv[1])])
