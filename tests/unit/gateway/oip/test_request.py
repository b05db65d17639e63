import struct

import numpy as np
import pytest

from gateway.errors import InvalidRequest
from gateway.oip import request as oip
from gateway.oip.request import CACHED_BYTES, CACHED_HEADS, COPY_LIMIT_BYTES, JOINED_PARAMETERS_BYTES, MAX_DIMENSIONS
from gateway.oip.reserved import Place
from protos import inference_pb2 as pb


def message(*shape: int, datatype: str = "FP32", raw: bytes = b"", name: str = "X") -> pb.ModelInferRequest:
    made = pb.ModelInferRequest(model_name="m")
    made.inputs.add(name=name, datatype=datatype, shape=shape)
    made.raw_input_contents.append(raw)
    return made


def refused(made: pb.ModelInferRequest) -> str:
    with pytest.raises(InvalidRequest) as caught:
        oip.read(made.SerializeToString())
    return str(caught.value)


def test_a_usual_request() -> None:
    made = message(1, 2, raw=b"12345678")
    made.model_version, made.id = "3", "call-1"
    made.outputs.add(name="Y")
    made.parameters["user_id"].string_param = "ada"
    request, raw = oip.read(made.SerializeToString())
    assert (request.model, request.version, request.id) == (b"m", b"3", b"call-1")
    (tensor,) = request.head.inputs
    assert (tensor.name, tensor.datatype, tensor.shape) == ("X", "FP32", (1, 2))
    assert request.head.outputs == ("Y",)
    assert list(raw) == [b"12345678"]
    assert oip.parameters(request) == {"user_id": "ada"}


def test_what_clients_send_takes_the_fast_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oip, "_read_slow", lambda _: pytest.fail("slow"))
    made = message(1, 2, raw=b"12345678")
    made.model_version, made.id = "3", "käse"
    made.inputs.add(name="W", datatype="BYTES", shape=[1]).parameters["binary_data_size"].int64_param = 5
    made.raw_input_contents.append(b"\x01\0\0\0w")
    for name in ("Y", "Z"):
        made.outputs.add(name=name)
    for number in range(20):
        made.parameters[f"parameter-{number}"].int64_param = number
    for _ in range(2):
        request, _ = oip.read(made.SerializeToString())
        assert request.head.outputs == ("Y", "Z")
        assert [tensor.name for tensor in request.head.inputs] == ["X", "W"]
    assert len(oip.parameters(request)) == 20


def test_no_parameters_are_no_parameters() -> None:
    assert oip.parameters(oip.read(message(1).SerializeToString())[0]) == {}


@pytest.mark.parametrize(("size", "kind"), [(COPY_LIMIT_BYTES, bytes), (COPY_LIMIT_BYTES + 1, memoryview)])
def test_a_big_tensor_is_a_view_of_the_message(size: int, kind: type) -> None:
    raw = np.arange(size, dtype=np.uint8).tobytes()
    encoded = message(size, datatype="UINT8", raw=raw).SerializeToString()
    _, (tensor,) = oip.read(encoded)
    assert isinstance(tensor, kind)
    assert bytes(tensor) == raw
    if isinstance(tensor, memoryview):
        assert tensor.obj is encoded


def test_the_same_head_is_the_same_object_whatever_else_changes() -> None:
    one, other = message(1, 2, raw=b"1" * 8), message(1, 2, raw=b"2" * 8)
    other.id = "x"
    other.parameters["p"].bool_param = True
    (first, _), (second, _) = oip.read(one.SerializeToString()), oip.read(other.SerializeToString())
    assert first.head is second.head


def test_typed_contents_share_the_head_of_raw_ones() -> None:
    typed = pb.ModelInferRequest(model_name="m")
    typed.inputs.add(name="X", datatype="FP32", shape=[1, 2]).contents.fp32_contents.extend([1.5, -2])
    request, raw = oip.read(typed.SerializeToString())
    assert list(raw) == [struct.pack("<2f", 1.5, -2)]
    assert request.head is oip.read(message(1, 2, raw=b"1" * 8).SerializeToString())[0].head


