import json
import re
from pathlib import Path
from typing import Any

import pytest

from gateway.dataplane import plan as plans
from gateway.dataplane.plan import MAX_ROWS, MAX_STRINGS, Plan, Plans, signature
from gateway.dataplane.regions import Regions
from gateway.errors import InvalidRequest, NotReady
from gateway.oip.request import Head, Input
from gateway.oip.reserved import Place
from gateway.routing.snapshot import Pool, Region, Tensor
from protos import inference_pb2 as pb
from tests.unit.gateway.dataplane.fakes import floats, pool
from workers import wire

TWO = pool(
    inputs=(Tensor("A", "FP32", (-1, 2)), Tensor("B", "BYTES", (-1, 1))),
    outputs=(Tensor("Y", "FP32", (-1, 2)), Tensor("Z", "BYTES", (-1,))),
)
TWO_OUTPUTS = pool(outputs=(Tensor("Y", "FP32", (-1, 2)), Tensor("Z", "FP32", (-1, 2))))
WORD = b"\x01\0\0\0w"


def head(*inputs: tuple[str, str, tuple[int, ...]], outputs: tuple[str, ...] = ()) -> Head:
    return Head(tuple(Input(*each) for each in inputs), outputs, True)


def refused(given: Head, where: Pool) -> str:
    with pytest.raises(InvalidRequest) as caught:
        Plan(given, where)
    return str(caught.value)


def test_a_plan_puts_tensors_into_the_order_of_the_model() -> None:
    made = Plan(head(("B", "BYTES", (3, 1)), ("A", "FP32", (3, 2))), TWO)
    assert made.rows == 3
    assert made.joinable
    assert made.signature.rstrip() == b'[["A","FP32",[2]],["B","BYTES",[1]]]'
    assert (made.sizes, made.elements) == ((24, None), (6, 3))
    assert made.size == 0, "strings make it differ from request to request"
    assert made.arrange([WORD * 3, b"a" * 24]) == [b"a" * 24, WORD * 3]


def test_without_a_batch_axis_the_shape_is_whole() -> None:
    made = Plan(head(("X", "FP32", (1, 2))), pool(batched=False, inputs=(Tensor("X", "FP32", (1, 2)),)))
    assert (made.rows, made.joinable, made.size) == (1, False, 8)
    assert made.signature.rstrip() == b'[["X","FP32",[1,2]]]'


def test_a_scalar_takes_one_element() -> None:
    made = Plan(head(("X", "INT64", ())), pool(batched=False, inputs=(Tensor("X", "INT64", ()),)))
    assert made.arrange([b"12345678"]) == [b"12345678"]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (head(("A", "FP32", (1, 2)), ("C", "BYTES", (1, 1))), "input 'C' is unknown; m takes A, B"),
        (head(("A", "FP32", (1, 2))), "input 'B' is missing; m takes A, B"),
        (head(), "input 'A' is missing; m takes A, B"),
        (
            head(("A", "FP64", (1, 2)), ("B", "BYTES", (1, 1))),
            "input 'A': datatype FP64, but the model takes FP32",
        ),
        (
            head(("A", "FP32", (1, 3)), ("B", "BYTES", (1, 1))),
            "input 'A': shape [1, 3], but the model takes [-1, 2]",
        ),
        (head(("A", "FP32", (2,)), ("B", "BYTES", (1, 1))), "input 'A': shape [2], but the model takes [-1, 2]"),
        (
            head(("A", "FP32", (2, 2)), ("B", "BYTES", (3, 1))),
            "the inputs differ in axis 0 (the batch): 'A' 2, 'B' 3",
        ),
        (
            head(("A", "FP32", (1, 2)), ("B", "BYTES", (1, 1)), outputs=("Y", "Q")),
            "output 'Q' is unknown; m gives Y, Z",
        ),
    ],
)
def test_what_does_not_fit_is_named(given: Head, text: str) -> None:
    assert refused(given, TWO) == text


