from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from gateway.dataplane.reflection import MAX_REQUEST_BYTES, Reflection, Schema, answer
from gateway.dataplane.service import FILES
from gateway.errors import Code, InvalidRequest
from protos import admin_pb2
from protos import reflection_pb2 as pb
from tests.unit.gateway.dataplane.fake_stream import FakeStream

SCHEMA = Schema(FILES)


def ask(schema: Schema = SCHEMA, **question: Any) -> pb.ServerReflectionResponse:
    request = pb.ServerReflectionRequest(host="here", **question)
    response = pb.ServerReflectionResponse.FromString(answer(schema, request.SerializeToString()))
    assert response.original_request == request
    assert response.valid_host == "here"
    return response


def files(response: pb.ServerReflectionResponse) -> list[str]:
    found = response.file_descriptor_response.file_descriptor_proto
    return [FileDescriptorProto.FromString(each).name for each in found]


def test_every_service_is_listed() -> None:
    assert [each.name for each in ask(list_services="*").list_services_response.service] == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "inference.GRPCInferenceService",
    ]


@pytest.mark.parametrize(
    ("symbol", "file"),
    [
        ("inference.GRPCInferenceService", "protos/inference.proto"),
        (".inference.GRPCInferenceService", "protos/inference.proto"),
        ("inference.GRPCInferenceService.ModelStreamInfer", "protos/inference.proto"),
        ("inference.ModelInferRequest", "protos/inference.proto"),
        ("inference.ModelInferRequest.InferInputTensor", "protos/inference.proto"),
        ("inference.ModelInferRequest.InferInputTensor.shape", "protos/inference.proto"),
        ("inference.InferParameter.parameter_choice", "protos/inference.proto"),
        ("grpc.health.v1.HealthCheckResponse.ServingStatus", "protos/health.proto"),
        ("grpc.health.v1.HealthCheckResponse.SERVING", "protos/health.proto"),
        ("grpc.reflection.v1alpha.ErrorResponse", "protos/reflection_v1alpha.proto"),
    ],
)
def test_a_symbol_leads_to_its_file(symbol: str, file: str) -> None:
    assert files(ask(file_containing_symbol=symbol)) == [file]


def test_a_file_is_found_by_its_name() -> None:
    found = ask(file_by_filename="protos/inference.proto").file_descriptor_response.file_descriptor_proto
    (service,) = FileDescriptorProto.FromString(found[0]).service
    method = next(method for method in service.method if method.name == "ModelStreamInfer")
    assert (method.client_streaming, method.server_streaming) == (True, True)


def test_a_file_comes_with_those_it_imports() -> None:
    imports = [each.name for each in admin_pb2.DESCRIPTOR.dependencies]
    assert imports
    found = files(ask(Schema([admin_pb2.DESCRIPTOR]), file_by_filename="protos/admin.proto"))
    assert found[0] == "protos/admin.proto"
    assert {*imports} <= {*found[1:]}, "and what these import"


def test_a_message_has_no_extensions() -> None:
    found = ask(all_extension_numbers_of_type="inference.ModelInferRequest").all_extension_numbers_response
    assert (found.base_type_name, list(found.extension_number)) == ("inference.ModelInferRequest", [])


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ({"file_by_filename": "x.proto"}, "file 'x.proto' is not part of what is served"),
        ({"file_containing_symbol": "inference.Nobody"}, "symbol 'inference.Nobody' is not part of what is served"),
        ({"all_extension_numbers_of_type": "a.B"}, "message 'a.B' is not part of what is served"),
        (
            {"file_containing_extension": {"containing_type": "inference.ModelInferRequest", "extension_number": 7}},
            "message 'inference.ModelInferRequest' has no extension 7",
        ),
    ],
)
def test_what_is_not_there_is_not_found(question: dict[str, Any], text: str) -> None:
    found = ask(**question).error_response
    assert (found.error_code, found.error_message) == (Code.NOT_FOUND, text)


def test_a_question_that_asks_nothing_is_answered_so() -> None:
    found = ask().error_response
    assert (found.error_code, found.error_message) == (Code.INVALID_ARGUMENT, "the request asks for nothing")


@pytest.mark.parametrize("message", [b"\xff", b"\x22" + b"x" * MAX_REQUEST_BYTES])
def test_what_is_no_question_is_refused(message: bytes) -> None:
    with pytest.raises(InvalidRequest):
        answer(SCHEMA, message)


def test_both_versions_have_the_same_messages() -> None:
    from protos import reflection_pb2, reflection_v1alpha_pb2

    def described(module: Any) -> list[tuple[str, list[tuple[str, int, int, bool]]]]:
        return [
            (name, [(field.name, field.number, field.type, _repeated(field)) for field in message.fields])
            for name, message in sorted(module.DESCRIPTOR.message_types_by_name.items())
        ]

    assert described(reflection_pb2) == described(reflection_v1alpha_pb2)


def _repeated(field: FieldDescriptor) -> bool:
    return bool(field.is_repeated)


def question(symbol: str) -> bytes:
    return pb.ServerReflectionRequest(file_containing_symbol=symbol).SerializeToString()


def opened(reflection: Reflection, room: int = 100) -> FakeStream:
    stream = FakeStream(room=room)
    reflection.start(stream)
    return stream


def test_a_stream_answers_each_question_in_order_until_its_end() -> None:
    stream = opened(Reflection(SCHEMA))
    names = ["inference.ModelInferRequest", "x", "grpc.health.v1.Health"]
    stream.push(*map(question, names))
    found = [pb.ServerReflectionResponse.FromString(message).original_request for message in stream.sent]
    assert [each.file_containing_symbol for each in found] == names
    stream.end()
    assert stream.code == Code.OK


def test_a_broken_question_ends_the_stream() -> None:
    stream = opened(Reflection(SCHEMA))
    stream.push(b"\xff")
    assert (stream.code, stream.text) == (Code.INVALID_ARGUMENT, "the message is not a ServerReflectionRequest")


def test_who_does_not_read_is_not_answered() -> None:
    stream = opened(Reflection(SCHEMA), room=1)
    stream.push(*[question("x")] * 5)
    assert (len(stream.sent), stream.waiting) == (2, 3)
    stream.read()
    stream.turn()
    assert (len(stream.sent), stream.waiting) == (4, 1)


def test_who_leaves_holds_no_place() -> None:
    stream = opened(Reflection(SCHEMA))
    stream.push(question("x"))
    stream.cancel()
    assert stream.released


def test_a_drain_ends_the_streams_that_are_open() -> None:
    reflection = Reflection(SCHEMA)
    idle, left, ended = opened(reflection), opened(reflection), opened(reflection)
    left.cancel()
    ended.end()
    reflection.drain()
    assert [stream.code for stream in (idle, left, ended)] == [Code.OK, None, Code.OK]
