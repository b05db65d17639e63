"""An answer counts only when its numbers are those that ONNX Runtime gives."""

from pathlib import Path

import numpy as np
import pytest

from loadtests.bench import truth, workload
from loadtests.bench.errors import BenchError
from loadtests.bench.truth import Outputs
from protos.inference_pb2 import ModelInferResponse
from tests.unit.loadtests.target import Serve

EXPECTED: Outputs = {"label": np.array([3]), "p": np.array([[0.25, 0.75]], np.float32)}


def reply(label: int = 3, high: float = 0.75, *, raw: bool = True, name: str = "label") -> ModelInferResponse:
    made = ModelInferResponse()
    made.outputs.add(name="p", datatype="FP32", shape=[1, 2])
    made.outputs.add(name=name, datatype="INT64", shape=[1, 1])
    if raw:
        made.raw_output_contents.append(np.array([0.25, high], "<f4").tobytes())
        made.raw_output_contents.append(np.array([label], "<i8").tobytes())
    else:
        made.outputs[0].contents.fp32_contents.extend([0.25, high])
        made.outputs[1].contents.int64_contents.append(label)
    return made


@pytest.mark.parametrize("raw", [True, False])
def test_right_answers_in_either_form(raw: bool) -> None:
    truth.compare(reply(raw=raw), EXPECTED)


@pytest.mark.parametrize("wrong", [reply(label=2), reply(high=0.7), reply(name="other"), ModelInferResponse()])
def test_wrong_answers(wrong: ModelInferResponse) -> None:
    with pytest.raises(BenchError, match="its answer is wrong"):
        truth.compare(wrong, EXPECTED)


def test_a_server_is_asked(serve: Serve, tmp_path: Path) -> None:
    """The stand-in has no outputs at all, and wants a user."""
    model = workload.fixed_cost(tmp_path, rounds=1, size=4)
    port = int(serve().rpartition(":")[2])
    with pytest.raises(BenchError, match="it does not answer: no arm 'stable'"):
        truth.check(port, model, truth.Truth(model).outputs())


def test_a_rate_is_measured(tmp_path: Path) -> None:
    model = workload.fixed_cost(tmp_path, rounds=1, size=4)
    assert truth.Truth(model).rows_per_s(0.0) > 0