def test_rows_beyond_the_frame_format_are_refused() -> None:
    """A tensor without elements can claim any number of rows."""
    hollow = pool(inputs=(Tensor("X", "FP32", (-1, -1)),))
    assert refused(head(("X", "FP32", (MAX_ROWS + 1, 0))), hollow) == (
        f"{MAX_ROWS + 1} rows are more than one request can have ({MAX_ROWS})"
    )
    assert Plan(head(("X", "FP32", (MAX_ROWS, 0))), hollow).rows == MAX_ROWS


def test_more_strings_than_can_be_counted_meanwhile_are_refused() -> None:
    """All inputs together: each of them may have what is left."""
    names = tuple(Tensor(name, "BYTES", (-1, -1)) for name in "AB")
    two = pool(inputs=names)
    half = MAX_STRINGS // 2
    assert Plan(head(("A", "BYTES", (2, half // 2)), ("B", "BYTES", (2, half // 2))), two).elements == (half, half)
    assert refused(head(("A", "BYTES", (2, half // 2)), ("B", "BYTES", (2, half // 2 + 1))), two) == (
        f"{MAX_STRINGS + 2} BYTES elements; at most {MAX_STRINGS} in one request, send fewer rows"
    )


def test_numbers_are_not_strings() -> None:
    assert Plan(head(("X", "FP32", (MAX_STRINGS, 2))), pool()).rows == MAX_STRINGS


@pytest.mark.parametrize("count", [0, 1, 3])
def test_there_is_one_raw_tensor_for_each_input(count: int) -> None:
    made = Plan(head(("A", "FP32", (1, 2)), ("B", "BYTES", (1, 1))), TWO)
    text = f"{count} raw_input_contents for 2 inputs; send one for each, in the order of inputs"
    with pytest.raises(InvalidRequest, match=re.escape(text)):
        made.arrange([b""] * count)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ([b"a" * 15, WORD * 2], "input 'A': 15 bytes, but its shape and datatype take 16"),
        ([b"a" * 16, WORD], "input 'B': 1 elements, but its shape takes 2"),
        ([b"a" * 16, WORD * 3], "input 'B': more than 2 elements, but its shape takes 2"),
        ([b"a" * 16, b"ww"], "input 'B': BYTES elements need a 4-byte little-endian length each"),
        ([memoryview(b"a" * 16), memoryview(WORD + b"\xff")], "input 'B': BYTES elements need"),
    ],
)
def test_byte_sizes_are_checked(raw: list[Any], text: str) -> None:
    made = Plan(head(("A", "FP32", (2, 2)), ("B", "BYTES", (2, 1))), TWO)
    with pytest.raises(InvalidRequest, match=re.escape(text)):
        made.arrange(raw)


def test_one_tensor_is_checked_like_several() -> None:
    numbers = Plan(head(("X", "FP32", (1, 2))), pool())
    with pytest.raises(InvalidRequest, match="input 'X': 7 bytes, but its shape and datatype take 8"):
        numbers.arrange([b"1234567"])
    strings = Plan(head(("X", "BYTES", (1,))), pool(inputs=(Tensor("X", "BYTES", (-1,)),)))
    assert strings.arrange([WORD]) == [WORD]
    with pytest.raises(InvalidRequest, match="input 'X': more than 1 elements, but its shape takes 1"):
        strings.arrange([WORD * 2])


def test_answers_describe_the_outputs_asked_for_in_that_order() -> None:
    made = Plan(head(("A", "FP32", (3, 2)), ("B", "BYTES", (3, 1)), outputs=("Z", "Y")), TWO)
    shape = made.reply_shape(b'[["Y","FP32",[2]],["Z","BYTES",[]]]')
    response = pb.ModelInferResponse.FromString(shape.head)
    assert (response.model_name, response.model_version) == ("m", "1")
    assert [(o.name, o.datatype, list(o.shape)) for o in response.outputs] == [
        ("Z", "BYTES", [3]),
        ("Y", "FP32", [3, 2]),
    ]
    assert shape.parts == ((1, b"", 0), (0, b"\x32\x18", 24))
    assert made.reply_shape(b'[["Y","FP32",[2]],["Z","BYTES",[]]]') is shape


def test_all_outputs_are_sent_when_none_is_asked_for() -> None:
    made = Plan(head(("X", "FP32", (1, 2))), pool())
    assert len(made.reply_shape(b'[["P","FP32",[2]],["Q","INT8",[]]]').parts) == 2


def test_shapes_of_answers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "MAX_REPLY_SHAPES", 4)
    made = Plan(head(("X", "FP32", (1, 2))), pool())
    for size in range(20):
        made.reply_shape(signature([("Y", "FP32", [size])]))
    assert len(made.replies) <= 4


def test_plans_are_made_once_per_head() -> None:
    known = Plans(pool())
    given = head(("X", "FP32", (1, 2)))
    assert known.get(given) is known.get(given)


def test_heads_that_are_not_cached_leave_no_plan_behind() -> None:
    known = Plans(pool())
    given = Head((Input("X", "FP32", (1, 2)),), (), False)
    assert known.get(given) is not known.get(given)
    assert known.known == {}


def test_plans_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "MAX_PLANS", 4)
    known = Plans(pool())
    for rows in range(20):
        assert known.get(head(("X", "FP32", (rows, 2)))).rows == rows
    assert len(known.known) <= 4


@pytest.mark.parametrize(
    ("state", "error", "reason"), [("loading", "", "it is loading"), ("failed", "no model", "no model")]
)
def test_while_the_inputs_are_not_known_nothing_can_be_wrong_with_them(state: str, error: str, reason: str) -> None:
    known = Plans(pool(inputs=(), outputs=(), state=state, error=error))
    with pytest.raises(NotReady, match=f"m version 1 is not ready: {reason}"):
        known.get(head(("X", "FP32", (1, 2))))


def test_a_model_without_inputs_can_be_asked() -> None:
    made = Plans(pool(inputs=(), batched=False)).get(head())
    assert list(made.arrange([])) == []
    assert made.signature.rstrip() == b"[]"


def test_the_sizes_of_floats() -> None:
    assert Plan(head(("X", "FP32", (2, 2))), pool()).arrange([floats(1, 2, 3, 4)])


@pytest.mark.parametrize("names", [("X",), ("A", "B"), ("one", "two", "three")])
def test_signatures_are_padded_so_that_tensors_start_aligned(names: tuple[str, ...]) -> None:
    text = signature([(name, "FP32", (3,)) for name in names])
    before = wire.HEADER.size + wire.SECTION.size + wire.SIZE.size * len(names) + len(text)
    assert before % 8 == 0
    assert json.loads(text) == [[name, "FP32", [3]] for name in names]


def special(wishes: dict[str, int | Place], *inputs: Input, outputs: tuple[str, ...] = ("Y",)) -> Head:
    return Head(inputs or (Input("X", "FP32", (3, 2)),), outputs, True, wishes)


def test_an_output_as_classes_has_a_shape_of_its_own() -> None:
    made = Plan(special({"Y": 5}), pool(labels={"Y": ("cat", "dog")}))
    assert made.special
    shape = made.reply_shape(signature([("Y", "FP32", [2])]))
    (output,) = pb.ModelInferResponse.FromString(shape.head).outputs
    assert (output.name, output.datatype, list(output.shape)) == ("Y", "BYTES", [3, 2])
    (classes,) = shape.special
    assert classes is not None
    assert classes.encode(floats(1, 2, 4, 3, 5, 6)).startswith(b"\x0e\0\0\0" + b"2.000000:1:dog")


def test_classes_of_a_model_without_a_batch_axis_are_those_of_all_elements() -> None:
    where = pool(batched=False, inputs=(Tensor("X", "FP32", (3, 2)),), outputs=(Tensor("Y", "FP32", (2, 2)),))
    shape = Plan(special({"Y": 3}), where).reply_shape(signature([("Y", "FP32", [2, 2])]))
    (output,) = pb.ModelInferResponse.FromString(shape.head).outputs
    assert list(output.shape) == [3]


@pytest.mark.parametrize("datatype", ["BYTES", "BOOL"])
def test_only_numbers_can_be_classified(datatype: str) -> None:
    where = pool(outputs=(Tensor("Y", datatype, (-1, 2)),))
    assert refused(special({"Y": 1}), where) == f"output 'Y': 'classification' needs numbers, and it is {datatype}"


def test_an_output_in_shared_memory_says_where() -> None:
    made = Plan(special({"Y": Place("r", 24, 8)}, outputs=("Z", "Y")), TWO_OUTPUTS)
    shape = made.reply_shape(signature([("Y", "FP32", [2]), ("Z", "FP32", [2])]))
    plain, output = pb.ModelInferResponse.FromString(shape.head).outputs
    assert not plain.parameters
    assert output.parameters["shared_memory_region"].string_param == "r"
    assert output.parameters["shared_memory_byte_size"].int64_param == 24
    assert output.parameters["shared_memory_offset"].int64_param == 8
    assert [kind is None for kind in shape.special] == [True, False]


def test_a_place_of_another_size_than_the_input_is_refused_at_once() -> None:
    given = special({}, Input("X", "FP32", (3, 2), Place("r", 23, 0)))
    assert refused(given, pool()) == ("input 'X': 'shared_memory_byte_size' is 23, but its shape and datatype take 24")


def test_inputs_in_shared_memory_are_bounded_all_together(tmp_path: Path) -> None:
    regions = Regions(tmp_path, max_held_bytes=26)
    word, numbers = Input("B", "BYTES", (2, 1), Place("r", 10, 0)), Input("A", "FP32", (2, 2), Place("r", 16, 10))
    assert Plan(special({}, word, numbers, outputs=()), TWO, regions)
    with pytest.raises(InvalidRequest, match="27 bytes of inputs in shared memory; at most 26 in one request"):
        Plan(special({}, Input("B", "BYTES", (2, 1), Place("r", 11, 0)), numbers, outputs=()), TWO, regions)


def test_inputs_in_shared_memory_are_arranged_with_the_others(tmp_path: Path) -> None:
    path = tmp_path / "object"
    path.write_bytes(WORD * 2 + floats(1, 2, 3, 4))
    status = path.stat()
    regions = Regions(tmp_path)
    regions.update([Region("r", "object", 0, 26, status.st_dev, status.st_ino)])
    word, numbers = Input("B", "BYTES", (2, 1), Place("r", 10, 0)), Input("A", "FP32", (2, 2), Place("r", 16, 10))
    both = Plans(TWO, regions).get(special({}, word, numbers))
    assert list(map(bytes, both.arrange([]))) == [floats(1, 2, 3, 4), WORD * 2]
    one = Plan(special({}, word, Input("A", "FP32", (2, 2))), TWO, regions)
    assert list(map(bytes, one.arrange([b"a" * 16]))) == [b"a" * 16, WORD * 2]
    for wrong in ([], [b"a" * 16] * 2):
        with pytest.raises(InvalidRequest, match="raw_input_contents for 1 inputs that are not in shared memory"):
            one.arrange(wrong)
    path.write_bytes(b"\xff" * 26)
    with pytest.raises(InvalidRequest, match="input 'B': BYTES elements need a 4-byte little-endian length each"):
        one.arrange([b"a" * 16])
    regions.close()
    with pytest.raises(InvalidRequest, match="input 'B': shared memory region 'r' is not registered"):
        one.arrange([b"a" * 16])


def test_a_request_whose_only_input_is_raw_is_still_checked_for_its_outputs() -> None:
    made = Plan(special({"Y": Place("gone", 24, 0)}), pool())
    with pytest.raises(InvalidRequest, match="output 'Y': shared memory region 'gone' is not registered"):
        made.arrange([b"x" * 24])
