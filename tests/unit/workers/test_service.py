"""Tests of `workers.service`."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests import frames, models
from workers import wire
from workers.errors import BadFrame, Refused
from workers.service import Service, error_frame, frame_bytes
from workers.session import Model, load
from workers.warmup import warm_up

Make = Callable[[bytes], Service]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def service(content: bytes) -> Service:
        model = load(models.save(tmp_path, "m", 1, content), 1)
        return Service(model, warm_up(model, batching=True, max_batch_size=4))

    return service


def ask(service: Service, data: bytes) -> frames.Answer:
    return frames.parse(b"".join(service.answer(data, 0, len(data))))


def test_a_batch_is_answered_with_all_outputs(make: Make) -> None:
    x = np.random.default_rng(1).normal(size=(5, 30)).astype(np.float32)
    answer = ask(make(models.classifier()), frames.run(42, {"X": x}))
    assert (answer.kind, answer.batch) == (wire.RESULT, 42)
    found = answer.tensors()
    assert list(found) == ["label", "probabilities"]
    np.testing.assert_array_equal(found["label"], found["probabilities"].argmax(axis=1))


@pytest.mark.parametrize("datatype", sorted(set(models.ELEMENT_TYPES) - {"BF16"}))
def test_every_datatype_comes_back(make: Make, datatype: str) -> None:
    dtype = frames.from_bytes(datatype, [0], b"").dtype
    x = np.array([["a"], ["ü"]], dtype=object) if datatype == "BYTES" else np.array([[1], [0]]).astype(dtype)
    answer = ask(make(models.identity(datatype, (-1, 1))), frames.run(1, {"X": x})).tensors()["Y"]
    assert frames.to_bytes(answer) == frames.to_bytes(x)


def test_bf16_comes_back(make: Make) -> None:
    bits = np.array([[0x3F80, 0x7FC0]], np.uint16)
    section = frames.section({"X": bits}, datatypes={"X": "BF16"})
    answer = ask(make(models.identity("BF16", (-1, 2))), frames.frame(wire.RUN, 1, section))
    np.testing.assert_array_equal(answer.tensors()["Y"], bits)


def test_a_model_without_a_batch_axis_gets_whole_shapes(make: Make) -> None:
    answer = ask(make(models.scalar()), frames.run(1, {"X": np.array(2, np.float32)}, batched=False))
    assert answer.tensors(batched=False)["Y"] == np.float32(4)


def test_an_empty_batch_has_an_empty_answer(make: Make) -> None:
    answer = ask(make(models.classifier()), frames.run(1, {"X": np.zeros((0, 30), np.float32)}))
    assert answer.tensors()["probabilities"].shape == (0, 2)


def test_a_comparison_counts_rows(make: Make) -> None:
    service = make(models.classifier())
    x = np.random.default_rng(1).normal(size=(4, 30)).astype(np.float32)
    answer = ask(service, frames.run(1, {"X": x})).tensors()
    assert ask(service, frames.compare(2, {"X": x}, answer)).comparison == (4, 4, 0, 0.0)
    other = answer | {"label": answer["label"] ^ np.array([0, 0, 0, 1])}
    compared = ask(service, frames.compare(3, {"X": x}, other))
    assert (compared.kind, compared.batch) == (wire.COMPARED, 3)
    assert compared.comparison == (4, 3, 0, 0.0)
    part = {"probabilities": answer["probabilities"]}
    assert ask(service, frames.compare(2, {"X": x}, part)).comparison == (4, 4, 0, 0.0)
    assert ask(service, frames.compare(2, {"X": x}, {"other": x})).comparison == (0, 0, 1, 0.0)


@pytest.mark.parametrize("kind", [wire.RUN, wire.COMPARE])
def test_what_the_model_refuses_is_an_error_with_code_3(make: Make, kind: int) -> None:
    section = frames.section({"X": np.array([99])})
    sections = [section] if kind == wire.RUN else [section, section]
    answer = ask(make(models.lookup()), frames.frame(kind, 9, *sections))
    assert (answer.kind, answer.batch, answer.flags) == (wire.ERROR, 9, 3)
    assert "out of data bounds" in answer.text


def test_a_failing_model_is_an_error_with_code_13(make: Make) -> None:
    answer = ask(make(models.crasher()), frames.run(1, {"X": np.array([models.FAIL])}))
    assert (answer.kind, answer.flags) == (wire.ERROR, 13)


def test_text_that_is_not_utf8_is_an_error_with_code_3(make: Make) -> None:
    answer = ask(make(models.text_labels("a")), frames.run(1, {"X": np.array([b"\xff"], dtype=object)}))
    assert answer.flags == 3
    assert "element 0 is not UTF-8" in answer.text


def test_whatever_else_goes_wrong_is_an_error_too(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    service = make(models.classifier())

    def explode(*_: object) -> None:
        raise MemoryError("no more")

    monkeypatch.setattr(Model, "run", explode)
    answer = ask(service, frames.run(1, {"X": np.zeros((1, 30), np.float32)}))
    assert (answer.flags, answer.text) == (13, "the worker failed: MemoryError: no more")


def test_bytes_behind_the_last_section_are_no_frame(make: Make) -> None:
    service = make(models.classifier())
    section = frames.section({"X": np.zeros((1, 30), np.float32)})
    for data in (frames.frame(wire.RUN, 1, section, b"x"), frames.frame(wire.COMPARE, 1, section, section, b"x")):
        with pytest.raises(BadFrame, match="1 bytes behind"):
            service.answer(data, 0, len(data))


@pytest.mark.parametrize(
    "header",
    [
        (8, 1, 0, 0, 0, 0),
        (8, 1, wire.RESULT, 0, 0, 0),
        (8, 1, 255, 0, 0, 0),
        (8, 1, wire.RUN, 1, 0, 0),
        (8, 1, wire.RUN, 0, 1, 0),
        (7, 1, wire.RUN, 0, 0, 0),
    ],
)
def test_headers_that_are_none(header: tuple[int, ...]) -> None:
    with pytest.raises(BadFrame):
        frame_bytes(wire.HEADER.pack(*header), 0)


def test_an_error_is_one_line() -> None:
    answer = frames.parse(b"".join(error_frame(3, Refused("two\nlines\ud800"))))
    assert (answer.batch, answer.text) == (3, "two lines?")
