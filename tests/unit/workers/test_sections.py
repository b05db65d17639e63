"""Tests of `workers.sections`."""

import json
import struct

import numpy as np
import pytest

from tests import frames
from workers import sections, wire
from workers.errors import BadFrame, ModelFailed, Refused
from workers.tensors import Tensor

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def reader(*, batched: bool = True) -> sections.Reader:
    return sections.Reader(batched=batched, expected={"X": "FP32"})


def test_a_batched_section_gives_its_rows_back_as_axis_0() -> None:
    data = frames.section({"X": X})
    section = reader().read(data, 0, len(data))
    assert section.rows == 2
    assert section.end == len(data)
    assert section.datatypes == {"X": "FP32"}
    np.testing.assert_array_equal(section.tensors["X"], X)


def test_an_unbatched_section_has_its_whole_shape() -> None:
    data = frames.section({"X": X}, batched=False)
    section = reader(batched=False).read(data, 0, len(data))
    assert (section.rows, section.tensors["X"].shape) == (1, (2, 3))


def test_a_section_in_the_middle_of_a_buffer_is_read_at_any_offset() -> None:
    data = frames.section({"X": X})
    for offset in range(9):
        section = reader().read(bytes(offset) + data + b"rest", offset, offset + len(data) + 4)
        assert section.end == offset + len(data)
        np.testing.assert_array_equal(section.tensors["X"], X)


def test_a_padded_signature_means_the_same() -> None:
    text = frames.signature({"X": X}) + b"     "
    data = b"".join(wire.section(text, 2, [X.tobytes()]))
    np.testing.assert_array_equal(reader().read(data, 0, len(data)).tensors["X"], X)


def test_zero_rows_are_a_tensor_without_elements() -> None:
    data = frames.section({"X": X[:0]})
    assert reader().read(data, 0, len(data)).tensors["X"].shape == (0, 3)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"Y": X}, "the model has no input 'Y', only 'X'"),
        ({"X": X.astype(np.float64)}, "input 'X' is FP64, the model takes FP32"),
        ({}, "input 'X' is missing"),
    ],
)
def test_other_inputs_than_the_models_are_refused(tensors: dict[str, frames.Array], words: str) -> None:
    data = frames.section(tensors)
    for _ in range(2):  # the second time from memory
        with pytest.raises(Refused, match=words):
            reader().read(data, 0, len(data))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"nonsense",
        b"\xff\xfe",
        b'[["X","FP32"]]',
        b'[["X","FP31",[3]]]',
        b'[["X","FP32",[-3]]]',
        b'[["X","FP32",[true]]]',
        b'[["X","FP32",[3.0]]]',
        b'[["X","FP32",[4294967296]]]',
        b'[["X","FP32",3]]',
        b"[" * 60_000,
        json.dumps([["X", "FP32", [1] * 32]]).encode(),
        b'[["X","FP32",[3]],["X","FP32",[3]]]',
    ],
)
def test_a_malformed_signature_is_no_frame(text: bytes) -> None:
    data = b"".join(wire.section(text, 2, [X.tobytes()]))
    with pytest.raises(BadFrame):
        reader().read(data, 0, len(data))


def test_counts_that_do_not_fit_are_no_frame() -> None:
    data = frames.section({"X": X})
    text = frames.signature({"X": X})
    for wrong in (
        data[:-1],  # the tensor ends too late
        data[:7],
        data[:20],
        b"".join(wire.section(text, 3, [X.tobytes()])),  # rows that are not there
        b"".join(wire.section(text, 2, [X.tobytes() + b"1234"])),
        b"".join(wire.section(text, 2, [X.tobytes(), b""])),  # a tensor the signature does not have
        wire.SECTION.pack(len(text), 0, 2) + text,
    ):
        with pytest.raises(BadFrame):
            reader().read(wrong, 0, len(wrong))


def test_what_was_read_before_is_known_again_wherever_it_lies() -> None:
    keeper = sections.Reader(batched=True, expected={"X": "FP32", "B": "BOOL"})
    for offset in (0, 3, 8):
        for turn in range(3):
            tensors = {"X": X + turn, "B": np.array([[turn], [1]], np.bool_)}
            data = bytes(offset) + frames.section(tensors) + b"behind"
            section = keeper.read(data, offset, len(data))
            assert (section.rows, section.end) == (2, len(data) - 6)
            assert section.datatypes == {"X": "FP32", "B": "BOOL"}
            np.testing.assert_array_equal(section.tensors["X"], X + turn)
            np.testing.assert_array_equal(section.tensors["B"], tensors["B"])
    assert len(keeper._seen) == 1


def test_what_begins_like_a_section_read_before_must_be_whole_all_the_same() -> None:
    keeper = reader()
    data = frames.section({"X": X})
    assert keeper.read(data, 0, len(data)).rows == 2
    for stop in range(len(data)):
        with pytest.raises(BadFrame):
            keeper.read(data, 0, stop)