def test_a_large_head_is_parsed_each_time() -> None:
    encoded = message(1, name="X" * CACHED_BYTES).SerializeToString()
    first, second = oip.read(encoded)[0].head, oip.read(encoded)[0].head
    assert not first.cached
    assert first is not second
    assert first.inputs[0].name == second.inputs[0].name


def test_the_caches_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oip, "CACHED_HEADS", 10)
    oip._heads.clear()
    oip._head_sizes.clear()
    for number in range(100):
        made = message(number)
        made.model_name = f"m{number}"
        assert oip.read(made.SerializeToString())[0].head.inputs[0].shape == (number,)
    assert len(oip._heads) <= 10
    assert len(oip._head_sizes) <= 10
    assert CACHED_HEADS * CACHED_BYTES <= 16 << 20


def test_a_long_model_name_leaves_nothing_behind() -> None:
    oip.read(message(1).SerializeToString())
    made = message(1)
    made.model_name = "m" * 100_000
    assert oip.read(made.SerializeToString())[0].model == b"m" * 100_000
    assert b"m" in oip._head_sizes
    assert made.model_name.encode() not in oip._head_sizes


def test_many_parameters_are_left_to_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Joining them one by one would take quadratic time."""
    slow: list[bytes] = []
    read_slow = oip._read_slow

    def spy(encoded: bytes) -> tuple[oip.Request, list[oip.Raw]]:
        slow.append(encoded)
        return read_slow(encoded)

    monkeypatch.setattr(oip, "_read_slow", spy)
    part = pb.ModelInferRequest()
    part.parameters["p"].int64_param = 1
    encoded = message(1, raw=b"1234").SerializeToString()
    few, many = part.SerializeToString() * 10, part.SerializeToString() * 10_000
    assert len(many) > 10 * JOINED_PARAMETERS_BYTES
    assert oip.parameters(oip.read(encoded + few)[0]) == {"p": 1}
    assert not slow
    request, raw = oip.read(encoded + many)
    assert oip.parameters(request) == {"p": 1}
    assert slow
    assert list(raw) == [b"1234"]


def test_inputs_after_their_tensors_are_read_all_the_same() -> None:
    head = pb.ModelInferRequest(model_name="m")
    head.inputs.add(name="X", datatype="INT8", shape=[2])
    tensors = pb.ModelInferRequest(raw_input_contents=[b"ab"])
    request, raw = oip.read(tensors.SerializeToString() + head.SerializeToString())
    assert list(raw) == [b"ab"]
    assert request.head.inputs[0].shape == (2,)


@pytest.mark.parametrize(
    "encoded", [b"\xff", b"\x0a", b"\x0a\x05abc", b"\x3a\x80", b"\x2a\x02\x0a", b"\x2a\x03\x0a\x01\xff"]
)
def test_what_is_no_request_is_called_so(encoded: bytes) -> None:
    with pytest.raises(InvalidRequest, match="the message is not a ModelInferRequest"):
        oip.read(encoded)


def test_the_empty_message_is_an_empty_request() -> None:
    request, raw = oip.read(b"")
    assert (request.model, request.head.inputs, list(raw)) == (b"", (), [])


def test_an_id_comes_back_in_the_reply_and_so_must_be_text() -> None:
    assert oip.read("\x1a\x04äö".encode())[0].id == "äö".encode()
    with pytest.raises(InvalidRequest, match="id is not UTF-8"):
        oip.read(b"\x1a\x01\xff")


def test_text_names_the_field() -> None:
    assert oip.text("model_name", "Straße".encode()) == "Straße"
    with pytest.raises(InvalidRequest, match="model_name is not UTF-8"):
        oip.text("model_name", b"\xff")


def test_broken_parameters_are_refused_when_they_are_read() -> None:
    request, _ = oip.read(b"\x22\x03\x0a\x01\xff")
    with pytest.raises(InvalidRequest, match="parameters cannot be read"):
        oip.parameters(request)


def test_a_parameter_without_a_value_is_absent() -> None:
    made = message(1)
    made.parameters["nothing"].SetInParent()
    made.parameters["zero"].int64_param = 0
    assert oip.parameters(oip.read(made.SerializeToString())[0]) == {"zero": 0}


def test_raw_and_typed_contents_are_not_mixed() -> None:
    made = message(1, raw=b"1234")
    made.inputs[0].contents.fp32_contents.append(1)
    assert refused(made) == "input 'X' has typed contents beside raw_input_contents; send one kind only"


def shared(made: pb.ModelInferRequest) -> pb.ModelInferRequest:
    """With a further input that lies in shared memory."""
    tensor = made.inputs.add(name="S", datatype="FP32", shape=[2])
    tensor.parameters["shared_memory_region"].string_param = "region"
    tensor.parameters["shared_memory_byte_size"].int64_param = 8
    return made


def test_inputs_in_shared_memory_have_no_raw_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    only = shared(pb.ModelInferRequest(model_name="m", id="call-1")).SerializeToString()
    beside = shared(message(1, raw=b"1234")).SerializeToString()
    slow = shared(message(1))
    slow.inputs[0].contents.fp32_contents.append(1)
    del slow.raw_input_contents[:]
    assert list(oip.read(slow.SerializeToString())[1]) == [struct.pack("<f", 1)]
    monkeypatch.setattr(oip, "_read_slow", lambda _: pytest.fail("slow"))
    for _ in range(2):
        assert list(oip.read(only)[1]) == []
        assert list(oip.read(beside)[1]) == [b"1234"]
    assert oip.read(only)[0].head is oip.read(only)[0].head
    assert [tensor.place for tensor in oip.read(beside)[0].head.inputs] == [None, Place("region", 8, 0)]


def test_a_tensor_comes_one_way_only() -> None:
    made = shared(pb.ModelInferRequest(model_name="m"))
    made.inputs[0].contents.fp32_contents.extend([1, 2])
    assert refused(made) == "input 'S' has contents beside 'shared_memory_region'; send one of them"


def test_wishes_for_outputs_are_part_of_the_head() -> None:
    made = message(1, raw=b"1234")
    made.outputs.add(name="Y").parameters["classification"].int64_param = 3
    made.outputs.add(name="Z")
    head = oip.read(made.SerializeToString())[0].head
    assert (head.outputs, head.wishes) == (("Y", "Z"), {"Y": 3})
    made.outputs[0].parameters["classification"].string_param = "3"
    assert refused(made).startswith("output 'Y': 'classification' must be an int64_param")


def test_parameters_that_only_describe_the_transfer_are_accepted() -> None:
    made = message(1, raw=b"1234")
    made.inputs[0].parameters["binary_data_size"].int64_param = 4
    made.outputs.add(name="Y").parameters["binary_data"].bool_param = True
    assert oip.read(made.SerializeToString())[0].head.outputs == ("Y",)


def test_bad_heads_are_refused_by_name() -> None:
    assert refused(message(1, datatype="float32")) == "input 'X': unknown datatype 'float32'"
    assert refused(message(2, -1)) == "input 'X': shape [2, -1] has a negative size"
    assert refused(message(*[1] * (MAX_DIMENSIONS + 1))) == "input 'X': 65 dimensions; a tensor has at most 64"
    twice = message(1)
    twice.inputs.add(name="X", datatype="FP32", shape=[1])
    assert refused(twice) == "input 'X' is given twice"
    outputs = message(1)
    outputs.outputs.extend([pb.ModelInferRequest.InferRequestedOutputTensor(name="Y")] * 2)
    assert refused(outputs) == "output 'Y' is given twice"


def test_a_refused_head_is_refused_again() -> None:
    made = message(2, -1)
    assert refused(made) == refused(made)
