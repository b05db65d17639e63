import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.oip import stream
from gateway.oip.stream import FINAL, MAX_FIELDS
from protos import inference_pb2 as pb

ARM = (("cutover-arm", "stable"), ("cutover-reason", "größer"))


def read(message: bytes) -> pb.ModelStreamInferResponse:
    return pb.ModelStreamInferResponse.FromString(message)


@given(st.binary(max_size=300), st.text(max_size=20))
def test_an_answer_is_the_reply_with_parameters(raw: bytes, id_: str) -> None:
    reply = pb.ModelInferResponse(model_name="m", model_version="1", id=id_, raw_output_contents=[raw])
    found = read(stream.answer(reply.SerializeToString(), stream.parameters(ARM)))
    assert found.error_message == ""
    assert found.infer_response.parameters[FINAL].bool_param
    for key, value in ARM:
        assert found.infer_response.parameters[key].string_param == value
    found.infer_response.ClearField("parameters")
    assert found.infer_response == reply


def test_a_failure_says_whose_it_is() -> None:
    request = pb.ModelInferRequest(model_name="m", model_version="3", id="7", raw_input_contents=[b"x" * 1000])
    found = read(stream.failure("no such input", request.SerializeToString(), stream.parameters(ARM)))
    answer = found.infer_response
    assert found.error_message == "no such input"
    assert (answer.model_name, answer.model_version, answer.id) == ("m", "3", "7")
    assert answer.parameters[FINAL].bool_param
    assert answer.parameters["cutover-arm"].string_param == "stable"


@given(st.text(max_size=200), st.text(max_size=200), st.text(max_size=200), st.binary(max_size=300))
def test_names_are_found_as_the_library_finds_them(model: str, version: str, id_: str, raw: bytes) -> None:
    request = pb.ModelInferRequest(model_name=model, model_version=version, id=id_, raw_input_contents=[raw])
    request.parameters["user_id"].string_param = "ada"
    request.inputs.add(name="X", datatype="FP32", shape=[1, 2])
    found = pb.ModelInferResponse.FromString(stream.names(request.SerializeToString()))
    assert (found.model_name, found.model_version, found.id) == (model, version, id_)


@given(st.binary(max_size=60))
def test_whatever_a_request_is_its_failure_can_be_read(request: bytes) -> None:
    assert read(stream.failure("no", request, b"")).error_message == "no"


@pytest.mark.parametrize(
    "request_",
    [
        b"\x0a\x05ab",
        b"\x0a",
        b"\x0a\xff\xff\xff\xff\xff\xff",
        b"\x0a\x02\xff\xfe",
        b"\x08\x01\x1a\x01x",
    ],
    ids=["cut off", "no length", "endless length", "not UTF-8", "another type"],
)
def test_what_cannot_be_read_is_left_out(request_: bytes) -> None:
    assert stream.names(request_) == b""


def test_a_request_of_many_fields_is_not_read_to_its_end() -> None:
    assert stream.names(b"\x3a\x00" * (MAX_FIELDS - 1) + b"\x1a\x01x") == b"\x1a\x01x"
    assert stream.names(b"\x3a\x00" * MAX_FIELDS + b"\x1a\x01x") == b""


def test_a_text_that_is_no_unicode_is_replaced() -> None:
    assert read(stream.failure("x\ud800", b"", b"")).error_message == "x?"
