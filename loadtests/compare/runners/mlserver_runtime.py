"""An MLServer runtime calling ONNX Runtime. MODEL: path of the model.onnx."""

import os
from typing import Any

import onnxruntime as ort
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class Classifier(MLModel):  # type: ignore[misc] # MLServer is not installed where types are checked
    """One input, any number of outputs."""

    async def load(self) -> bool:
        """One thread, as everywhere in the comparison."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
        self.names = [output.name for output in self.session.get_outputs()]
        return True

    async def predict(self, payload: Any) -> Any:
        """Runs the one request."""
        name = self.session.get_inputs()[0].name
        found = self.session.run(None, {name: NumpyCodec.decode_input(payload.inputs[0])})
        found = [output.reshape(-1, 1) if output.ndim == 1 else output for output in found]
        pairs = zip(self.names, found, strict=True)
        outputs = [NumpyCodec.encode_output(each, output) for each, output in pairs]
        return InferenceResponse(model_name=self.name, outputs=outputs)