def test_rows_of_a_model_that_is_not_batched_are_one() -> None:
    data = b"".join(wire.section(frames.signature({"X": X}), 2, [X.tobytes()]))
    with pytest.raises(BadFrame, match="2 rows"):
        reader(batched=False).read(data, 0, len(data))


def test_a_few_bytes_cannot_ask_for_billions_of_rows() -> None:
    text = b'[["X","FP32",[0]]]'
    data = b"".join(wire.section(text, 4_000_000_000, [b""]))
    with pytest.raises(Refused, match="without elements"):
        reader().read(data, 0, len(data))


def test_production_may_send_anything_and_its_texts_stay_bytes() -> None:
    data = frames.section({"any": np.array([b"\xff", b"a"], dtype=object)})
    section = sections.Reader(batched=True, expected=None).read(data, 0, len(data))
    assert section.tensors["any"].tolist() == [b"\xff", b"a"]


def test_the_memory_for_signatures_is_bounded() -> None:
    many = reader(batched=False)
    for columns in range(sections.MAX_KNOWN + 10):
        array = np.zeros((1, columns), np.float32)
        data = frames.section({"X": array}, batched=False)
        assert many.read(data, 0, len(data)).tensors["X"].shape == (1, columns)
    assert len(many._known) <= sections.MAX_KNOWN
    assert len(many._seen) <= sections.MAX_KNOWN


def test_long_signatures_are_read_but_not_kept() -> None:
    name = "X" * (sections.MAX_KNOWN_BYTES + 1)
    keeper = sections.Reader(batched=True, expected={name: "FP32"})
    data = frames.section({name: X})
    assert keeper.read(data, 0, len(data)).rows == 2
    assert not keeper._known


OUTPUTS = (Tensor("label", "INT64", (-1,)), Tensor("text", "BYTES", (-1,)), Tensor("scores", "FP32", (-1, 2)))


def test_a_result_is_read_back_as_it_was() -> None:
    arrays = [np.array([1, 2]), np.array(["a", "ü"], dtype=object), np.ones((2, 2), np.float32)]
    answer = frames.parse(b"".join(sections.Writer(OUTPUTS, batched=True).result(7, 2, arrays, 12)))
    assert (answer.kind, answer.batch, answer.flags, answer.micros) == (wire.RESULT, 7, 0, 12)
    found = answer.tensors()
    assert list(found) == ["label", "text", "scores"]
    assert found["text"].tolist() == [b"a", "ü".encode()]
    np.testing.assert_array_equal(found["label"], arrays[0])
    np.testing.assert_array_equal(found["scores"], arrays[2])


def test_fixed_size_outputs_are_not_copied() -> None:
    arrays = [np.ones((2, 2), np.float32)]
    pieces = sections.Writer(OUTPUTS[2:], batched=True).result(1, 2, arrays, 0)
    assert pieces[1] is arrays[0]


def test_equal_shapes_give_equal_signatures_whatever_the_rows() -> None:
    writer = sections.Writer(OUTPUTS[2:], batched=True)
    heads = [writer.result(1, rows, [np.ones((rows, 2), np.float32)], 0)[0] for rows in (1, 5)]
    after_sizes = wire.HEADER.size + wire.SECTION.size + wire.SIZE.size
    assert heads[0][after_sizes:] == heads[1][after_sizes:]
    assert len(writer._signatures) == 1


def test_the_memory_for_results_is_bounded() -> None:
    writer = sections.Writer(OUTPUTS[2:], batched=False)
    for columns in range(sections.MAX_KNOWN + 10):
        writer.result(1, 1, [np.ones((1, columns), np.float32)], 0)
    assert len(writer._heads) <= sections.MAX_KNOWN
    assert len(writer._signatures) <= sections.MAX_KNOWN


def test_an_answer_without_the_requests_rows_is_the_models_failure() -> None:
    with pytest.raises(ModelFailed, match=r"output 'scores' has shape \[3, 2\] for 2 rows"):
        sections.Writer(OUTPUTS[2:], batched=True).result(1, 2, [np.ones((3, 2), np.float32)], 0)


def test_an_answer_larger_than_a_frame_is_the_models_failure() -> None:
    huge = np.broadcast_to(np.float64(0), (1 << 30, 1))
    assert huge.nbytes > wire.MAX_FRAME_BYTES
    with pytest.raises(ModelFailed, match="does not fit a frame"):
        sections.Writer([Tensor("Y", "FP64", (-1, 1))], batched=False).result(1, 1, [huge], 0)


def test_a_head_is_one_struct() -> None:
    numbers = struct.Struct("<IIBBHIIII2I")
    assert numbers.size == wire.HEADER.size + wire.SECTION.size + 2 * wire.SIZE.size
