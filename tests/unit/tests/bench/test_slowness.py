import numpy as np
import onnxruntime as ort
import pytest

from tests.bench import slowness
from tests.bench.slowness import FEATURES, classifier, request


def answers(model: bytes) -> list[object]:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    rows = np.random.default_rng(3).normal(size=(5, FEATURES)).astype(np.float32)
    return [output.tolist() for output in session.run(["label", "probabilities"], {"X": rows})]


def test_a_burden_changes_no_answer() -> None:
    assert answers(classifier(0)) == answers(classifier(7))


def test_the_burden_is_what_makes_it_so_many_times_as_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    spent_s = {classifier(0): 10e-6, classifier(48): 250e-6}
    monkeypatch.setattr(slowness, "run_s", spent_s.__getitem__)
    assert slowness.burden(50) == 98
    assert slowness.burden(1) == 1


def test_the_request_is_one_row() -> None:
    (raw,) = request().raw_input_contents
    assert len(raw) == 4 * FEATURES
