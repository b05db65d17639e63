"""The hand-written reader and the protobuf library agree on every message; only InvalidRequest is ever raised."""

import random
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from google.protobuf.internal.decoder import _DecodeVarint32  # type: ignore[attr-defined] # it has no stub
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.oip import request as oip
from gateway.oip.contents import ELEMENT_BYTES, count_elements, to_raw
from protos import inference_pb2 as pb

FEW = settings(max_examples=80, deadline=None)
MORE = settings(max_examples=150, deadline=None)

names = st.text(max_size=6)
sizes = st.integers(0, 3)
parameters = st.dictionaries(
    names,
    st.one_of(
        st.builds(pb.InferParameter, bool_param=st.booleans()),
        st.builds(pb.InferParameter, int64_param=st.integers(-(1 << 63), (1 << 63) - 1)),
        st.builds(pb.InferParameter, string_param=names),
        st.builds(pb.InferParameter, double_param=st.floats(allow_nan=False)),
        st.builds(pb.InferParameter, uint64_param=st.integers(0, (1 << 64) - 1)),
        st.just(pb.InferParameter()),
    ),
    max_size=3,
)


@st.composite
def requests(draw: st.DrawFn) -> pb.ModelInferRequest:
    """Well-formed requests: raw or typed, with or without everything optional."""
    message = pb.ModelInferRequest(
        model_name=draw(names), model_version=draw(st.sampled_from(["", "1", "20"])), id=draw(names)
    )
    for name, value in draw(parameters).items():
        message.parameters[name].CopyFrom(value)
    typed = draw(st.booleans())
    for name in draw(st.lists(names, max_size=3, unique=True)):
        shape = draw(st.lists(sizes, max_size=3))
        tensor = message.inputs.add(name=name, datatype=draw(st.sampled_from(["FP32", "INT64", "BYTES"])), shape=shape)
        if typed:
            _fill(tensor, draw(st.lists(st.integers(-100, 100), max_size=3)))
        else:
            message.raw_input_contents.append(draw(st.binary(max_size=300)))
    for name in draw(st.lists(names, max_size=2, unique=True)):
        message.outputs.add(name=name)
    return message


def _fill(tensor: Any, values: list[int]) -> None:
    tensor.contents.SetInParent()
    if tensor.datatype == "FP32":
        tensor.contents.fp32_contents.extend(values)
    elif tensor.datatype == "INT64":
        tensor.contents.int64_contents.extend(values)
    else:
        tensor.contents.bytes_contents.extend(str(value).encode() for value in values)


def shuffled(message: pb.ModelInferRequest, seed: int) -> bytes:
    """The same message with its fields in another order; repeated ones keep theirs among themselves."""
    make: Any = pb.ModelInferRequest
    queues = []
    for field, value in message.ListFields():
        parts = []
        if field.name == "parameters":
            for name in value:
                part = pb.ModelInferRequest()
                part.parameters[name].CopyFrom(value[name])
                parts.append(part.SerializeToString())
        elif field.is_repeated:
            parts = [make(**{field.name: [each]}).SerializeToString() for each in value]
        else:
            parts = [make(**{field.name: value}).SerializeToString()]
        queues.append(parts)
    chance = random.Random(seed)  # noqa: S311 - a test
    out = []
    while queues := [queue for queue in queues if queue]:
        out.append(chance.choice(queues).pop(0))
    return b"".join(out)


def meaning(read: tuple[oip.Request, Sequence[oip.Raw]]) -> tuple[Any, ...]:
    """Everything a request says."""
    request, tensors = read
    inputs = [(tensor.name, tensor.datatype, tensor.shape) for tensor in request.head.inputs]
    raw = [bytes(tensor) for tensor in tensors]
    names = oip.text("model_name", request.model), oip.text("version", request.version), oip.text("id", request.id)
    return *names, _comparable(oip.parameters(request)), inputs, request.head.outputs, raw


