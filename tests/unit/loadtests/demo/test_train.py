"""Two classifiers that are worth a release, exported the way the gateway serves them."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from loadtests.demo.train import INPUT, train


@pytest.mark.slow
def test_the_exported_models_are_the_trained_ones(tmp_path: Path) -> None:
    first, second, digits = train()
    assert 0.9 < first.accuracy < second.accuracy
    assert digits.rows.dtype == np.float32
    for one in (first, second):
        path = one.export(tmp_path, "digits")
        assert path == tmp_path / "digits" / str(one.version) / "model.onnx"
        assert [entry.name for entry in path.parent.iterdir()] == ["model.onnx"]
        session = onnxruntime.InferenceSession(str(path))
        assert [(put.name, put.type, put.shape) for put in session.get_inputs()] == [
            (INPUT, "tensor(float)", [None, 64])
        ]
        labels, probabilities = session.run(["label", "probabilities"], {INPUT: digits.rows})
        assert np.mean(labels == digits.labels) == pytest.approx(one.accuracy, abs=0.01)
        assert probabilities.shape == (len(digits.rows), 10)
