"""Every workload is a model that answers its own request."""

from pathlib import Path

import numpy as np
import pytest

from loadtests.bench import workload
from loadtests.bench.truth import Truth
from loadtests.bench.workload import Workload


def check(model: Workload, outputs: set[str]) -> None:
    request = model.request
    assert (request.model_name, request.inputs[0].name) == (model.name, "X")
    assert list(request.inputs[0].shape) == list(model.row.shape)
    assert request.raw_input_contents[0] == model.row.tobytes()
    assert model.onnx == model.models / model.name / model.onnx.parent.name / "model.onnx"
    assert set(Truth(model).outputs()) == outputs


def test_the_small_classifier(tmp_path: Path) -> None:
    model = workload.classifier(tmp_path)
    check(model, {"label", "probabilities"})
    assert sorted(each.name for each in (model.models / "mlp").iterdir()) == ["1", "2"]
    assert model.onnx.parent.name == "2"


@pytest.mark.parametrize("network", workload.NETWORKS)
def test_the_large_rows(network: str, tmp_path: Path) -> None:
    model = workload.convnet(tmp_path, network)
    assert model.name == network
    check(model, {"probabilities"})
    assert model.row.shape == (1, 3, 224, 224)
    assert np.isclose(Truth(model).outputs()["probabilities"].sum(), 1)


def test_the_model_of_known_cost(tmp_path: Path) -> None:
    model = workload.fixed_cost(tmp_path, rounds=2, size=8, settings='batching = "off"\n')
    check(model, {"Y"})
    assert Truth(model).outputs()["Y"].tolist() == [[1.0]]
    assert (model.onnx.parent / "model.toml").read_text() == 'batching = "off"\n'