def library(message: bytes) -> tuple[Any, ...]:
    """The same, said by the protobuf library alone."""
    parsed = pb.ModelInferRequest.FromString(message)
    values = {name: (value, value.WhichOneof("parameter_choice")) for name, value in parsed.parameters.items()}
    inputs = [(tensor.name, tensor.datatype, tuple(tensor.shape)) for tensor in parsed.inputs]
    raw = list(parsed.raw_input_contents)
    if any(tensor.HasField("contents") for tensor in parsed.inputs):
        raw = [to_raw(tensor.name, tensor.datatype, tensor.contents) for tensor in parsed.inputs]
    return (
        parsed.model_name,
        parsed.model_version,
        parsed.id,
        _comparable({name: getattr(value, kind) for name, (value, kind) in values.items() if kind}),
        inputs,
        tuple(output.name for output in parsed.outputs),
        raw,
    )


def _comparable(values: Mapping[str, object]) -> dict[str, object]:
    """The same, with doubles as their bits: a damaged message may hold NaN, which equals nothing."""
    return {name: struct.pack("<d", value) if type(value) is float else value for name, value in values.items()}


@FEW
@given(requests())
def test_a_serialized_request_means_what_the_library_says(message: pb.ModelInferRequest) -> None:
    encoded = message.SerializeToString()
    assert meaning(oip.read(encoded)) == library(encoded)


@FEW
@given(requests(), st.integers(0, 1 << 30))
def test_fields_may_come_in_any_order(message: pb.ModelInferRequest, seed: int) -> None:
    encoded = shuffled(message, seed)
    assert meaning(oip.read(encoded)) == library(encoded)


@FEW
@given(requests(), requests(), st.integers(0, 1 << 30))
def test_a_field_given_twice_is_merged_as_the_library_merges(
    first: pb.ModelInferRequest, second: pb.ModelInferRequest, seed: int
) -> None:
    encoded = shuffled(first, seed) + shuffled(second, seed + 1)
    _same(encoded)


UNKNOWN = [b"\x40\x07", b"\x99\x01" + b"x" * 8, b"\x82\x01\x03abc", b"\x85\x01abcd", b"\x83\x01\x84\x01"]
"""Fields 8 and 16 to 19, one of each wire type."""


@FEW
@given(requests(), st.sampled_from(UNKNOWN), st.integers(0, 1 << 30))
def test_unknown_fields_change_nothing(message: pb.ModelInferRequest, unknown: bytes, seed: int) -> None:
    encoded = shuffled(message, seed)
    expected = meaning(oip.read(encoded))
    assert meaning(oip.read(unknown + encoded)) == expected
    assert meaning(oip.read(encoded + unknown)) == expected


def _same(encoded: bytes) -> None:
    """Both say the same, or ours refuses (it does so for more reasons: duplicates, negative sizes).

    The library also refuses strings that a later one replaces, when they are not UTF-8; ours never looks at them.
    """
    try:
        ours = meaning(oip.read(encoded))
    except InvalidRequest:
        return
    try:
        expected = library(encoded)
    except DecodeError:
        expected = library(_without_replaced_strings(encoded))
    assert ours == expected


def _without_replaced_strings(encoded: bytes) -> bytes:
    fields: list[tuple[int, bytes]] = []
    position = 0
    while position < len(encoded):
        start = position
        tag = encoded[start]
        size, position = _DecodeVarint32(encoded, start + 1)
        position += size
        if tag in (0x0A, 0x12, 0x1A):
            fields = [(other, part) for other, part in fields if other != tag]
        fields.append((tag, encoded[start:position]))
    return b"".join(part for _, part in fields)


@MORE
@given(requests(), st.data())
def test_truncated_messages_are_read_alike_or_refused(message: pb.ModelInferRequest, data: st.DataObject) -> None:
    encoded = message.SerializeToString()
    _same(encoded[: data.draw(st.integers(0, len(encoded)))])


def test_not_a_number_is_read_as_the_library_reads_it() -> None:
    message = pb.ModelInferRequest()
    message.parameters["x"].double_param = float("nan")
    _same(message.SerializeToString())


