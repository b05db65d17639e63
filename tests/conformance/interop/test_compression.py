"""The four cases about compression, by hand: grpcio's client neither sees nor sets the flag of a message."""

from collections.abc import Iterator

import pytest

from tests.conformance.interop.client import LARGE, RESPONSE_BYTES
from tests.conformance.interop.conftest import Interop
from tests.conformance.interop.interop_pb2 import (
    BoolValue,
    Payload,
    ResponseParameters,
    SimpleRequest,
    SimpleResponse,
    StreamingInputCallRequest,
    StreamingInputCallResponse,
    StreamingOutputCallRequest,
    StreamingOutputCallResponse,
)
from tests.conformance.interop.wire import Wire, message, unpacked

ENCODINGS = ("gzip", "deflate")
OK, INVALID_ARGUMENT = 0, 3


@pytest.fixture
def wire(server: Interop) -> Iterator[Wire]:
    with Wire(server.connect()) as made:
        yield made


def large(*, expected: bool | None = None, asked: bool | None = None) -> bytes:
    """large_unary, saying whether the request is compressed, and whether the response shall be."""
    request = SimpleRequest()
    request.CopyFrom(LARGE)
    if expected is not None:
        request.expect_compressed.value = expected
    if asked is not None:
        request.response_compressed.value = asked
    return request.SerializeToString()


def part(size: int, *, expected: bool) -> bytes:
    """One request of StreamingInputCall."""
    request = StreamingInputCallRequest(payload=Payload(body=bytes(size)), expect_compressed=BoolValue(value=expected))
    return request.SerializeToString()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_client_compressed_unary(server: Interop, wire: Wire, encoding: str) -> None:
    probe = wire.call("UnaryCall", large(expected=True), ("grpc-encoding", encoding))
    assert probe.status == (INVALID_ARGUMENT if server.is_ours else OK)  # grpcio does not say how a message came
    compressed = wire.start("UnaryCall", ("grpc-encoding", encoding))
    wire.send(compressed, message(large(expected=True), encoding))
    plain = wire.start("UnaryCall")
    wire.send(plain, message(large(expected=False)))
    for stream_id in (compressed, plain):
        reply = wire.reply(stream_id)
        assert reply.status == OK
        ((flag, body),) = unpacked(reply)
        assert (flag, len(SimpleResponse.FromString(body).payload.body)) == (0, RESPONSE_BYTES)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("asked", [True, False])
def test_server_compressed_unary(wire: Wire, encoding: str, asked: bool) -> None:
    reply = wire.call("UnaryCall", large(asked=asked), ("grpc-accept-encoding", f"identity, {encoding}"))
    assert reply.status == OK
    ((flag, body),) = unpacked(reply)
    assert (flag, len(SimpleResponse.FromString(body).payload.body)) == (asked, RESPONSE_BYTES)
    assert reply.fields.get("grpc-encoding", "identity") == encoding if asked else not flag


def test_nothing_is_compressed_for_who_does_not_accept_it(wire: Wire) -> None:
    for accepted in ((), (("grpc-accept-encoding", "identity,br"),)):
        reply = wire.call("UnaryCall", large(asked=True), *accepted)
        assert [flag for flag, _ in reply.messages] == [0]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_client_compressed_streaming(server: Interop, wire: Wire, encoding: str) -> None:
    probe = wire.call("StreamingInputCall", part(27_182, expected=True), ("grpc-encoding", encoding))
    assert probe.status == (INVALID_ARGUMENT if server.is_ours else OK)  # grpcio does not say how a message came
    stream_id = wire.start("StreamingInputCall", ("grpc-encoding", encoding))
    wire.send(stream_id, message(part(27_182, expected=True), encoding), end=False)
    wire.send(stream_id, message(part(45_904, expected=False)))
    reply = wire.reply(stream_id)
    assert reply.status == OK
    ((_, body),) = unpacked(reply)
    assert StreamingInputCallResponse.FromString(body).aggregated_payload_size == 73_086


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_server_compressed_streaming(wire: Wire, encoding: str) -> None:
    parameters = [
        ResponseParameters(size=31_415, compressed=BoolValue(value=True)),
        ResponseParameters(size=92_653, compressed=BoolValue(value=False)),
    ]
    request = StreamingOutputCallRequest(response_parameters=parameters).SerializeToString()
    reply = wire.call("StreamingOutputCall", request, ("grpc-accept-encoding", encoding))
    assert reply.status == OK
    found = [(flag, len(StreamingOutputCallResponse.FromString(body).payload.body)) for flag, body in unpacked(reply)]
    assert found == [(1, 31_415), (0, 92_653)]
