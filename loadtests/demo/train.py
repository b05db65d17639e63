"""Two classifiers for handwritten digits, trained on scikit-learn's own data set and exported to ONNX."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

INPUT = "pixels"
"""8×8 pixels as FP32 [-1, 64]; the outputs are `label` INT64 [-1] and `probabilities` FP32 [-1, 10]."""


@dataclass(frozen=True)
class Trained:
    """A classifier and how well it does on digits it never saw."""

    version: int
    name: str
    accuracy: float
    seconds: float
    model: Any

    def export(self, models: Path, model: str) -> Path:
        """Writes `models/<model>/<version>/model.onnx`, complete or not at all."""
        from skl2onnx import to_onnx
        from skl2onnx.common.data_types import FloatTensorType

        onnx = to_onnx(
            self.model,
            initial_types=[(INPUT, FloatTensorType([None, 64]))],
            options={id(self.model): {"zipmap": False}},
            target_opset=17,
        )
        content = onnx.SerializeToString()
        folder = models / model / str(self.version)
        folder.mkdir(parents=True)
        part = folder / "model.onnx.part"
        part.write_bytes(content)
        return part.rename(folder / "model.onnx")


@dataclass(frozen=True)
class Digits:
    """The half of the data set that no classifier was trained on."""

    rows: NDArray[np.float32]
    labels: NDArray[np.int64]


def train(seed: int = 0) -> tuple[Trained, Trained, Digits]:
    """Version 1, version 2, and the test rows for both."""
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler

    pixels, labels = load_digits(return_X_y=True)
    split = train_test_split(pixels.astype(np.float32), labels, test_size=0.5, random_state=seed, stratify=labels)
    known, unknown, known_labels, unknown_labels = split
    digits = Digits(unknown, unknown_labels.astype(np.int64))
    simple = make_pipeline(MinMaxScaler(), LogisticRegression(C=0.1))
    network = make_pipeline(
        MinMaxScaler(), MLPClassifier((128,), learning_rate_init=0.01, random_state=seed, max_iter=500)
    )
    plans = ((1, "logistic regression", simple), (2, "neural network", network))
    first, second = (_fit(version, name, model, (known, known_labels), digits) for version, name, model in plans)
    return first, second, digits


def _fit(version: int, name: str, model: Any, known: tuple[Any, Any], test: Digits) -> Trained:
    begin_s = time.monotonic()
    model.fit(*known)
    seconds = time.monotonic() - begin_s
    return Trained(version, name, float(model.score(test.rows, test.labels)), seconds, model)