@MORE
@given(requests(), st.data())
def test_damaged_messages_are_read_alike_or_refused(message: pb.ModelInferRequest, data: st.DataObject) -> None:
    encoded = bytearray(message.SerializeToString() or b"\0")
    for _ in range(data.draw(st.integers(1, 3))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    _same(bytes(encoded))


@MORE
@given(st.binary(max_size=200))
@example(b"\x2a")
@example(b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
@example(b"\x0a\x80\x80\x80\x80\x80\x01")
@example(b"\x22\x05\x0a\x01")
@example(b"\x1a\x01\xff")
@example(b"\x2a\x02\x1a\x80")
@example(b"\x13\x14")
@example(b"\x12\x01\x80\x12\x011")
def test_random_bytes_are_read_alike_or_refused(encoded: bytes) -> None:
    _same(encoded)


@FEW
@given(st.lists(requests(), min_size=2, max_size=8), st.data())
def test_what_was_cached_for_one_message_never_answers_for_another(
    messages: list[pb.ModelInferRequest], data: st.DataObject
) -> None:
    for message in messages:  # the same model with heads of many sizes: the guessed size is wrong again and again
        message.model_name = "m"
    encoded = [message.SerializeToString() for message in messages]
    for index in data.draw(st.lists(st.integers(0, len(encoded) - 1), min_size=5, max_size=30)):
        assert meaning(oip.read(encoded[index])) == library(encoded[index])


@FEW
@given(requests())
def test_equal_inputs_share_one_head(message: pb.ModelInferRequest) -> None:
    other = pb.ModelInferRequest()
    other.CopyFrom(message)
    other.id = "another"
    first, second = oip.read(message.SerializeToString()), oip.read(other.SerializeToString())
    if any(tensor.HasField("contents") for tensor in message.inputs):
        assert meaning(first)[4:] == meaning(second)[4:]
    else:
        assert first[0].head is second[0].head


@FEW
@given(st.lists(st.binary(max_size=20), max_size=10))
def test_strings_are_counted_as_they_were_put_in(values: list[bytes]) -> None:
    raw = to_raw("X", "BYTES", pb.InferTensorContents(bytes_contents=values))
    assert count_elements(raw, 10) == len(values)
    assert count_elements(memoryview(raw), 10) == len(values)


@MORE
@given(st.binary(max_size=40), st.integers(0, 11))
def test_counting_any_bytes_ends(raw: bytes, most: int) -> None:
    found = count_elements(raw, most)
    assert -1 <= found <= min(len(raw) // 4, most + 1)


@FEW
@given(st.sampled_from(sorted(ELEMENT_BYTES)), st.lists(st.integers(0, 127), max_size=6))
def test_typed_numbers_take_their_size(datatype: str, values: list[int]) -> None:
    contents = pb.InferTensorContents()
    if datatype in ("FP16", "BF16"):
        with pytest.raises(InvalidRequest):
            to_raw("X", datatype, contents)
        return
    field = {"BOOL": "bool", "INT64": "int64", "UINT64": "uint64", "FP32": "fp32", "FP64": "fp64"}.get(
        datatype, "uint" if datatype.startswith("U") else "int"
    )
    getattr(contents, f"{field}_contents").extend(values)
    assert len(to_raw("X", datatype, contents)) == len(values) * ELEMENT_BYTES[datatype]


def test_the_library_refuses_what_these_tests_call_broken() -> None:
    with pytest.raises(DecodeError):
        pb.ModelInferRequest.FromString(b"\x2a")


def test_equal_prefixes_of_messages_of_other_sizes_are_not_confused() -> None:
    """The shortest way looks a message up by its beginning; what follows must be as long as the beginning says."""
    long, short = (
        pb.ModelInferRequest(model_name=model, raw_input_contents=[bytes(size)])
        for model, size in (("aaaa", 8), ("aaa", 9))
    )
    for message in (long, short):
        message.inputs.add(name="X", datatype="UINT8", shape=[8])
    whole = long.SerializeToString()
    assert list(oip.read(whole)[1]) == [bytes(8)]
    assert list(oip.read(short.SerializeToString())[1]) == [bytes(9)]
    for broken in (whole[:-1], whole + b"\0"):
        with pytest.raises(InvalidRequest):
            oip.read(broken)
