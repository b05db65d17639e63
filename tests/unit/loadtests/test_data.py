"""Rows from files, checked against the model's metadata."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from loadtests import data
from loadtests.tensors import RowsError, TensorSpec

FEATURES = (TensorSpec("x", "FP32", (-1, 3), batched=True),)
TWO = (TensorSpec("age", "INT64", (-1, 1), batched=True), TensorSpec("city", "BYTES", (-1, 1), batched=True))
Writer = Callable[[Path], object]


def lines(*rows: str) -> Writer:
    return lambda path: path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("rows.npy", lambda path: np.save(path, [[1, 2, 3], [4, 5, 6]])),
        ("rows.npz", lambda path: np.savez(path, x=[[1, 2, 3], [4, 5, 6]])),
        ("rows.csv", lines("1,2,3", "4,5,6e0")),
        ("rows.CSV", lines("a,b,c", "1,2,3", "", "4,5,6")),
        ("rows.jsonl", lines('{"x": [1, 2, 3]}', "", '{"x": [4, 5, 6.0]}')),
    ],
)
def test_one_input_from_every_format(tmp_path: Path, name: str, write: Writer) -> None:
    write(tmp_path / name)
    rows = data.load(tmp_path / name, FEATURES)
    assert (rows.count, rows.synthetic, rows.source) == (2, False, str(tmp_path / name))
    assert rows.columns["x"].tolist() == [[1, 2, 3], [4, 5, 6]]
    requests = data.requests("m", FEATURES, rows)
    assert len(requests) == 2
    assert requests[1].model_name == "m"
    assert (requests[1].inputs[0].name, requests[1].inputs[0].datatype) == ("x", "FP32")
    assert list(requests[1].inputs[0].shape) == [1, 3]
    assert requests[1].raw_input_contents == [np.array([4, 5, 6], "<f4").tobytes()]


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("rows.npz", lambda path: np.savez(path, age=[30, 40], city=["Bonn", "Köln"])),
        ("rows.csv", lines("city,age", "Bonn,30", "Köln,40")),
        ("rows.jsonl", lines('{"age": 30, "city": "Bonn"}', '{"city": "Köln", "age": 40}')),
        ("rows.jsonl", lines('{"age": [30], "city": ["Bonn"]}', '{"city": ["Köln"], "age": [40]}')),
    ],
)
def test_several_inputs(tmp_path: Path, name: str, write: Writer) -> None:
    write(tmp_path / name)
    requests = data.requests("m", TWO, data.load(tmp_path / name, TWO))
    assert requests[1].raw_input_contents == [(40).to_bytes(8, "little"), b"\x05\0\0\0K\xc3\xb6ln"]


def test_a_model_without_a_batch_axis(tmp_path: Path) -> None:
    fixed = (TensorSpec("x", "FP32", (3,), batched=False),)
    np.save(tmp_path / "rows.npy", np.zeros((2, 3)))
    requests = data.requests("m", fixed, data.load(tmp_path / "rows.npy", fixed))
    assert [list(request.inputs[0].shape) for request in requests] == [[3], [3]]


@pytest.mark.parametrize(
    ("name", "write", "inputs", "message"),
    [
        ("rows.txt", lines("1"), FEATURES, r"rows are read from \.csv, \.jsonl, \.npy, \.npz files"),
        ("rows.npz", lambda path: None, FEATURES, "cannot read the rows .*: No such file"),
        ("rows.npz", lines("not a zip"), FEATURES, "rows.npz: "),
        ("rows.npy", lines("not an array"), FEATURES, "rows.npy: "),
        ("rows.npy", lambda path: np.save(path, np.array([{}])), FEATURES, "Object arrays cannot be loaded"),
        ("rows.npy", lambda path: np.save(path, np.zeros((2, 4))), FEATURES, r"shape \[3\], the file has \[4\]"),
        ("rows.npy", lambda path: np.save(path, np.zeros((0, 3))), FEATURES, "has no rows"),
        ("rows.npy", lambda path: np.save(path, np.zeros((2, 1))), TWO, "has 2 inputs; use .npz"),
        ("rows.npz", lambda path: np.savez(path, y=[[1, 2, 3]]), FEATURES, "no input 'x'; 'y' is not an input"),
        ("rows.npz", lambda path: np.savez(path, age=[1], city=["a", "b"]), TWO, "different numbers of rows: 1, 2"),
        ("rows.csv", lines(), FEATURES, "the file is empty"),
        ("rows.csv", lines("1,2,3", "4,5"), FEATURES, "row 2 has 2 fields, the first has 3"),
        ("rows.csv", lines("1,2,3,0"), FEATURES, "4 columns, but 'x' FP32 .* takes 3; is there a label column"),
        ("rows.csv", lines("a,b,c", "1,2,three"), FEATURES, "could not convert string"),
        ("rows.csv", lines("30,40"), TWO, "has 2 inputs; use a header line"),
        ("rows.csv", lines("age,town", "1,a"), TWO, "no input 'city'; 'town' is not an input"),
        ("rows.csv", lines("a,b,c"), FEATURES, "nothing but a header line"),
        ("rows.jsonl", lines('{"x": [1, 2, 3]}', "{"), FEATURES, "line 2 is not JSON"),
        ("rows.jsonl", lines("[1, 2, 3]"), FEATURES, "line 1 is not an object"),
        ("rows.jsonl", lines('{"x": [1, 2, 3]}', '{"y": 1}'), FEATURES, "line 2 is not an object with the same keys"),
        ("rows.jsonl", lines('{"x": [[1], [2, 3]]}'), FEATURES, "line 1: 'x' is ragged"),
        ("rows.jsonl", lines('{"x": [1, 2, 3]}', '{"x": [1, 2]}'), FEATURES, "rows have different shapes"),
        ("rows.jsonl", lines('{"x": null}'), FEATURES, "line 1: 'x' holds something"),
        ("rows.jsonl", lines(), FEATURES, "no input 'x'"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(
    tmp_path: Path, name: str, write: Writer, inputs: tuple[TensorSpec, ...], message: str
) -> None:
    write(tmp_path / name)
    with pytest.raises(RowsError, match=message) as caught:
        data.load(tmp_path / name, inputs)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_made_up_rows_say_so_and_repeat() -> None:
    rows = data.synthesize(TWO, seed=3)
    assert rows.synthetic
    assert rows.count == data.SYNTHETIC_ROWS
    again = data.requests("m", TWO, data.synthesize(TWO, seed=3))
    assert data.requests("m", TWO, rows) == again
    assert data.requests("m", TWO, data.synthesize(TWO, seed=4)) != again


def test_long_files_are_cut(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.zeros((data.MAX_ROWS + 5, 3), "<f4"))
    assert data.load(tmp_path / "rows.npy", FEATURES).count == data.MAX_ROWS


def test_json_values_keep_64_bits(tmp_path: Path) -> None:
    whole = (TensorSpec("x", "INT64", (-1, 1), batched=True),)
    (tmp_path / "rows.jsonl").write_text(json.dumps({"x": 2**62 + 1}))
    assert data.load(tmp_path / "rows.jsonl", whole).columns["x"].tolist() == [[2**62 + 1]]
