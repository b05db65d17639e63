"""Tools and libraries that look at more than predictions: reflection clients, readers of google.rpc.Status."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

from protos import admin_pb2
from protos import inference_pb2 as pb
from protos import reflection_pb2 as reflection
from protos.admin_pb2_grpc import AdminStub
from protos.inference_pb2_grpc import GRPCInferenceServiceStub
from protos.reflection_pb2_grpc import ServerReflectionStub
from tests.serving import Gateway

SERVICES = {
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "inference.GRPCInferenceService",
}


@pytest.fixture
def channel(shared: Gateway) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(shared.target) as found:
        yield found


def test_grpcio_s_reflection_client_finds_everything(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    pool = DescriptorPool(database)
    assert set(database.get_services()) == SERVICES
    for name in SERVICES:
        assert pool.FindServiceByName(name).methods
    assert pool.FindMessageTypeByName("inference.ModelStreamInferResponse").fields
    with pytest.raises(KeyError):
        pool.FindMessageTypeByName("inference.Nobody")


def test_a_caller_without_proto_files_asks_for_a_prediction(channel: grpc.Channel) -> None:
    service = DescriptorPool(ProtoReflectionDescriptorDatabase(channel)).FindServiceByName(
        "inference.GRPCInferenceService"
    )
    infer = service.FindMethodByName("ModelInfer")
    request: Any = GetMessageClass(infer.input_type)(model_name="identity_int64")
    request.inputs.add(name="X", datatype="INT64", shape=[1, 3]).contents.int64_contents.extend([1, 2, 3])
    call: Any = channel.unary_unary(
        f"/{service.full_name}/{infer.name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=GetMessageClass(infer.output_type).FromString,
    )
    reply: Any = call(request, timeout=60)
    assert reply.raw_output_contents == [b"".join(n.to_bytes(8, "little") for n in (1, 2, 3))]


def test_grpcurl_s_questions_are_answered(channel: grpc.Channel) -> None:
    """`grpcurl ADDRESS inference.GRPCInferenceService/ModelReady` on one stream of v1, one question after another."""
    asked = [
        reflection.ServerReflectionRequest(list_services="*"),
        reflection.ServerReflectionRequest(file_containing_symbol="inference.GRPCInferenceService"),
        reflection.ServerReflectionRequest(file_by_filename="google/protobuf/any.proto"),
        reflection.ServerReflectionRequest(all_extension_numbers_of_type="inference.ModelReadyRequest"),
    ]
    kinds = ["list_services_response", "file_descriptor_response", "error_response", "all_extension_numbers_response"]
    answers = list(ServerReflectionStub(channel).ServerReflectionInfo(iter(asked), timeout=60))
    assert [answer.WhichOneof("message_response") for answer in answers] == kinds
    assert [answer.original_request for answer in answers] == asked


def info_of(error: grpc.RpcError) -> error_details_pb2.ErrorInfo:
    """The ErrorInfo of a failed call."""
    status = rpc_status.from_call(error)
    assert status.message == error.details()
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (pb.ModelInferRequest(model_name="nobody"), "NOT_FOUND"),
        (pb.ModelInferRequest(model_name="nöbödy 😊" * 300), "NOT_FOUND"),
        (pb.ModelInferRequest(model_name="classifier"), "INVALID_REQUEST"),
    ],
)
def test_an_inference_error_has_its_reason(shared: Gateway, request_: pb.ModelInferRequest, reason: str) -> None:
    with grpc.insecure_channel(shared.target) as channel, pytest.raises(grpc.RpcError) as caught:
        GRPCInferenceServiceStub(channel).ModelInfer(request_, timeout=60)
    info = info_of(caught.value)
    assert (info.reason, info.domain) == (reason, "cutover")


def test_an_admin_error_has_its_reason(shared: Gateway) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{shared.admin}") as channel, pytest.raises(grpc.RpcError) as caught:
        AdminStub(channel).GetRelease(admin_pb2.GetReleaseRequest(name="models/nobody/release"), timeout=60)
    assert info_of(caught.value).reason == "NOT_FOUND"


@pytest.mark.parametrize("count", [0, 2])
def test_a_watch_takes_one_request(shared: Gateway, count: int) -> None:
    with grpc.insecure_channel(shared.target) as channel:
        watch: Any = channel.stream_stream("/grpc.health.v1.Health/Watch")
        with pytest.raises(grpc.RpcError) as caught:
            list(watch(iter([b""] * count), timeout=60))
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
