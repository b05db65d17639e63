"""Tests of `workers.session`."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests import models
from workers import session
from workers.errors import LoadFailed, ModelFailed, Refused
from workers.tensors import DTYPES


def load(directory: Path, content: bytes) -> session.Model:
    return session.load(models.save(directory, "m", 1, content), threads=1)


def changed(content: bytes, **fields: Any) -> bytes:
    """The classifier with some fields of its ModelProto set."""
    model = onnx.load_from_string(content)
    if "opset" in fields:
        model.opset_import[0].version = fields["opset"]
    if "ir_version" in fields:
        model.ir_version = fields["ir_version"]
    if "op_type" in fields:
        model.graph.node[0].op_type = fields["op_type"]
    return bytes(model.SerializeToString())


def test_inputs_and_outputs_are_described_in_the_protocols_words(tmp_path: Path) -> None:
    model = load(tmp_path, models.classifier())
    assert model.inputs == (("X", "FP32", (-1, 30)),)
    assert model.outputs == (("label", "INT64", (-1,)), ("probabilities", "FP32", (-1, 2)))


@pytest.mark.parametrize("datatype", sorted(models.ELEMENT_TYPES))
def test_every_datatype_runs(tmp_path: Path, datatype: str) -> None:
    model = load(tmp_path, models.identity(datatype, (-1, 2)))
    assert model.inputs == (("X", datatype, (-1, 2)),)
    dtype = DTYPES[datatype]
    array = np.array([["a", "ü"]], dtype=object) if datatype == "BYTES" else np.array([[1, 0]]).astype(dtype)
    (answer,) = model.run({"X": array})
    assert answer.dtype == dtype
    np.testing.assert_array_equal(answer, array)


def test_bf16_keeps_every_bit(tmp_path: Path) -> None:
    bits = np.arange(0, 1 << 16, 7, dtype=np.uint16).reshape(-1, 1)
    (answer,) = load(tmp_path, models.identity("BF16", (-1, 1))).run({"X": bits})
    np.testing.assert_array_equal(answer, bits)


def test_bf16_and_others_together(tmp_path: Path) -> None:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["A"], ["B"]), helper.make_node("Identity", ["C"], ["D"])],
        "both",
        [info("A", TensorProto.BFLOAT16, ["n"]), info("C", TensorProto.FLOAT, ["n"])],
        [info("B", TensorProto.BFLOAT16, ["n"]), info("D", TensorProto.FLOAT, ["n"])],
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    half, single = load(tmp_path, content).run({"C": np.array([2.5], np.float32), "A": np.array([0x3F80], np.uint16)})
    assert (half.tolist(), single.tolist()) == ([0x3F80], [2.5])


def test_bf16_without_support_is_a_load_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_serves_bf16", lambda: False)
    with pytest.raises(LoadFailed, match="BF16 needs a newer onnxruntime"):
        load(tmp_path, models.identity("BF16"))


def bad_models() -> dict[str, tuple[bytes, str]]:
    good = models.classifier()
    return {
        "empty": (b"", "is empty; copy or export the model again"),
        "truncated": (good[: len(good) // 2], "not an ONNX model, or truncated"),
        "last byte missing": (good[:-1], "not an ONNX model, or truncated"),
        "text": (b"hello, this is a text file\n", "not an ONNX model, or truncated"),
        "nothing in it": (changed(b"", ir_version=8), "not an ONNX model, or truncated"),
        "opset": (changed(good, opset=99), "export with an opset this onnxruntime knows"),
        "ir": (changed(good, ir_version=99), "export with an older onnx package"),
        "operator": (changed(good, op_type="Frob"), "only ONNX Runtime's own operators"),
        "zipmap": (models.zipmap(), "export the model with options={'zipmap': False}"),
    }


@pytest.mark.parametrize("name", sorted(bad_models()))
def test_a_bad_model_is_one_line_with_file_and_remedy(tmp_path: Path, name: str) -> None:
    content, words = bad_models()[name]
    with pytest.raises(LoadFailed) as caught:
        load(tmp_path, content)
    text = str(caught.value)
    assert words in text
    assert text.startswith("m/1/model.onnx: ")
    assert "\n" not in text
    assert "onnxruntime_src" not in text
    assert str(tmp_path) not in text, "clients read it, too"
    assert ".:" not in text


def test_a_missing_model_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match=r"nowhere\.onnx: no such file; export the model to this path"):
        session.load(tmp_path / "nowhere.onnx", 1)


def test_a_directory_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="is a directory"):
        session.load(tmp_path, 1)


def test_missing_and_short_external_data_name_the_remedy(tmp_path: Path) -> None:
    model = onnx.load_from_string(models.classifier())
    onnx.save_model(
        model, str(tmp_path / "model.onnx"), save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    session.load(tmp_path / "model.onnx", 1)
    (tmp_path / "weights.bin").write_bytes(b"short")
    with pytest.raises(LoadFailed, match="copy the model's external data again, whole") as caught:
        session.load(tmp_path / "model.onnx", 1)
    assert str(tmp_path) not in str(caught.value)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(LoadFailed, match="copy the model's external data file next to it") as caught:
        session.load(tmp_path / "model.onnx", 1)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(("element", "name"), [(TensorProto.FLOAT8E4M3FN, "float8e4m3fn")])
def test_a_datatype_the_protocol_lacks_is_a_load_error(tmp_path: Path, element: int, name: str) -> None:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["X"], ["Y"])], "g", [info("X", element, ["n"])], [info("Y", element, ["n"])]
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9).SerializeToString()
    with pytest.raises(LoadFailed, match=f"input 'X' is tensor\\({name}\\).*Open Inference Protocol"):
        load(tmp_path, content)


def test_a_sequence_input_is_a_load_error(tmp_path: Path) -> None:
    sequence = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, ["n"]))
    graph = helper.make_graph(
        [helper.make_node("SequenceLength", ["X"], ["Y"])],
        "g",
        [helper.make_value_info("X", sequence)],
        [helper.make_tensor_value_info("Y", TensorProto.INT64, [])],
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    with pytest.raises(LoadFailed, match="export the model with tensors only"):
        load(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "feed", "words"),
    [
        (models.lookup(3), {"X": np.array([7])}, "node Gather '': indices element out of data bounds, idx=7"),
        (
            models.two_inputs(),
            {"A": np.ones((2, 2), np.float32), "B": np.ones((3, 2), np.float32)},
            "Attempting to broadcast an axis by a dimension other than 1. 2 by 3",
        ),
        (models.classifier(), {"X": np.ones((1, 29), np.float32)}, "index: 1 Got: 29 Expected: 30"),
        (models.classifier(), {"X": np.ones(30, np.float32)}, "Invalid rank for input: X Got: 1 Expected: 2"),
        (models.classifier(), {}, "Required inputs (['X']) are missing"),
    ],
)
def test_input_the_model_refuses_is_one_line(tmp_path: Path, content: bytes, feed: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused) as caught:
        load(tmp_path, content).run(feed)
    text = str(caught.value)
    assert words in text
    assert "\n" not in text
    assert "onnxruntime" not in text.lower()


def test_a_model_that_fails_is_told_from_one_that_refuses(tmp_path: Path) -> None:
    model = load(tmp_path, models.crasher())
    with pytest.raises(ModelFailed, match="division by zero"):
        model.run({"X": np.array([models.FAIL])})
    assert model.run({"X": np.array([1])})[0].tolist() == [-(2**63)]


def test_errors_are_cut_to_a_readable_length() -> None:
    text = session.one_line("[ONNXRuntimeError] : 1 : FAIL : " + "words " * 1000)
    assert len(text) == session.MAX_TEXT
    assert text.startswith("words words")


def test_memory_that_is_short_is_said_so() -> None:
    arena = (
        "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running ConstantOfShape node. Name:'fill' "
        "Status Message: /onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:360 void* onnxruntime::BFCArena::"
        "AllocateRawInternal(size_t, bool, onnxruntime::Stream*) "
        "Failed to allocate memory for requested buffer of size 7"
    )
    for error, said in (
        (RuntimeError(arena), ": node ConstantOfShape 'fill' asked for 7 bytes"),
        (RuntimeError(arena[arena.index("Failed") :]), ": it asked for 7 bytes"),
        (RuntimeError("std::bad_alloc"), ""),
        (MemoryError(), ""),
    ):
        explained = session.explain_run(error)
        assert (explained.code, str(explained)) == (13, f"the model failed: out of memory{said}")
