"""Tests of `workers.compare`."""

from typing import Any

import numpy as np
import pytest

from workers.compare import INCOMPARABLE, Comparison, Given, compare
from workers.tensors import Array, Tensor

WORDS = {"f": "FP32", "d": "FP64", "e": "FP16", "l": "INT64", "?": "BOOL", "O": "BYTES"}


def outputs(arrays: dict[str, Array]) -> list[Tensor]:
    return [Tensor(name, WORDS[array.dtype.char], (-1,) * array.ndim) for name, array in arrays.items()]


def given(arrays: dict[str, Array]) -> Given:
    return Given(arrays, {name: WORDS[array.dtype.char] for name, array in arrays.items()})


def judge(mine: dict[str, Array], theirs: dict[str, Array], *, batched: bool = True) -> Comparison:
    rows = len(next(iter(mine.values()))) if batched else 1
    return compare(outputs(mine), list(mine.values()), given(theirs), rows, batched=batched)


def floats(*values: Any) -> Array:
    return np.array(values, np.float32)


def _near(value: float) -> Any:
    return pytest.approx(value)


def test_labels_decide_by_equality() -> None:
    assert judge({"label": np.array([1, 2, 3])}, {"label": np.array([1, 0, 3])}) == (3, 2, False, 0.0)


def test_probabilities_decide_by_their_arg_max() -> None:
    mine = {"p": floats([0.6, 0.4], [0.6, 0.4])}
    theirs = {"p": floats([0.9, 0.1], [0.4, 0.6])}
    assert judge(mine, theirs) == (2, 1, False, _near(0.3))


def test_every_deciding_output_has_to_agree() -> None:
    mine = {"label": np.array([0, 1]), "p": floats([0.6, 0.4], [0.4, 0.6])}
    theirs = {"label": np.array([0, 1]), "p": floats([0.4, 0.6], [0.4, 0.6])}
    assert judge(mine, theirs).agreed == 1


def test_regressions_agree_when_they_are_close() -> None:
    mine = {"Y": floats([1000.0], [1.0], [np.nan])}
    theirs = {"Y": floats([1000.5], [1.1], [np.nan])}
    assert judge(mine, theirs) == (3, 2, False, _near(0.5))


def test_numbers_do_not_decide_beside_a_label() -> None:
    mine = {"label": np.array([1]), "score": floats(0.1)}
    theirs = {"label": np.array([1]), "score": floats(0.9)}
    assert judge(mine, theirs) == (1, 1, False, _near(0.8))


def test_texts_and_truths_decide_by_equality() -> None:
    mine = {"word": np.array(["a", "ü"], dtype=object), "yes": np.array([True, False])}
    theirs = {"word": np.array([b"a", "ü".encode()], dtype=object), "yes": np.array([True, True])}
    assert judge(mine, theirs) == (2, 1, False, 0.0)


def test_inner_axes_belong_to_their_row() -> None:
    mine = np.zeros((2, 2, 3), np.float32)
    mine[..., 0] = 1
    theirs = mine.copy()
    theirs[1, 1] = [0, 1, 0]
    assert judge({"p": mine}, {"p": theirs}).agreed == 1


def test_an_unbatched_answer_is_one_row() -> None:
    mine, theirs = {"p": floats([1, 0], [1, 0])}, {"p": floats([1, 0], [0, 1])}
    assert judge(mine, theirs, batched=False) == (1, 0, False, 1.0)
    assert judge(mine, mine, batched=False) == (1, 1, False, 0.0)
    assert judge({"s": np.zeros((), np.float32)}, {"s": np.zeros((), np.float32)}, batched=False) == (1, 1, False, 0.0)
    assert judge({"s": np.array(2.0)}, {"s": np.array(2.0)}, batched=False) == (1, 1, False, 0.0)


def test_production_may_have_sent_a_part_of_the_outputs() -> None:
    mine = {"label": np.array([1]), "p": floats([0.1, 0.9])}
    assert judge(mine, {"p": floats([0.2, 0.8])}) == (1, 1, False, _near(0.1))


@pytest.mark.parametrize(
    "theirs",
    [
        {"label": np.array([1]), "more": np.array([1])},
        {"label": floats(1)},
        {"label": np.array([1, 1])},
        {"label": np.array([[1]])},
        {},
    ],
)
def test_other_names_dtypes_or_shapes_are_not_compared(theirs: dict[str, Array]) -> None:
    assert judge({"label": np.array([1])}, theirs) == INCOMPARABLE


def test_no_rows_agree_with_no_rows() -> None:
    assert judge({"p": np.zeros((0, 2), np.float32)}, {"p": np.zeros((0, 2), np.float32)}) == (0, 0, False, 0.0)
    assert judge({"y": np.zeros((0, 1), np.float32)}, {"y": np.zeros((0, 1), np.float32)}) == (0, 0, False, 0.0)


@pytest.mark.parametrize(
    ("mine", "theirs", "difference"),
    [
        (np.nan, np.nan, 0.0),
        (np.inf, np.inf, 0.0),
        (np.inf, -np.inf, np.inf),
        (np.nan, 1.0, np.inf),
        (1.0, np.inf, np.inf),
        (np.inf, np.nan, np.inf),
        (-1.5, 1.5, 3.0),
    ],
)
def test_differences_with_what_is_no_number(mine: float, theirs: float, difference: float) -> None:
    assert judge({"y": floats([mine])}, {"y": floats([theirs])}).max_abs_difference == difference


def test_the_largest_doubles_differ_without_a_warning() -> None:
    big = np.finfo(np.float64).max
    assert judge({"y": np.array([[big]])}, {"y": np.array([[-big]])}).max_abs_difference == np.inf


def test_bf16_is_compared_as_numbers() -> None:
    mine, theirs = np.array([[0x3F80]], np.uint16), np.array([[0x4000]], np.uint16)
    found = compare([Tensor("Y", "BF16", (-1, 1))], [mine], Given({"Y": theirs}, {"Y": "BF16"}), 1, batched=True)
    assert found == (1, 0, False, 1.0)


def test_fp16_does_not_overflow_in_the_difference() -> None:
    mine, theirs = np.array([[60000]], np.float16), np.array([[-60000]], np.float16)
    found = compare([Tensor("Y", "FP16", (-1, 1))], [mine], Given({"Y": theirs}, {"Y": "FP16"}), 1, batched=True)
    assert found.max_abs_difference == pytest.approx(120000, rel=1e-3)
