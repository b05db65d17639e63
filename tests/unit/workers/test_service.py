"""Tests of `workers.service`."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import numpy as np
import pytest

from tests import frames, models
from workers import wire
from workers.errors import BadFrame, Refused
from workers.memory import Layout, create, fill
from workers.service import Service, begun, cancel, error_frame, frame_bytes, refuse
from workers.session import Model, load
from workers.slots import Slots
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
        (12, 1, wire.RUN, wire.SLOT, 0, 0),
        (12, 1, wire.RUN, wire.TELL | wire.SLOT, 0, 0),
        (12, 1, wire.COMPARE, wire.TELL, 0, 0),
        (12, 1, wire.CANCEL, 0, 0, 0),
        (0, 1, wire.CANCEL, wire.TELL, 0, 0),
        (0, 1, wire.CANCEL, 0, 1, 0),
        (0, 1, wire.BEGUN, 0, 0, 0),
        (8, 1, wire.RUN, wire.SLOT, 0, 0),
        (12, 1, wire.RUN, wire.SLOT, 1, 0),
        (8, 1, wire.RUN, 2, 1, 0),
        (8, 1, wire.RUN, 0, 1, 0),
        (8, 1, wire.ATTACH, 0, 0, 0),
        (7, 1, wire.RUN, 0, 0, 0),
    ],
)
def test_headers_that_are_none(header: tuple[int, ...]) -> None:
    with pytest.raises(BadFrame):
        frame_bytes(wire.HEADER.pack(*header), 0)


def test_headers_that_are_whole_frames_or_their_beginning() -> None:
    assert frame_bytes(wire.HEADER.pack(12, 1, wire.RUN, wire.TELL, 0, 77), 0) == 28
    assert frame_bytes(wire.HEADER.pack(0, 1, wire.CANCEL, 0, 0, 0), 0) == 16


def with_deadline(data: bytes, deadline_ms: int) -> bytes:
    return data[:12] + deadline_ms.to_bytes(4, "little") + data[16:]


def test_what_is_late_when_its_turn_comes_is_not_run(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    service = make(models.classifier())
    ran: list[object] = []
    run = Model.run

    def noted(model: Model, feed: dict[str, frames.Array]) -> list[frames.Array]:
        ran.append(feed)
        return run(model, feed)

    monkeypatch.setattr(Model, "run", noted)
    asked = frames.run(5, {"X": np.zeros((1, 30), np.float32)})
    now_s = monotonic()
    late = ask(service, with_deadline(asked, wire.deadline_ms(now_s - 1, now_s)))
    assert (late.kind, late.batch, late.flags, ran) == (wire.ERROR, 5, 4, [])
    assert "deadline" in late.text
    in_time = ask(service, with_deadline(asked, wire.deadline_ms(now_s + 1000, now_s)))
    assert (in_time.kind, len(ran)) == (wire.RESULT, 1)


def test_what_was_cancelled_is_not_run(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    service = make(models.classifier())
    monkeypatch.setattr(Model, "run", lambda *_: pytest.fail("run"))
    data = bytearray(frames.run(5, {"X": np.zeros((1, 30), np.float32)}))
    cancel(data, 0)
    answer = ask(service, bytes(data))
    assert (answer.kind, answer.batch, answer.flags) == (wire.ERROR, 5, 1)


def test_a_comparison_is_never_cancelled() -> None:
    data = bytearray(frames.frame(wire.COMPARE, 1, bytes(12)))
    before = bytes(data)
    cancel(data, 0)
    assert data == before


def test_what_is_too_large_is_refused_by_its_header(make: Make) -> None:
    data = bytearray(wire.HEADER.pack(1 << 30, 9, wire.RUN, 0, 0, 0))
    refuse(data, 0)
    answer = ask(make(models.identity()), bytes(data))
    assert (answer.batch, answer.flags) == (9, 13)
    assert answer.text == f"the model failed: out of memory: {1 << 30} bytes of input"


def test_who_asks_is_told_when_a_frame_begins() -> None:
    asked = frames.frame(wire.RUN, 7, bytes(12))
    assert begun(asked, 0) == []
    told = bytearray(asked)
    told[wire.FLAGS_AT] = wire.TELL
    (data,) = begun(told, 0)
    assert frames.parse(data)[:3] == (wire.BEGUN, 7, 0)
    cancel(told, 0)
    assert begun(told, 0) == [], "it is not going to be run"


SHARED = Layout(2, 1 << 16)


@pytest.fixture
def slots() -> Iterator[Slots]:
    made = Slots(create(SHARED), SHARED, 100)
    yield made
    made.close()


def ask_in_slot(service: Service, slots: Slots, data: bytes) -> bytes:
    """The answer to a frame whose sections are put into slot 2."""
    length, batch, kind, _, _, _ = wire.HEADER.unpack_from(data)
    fill(slots._fd, SHARED.sent_at(2) + 8, [data[wire.HEADER.size :]], length)
    header = wire.HEADER.pack(wire.PLACE.size, batch, kind, wire.SLOT, 2, 0)
    return b"".join(service.answer(header + wire.PLACE.pack(8, 8 + length), 0, 24, slots))


def test_sections_in_a_slot_are_answered_there_if_the_answer_is_large(make: Make, slots: Slots) -> None:
    service = make(models.identity("FP32", (-1, -1)))
    for columns in (3, 300):
        x = np.random.default_rng(columns).random((2, columns), np.float32)
        answer = ask_in_slot(service, slots, frames.run(5, {"X": x}))
        if columns == 300:
            length, batch, kind, flags, slot, micros = wire.HEADER.unpack_from(answer)
            assert (length, flags, slot) == (wire.PLACE.size, wire.SLOT, 2)
            start, stop = wire.PLACE.unpack_from(answer, wire.HEADER.size)
            body = os.pread(slots._fd, stop - start, SHARED.answer_at(2) + start)
            answer = wire.HEADER.pack(len(body), batch, kind, 0, 0, micros) + body
        np.testing.assert_array_equal(frames.parse(answer).tensors()["Y"], x)
        compared = ask_in_slot(service, slots, frames.compare(6, {"X": x}, {"Y": x}))
        assert frames.parse(compared).comparison == (2, 2, 0, 0.0)


def test_a_frame_that_travels_may_be_answered_in_a_slot(make: Make, slots: Slots) -> None:
    service = make(models.identity("FP32", (-1, -1)))
    data = bytearray(frames.run(5, {"X": np.zeros((2, 300), np.float32)}))
    wire.HEADER.pack_into(data, 0, len(data) - wire.HEADER.size, 5, wire.RUN, 0, 1, 0)
    (answer,) = service.answer(data, 0, len(data), slots)
    assert wire.HEADER.unpack_from(answer)[3:5] == (wire.SLOT, 1)


def test_a_slot_that_is_none_is_a_bad_frame(make: Make, slots: Slots) -> None:
    service = make(models.identity())
    body = frames.section({"X": np.zeros((1, 3), np.float32)})
    for slot, known in ((1, None), (3, slots)):
        data = wire.HEADER.pack(len(body), 1, wire.RUN, 0, slot, 0) + body
        with pytest.raises(BadFrame, match="slot"):
            service.answer(data, 0, len(data), known)
    place = wire.HEADER.pack(wire.PLACE.size, 1, wire.RUN, wire.SLOT, 1, 0) + wire.PLACE.pack(0, 20)
    with pytest.raises(BadFrame, match="JSON"):
        service.answer(place, 0, len(place), slots)  # nobody has written there


def test_an_error_is_one_line() -> None:
    answer = frames.parse(b"".join(error_frame(3, Refused("two\nlines\ud800"))))
    assert (answer.batch, answer.text) == (3, "two lines?")
