"""What perf_analyzer asks of a server over gRPC, and how it judges the answers, rule by rule.

After src/{model_parser,inference_profiler}.cc and src/client_backend/triton/triton_client_backend.cc of
triton-inference-server/perf_analyzer at 263c5f6. It reads answers as JSON made from Triton's own messages.
"""

from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from google.protobuf.json_format import MessageToDict
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as triton
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

COMPUTE = ("compute_input", "compute_infer", "compute_output")


@dataclass(frozen=True)
class Parsed:
    """What its ModelParser keeps of a model: shapes without the batch axis, by tensor."""

    max_batch_size: int
    inputs: dict[str, list[int]]
    outputs: dict[str, list[int]]


class PerfAnalyzer:
    """Starts up as the tool does; then `window` measures."""

    def __init__(self, channel: grpc.Channel, model: str) -> None:
        self._stub = GRPCInferenceServiceStub(channel)
        self._model = model
        metadata = _json(self._stub.ModelMetadata(triton.ModelMetadataRequest(name=model)))
        config = _json(self._stub.ModelConfig(triton.ModelConfigRequest(name=model)))["config"]
        self.parsed = parse(metadata, config)
        self.extensions = set(self._stub.ServerMetadata(triton.ServerMetadataRequest()).extensions)
        self._datatypes = {tensor["name"]: tensor["datatype"] for tensor in metadata["inputs"]}

    def infer(self, batch_size: int, **values: NDArray[np.generic]) -> triton.ModelInferResponse:
        """One request as the C++ client makes it. Every output's bytes are at the same place in the raw contents."""
        request = triton.ModelInferRequest(model_name=self._model)
        request.parameters["triton_enable_empty_final_response"].bool_param = False
        for name, array in values.items():
            batched = [batch_size] if self.parsed.max_batch_size else []
            shape = [*batched, *self.parsed.inputs[name]]
            request.inputs.add(name=name, datatype=self._datatypes[name], shape=shape)
            request.raw_input_contents.append(array.tobytes())
        for name in self.parsed.outputs:
            request.outputs.add(name=name)
        response: triton.ModelInferResponse = self._stub.ModelInfer(request)
        assert [output.name for output in response.outputs] == list(self.parsed.outputs)
        assert len(response.raw_output_contents) == len(response.outputs)
        return response

    def statistics(self) -> dict[tuple[str, str], Any]:
        """(name, version) -> statistics, asked for before and after each window."""
        answer = self._stub.ModelStatistics(triton.ModelStatisticsRequest(name=self._model))
        return {(one.name, one.version): one for one in answer.model_stats}

    def window(self, before: dict[tuple[str, str], Any]) -> dict[str, int]:
        """What was done since `before`; its rules on the way."""
        after = self.statistics()

        def queued(statistics: dict[tuple[str, str], Any], key: tuple[str, str]) -> int:
            return int(statistics[key].inference_stats.queue.count) if key in statistics else 0

        risen = [int(key[1]) for key in after if queued(after, key) > queued(before, key)]
        assert risen, "failed to find the requested model version"
        key = self._model, str(max(risen))
        stats, base = after[key].inference_stats, before[key].inference_stats
        counts = {name: getattr(stats, name).count - getattr(base, name).count for name in ("success", *COMPUTE)}
        assert len({counts[name] for name in COMPUTE}) == 1, "Server side statistics compute counts must be the same."
        for name in ("success", "queue", *COMPUTE):
            assert getattr(stats, name).ns >= getattr(base, name).ns, "durations only grow"
        return counts | {"inference": after[key].inference_count - before[key].inference_count}


def parse(metadata: dict[str, Any], config: dict[str, Any]) -> Parsed:
    """ModelParser::InitTriton."""
    assert config["platform"] != "ensemble"
    assert "sequence_batching" not in config
    assert config["model_transaction_policy"]["decoupled"] is False
    max_batch_size = int(config["max_batch_size"])
    found = []
    for ours, theirs in (("input", "inputs"), ("output", "outputs")):
        shapes = {
            tensor["name"]: [int(size) for size in tensor["shape"]][1 if max_batch_size else 0 :]
            for tensor in metadata[theirs]
        }
        for tensor in config[ours]:
            assert tensor["name"] in shapes, f"no metadata found for {ours} tensor {tensor['name']}"
            assert [int(size) for size in tensor["dims"]] == shapes[tensor["name"]]
            assert tensor.get("is_shape_tensor", False) is False
        found.append(shapes)
    return Parsed(max_batch_size, *found)


def _json(message: Any) -> dict[str, Any]:
    """preserve_proto_field_names and always_print_primitive_fields."""
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
