"""The interop test cases with @grpc/grpc-js and @connectrpc/connect-node: others' streams on others' HTTP/2, Node's."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import Message

from tests.conformance.interop.client import LARGE, RESPONSE_BYTES, asking
from tests.conformance.interop.conftest import Interop
from tests.conformance.interop.interop_pb2 import (
    DESCRIPTOR,
    BoolValue,
    EchoStatus,
    Empty,
    Payload,
    ResponseParameters,
    SimpleRequest,
    SimpleResponse,
    StreamingInputCallRequest,
    StreamingInputCallResponse,
    StreamingOutputCallRequest,
    StreamingOutputCallResponse,
)
from tests.conformance.interop.methods import SERVICE
from tests.conformance.interop.test_cases import REQUESTS, RESPONSES, SPECIAL
from tests.conformance.node import CONNECT, GRPC_JS, needs_node, run

pytestmark = needs_node

HERE = Path(__file__).parent
CLIENTS = {"grpc-js": (HERE / "grpc_js.cjs", GRPC_JS), "connect": (HERE / "connect.cjs", CONNECT)}
TRAILING = base64.b64encode(b"\xab\xab\xab").decode()
ECHO = {"x-grpc-test-echo-initial": "test_initial_metadata_value", "x-grpc-test-echo-trailing-bin": TRAILING}
OK, CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED = 0, 1, 2, 4, 12
DEFLATE, GZIP = 1, 2


def call(method: str, *requests: Message, **options: object) -> dict[str, object]:
    """A call for the script."""
    path = method if method.startswith("/") else SERVICE + method
    return {
        "method": path,
        "requests": [base64.b64encode(each.SerializeToString()).decode() for each in requests],
    } | options


def streaming_input(sizes: Sequence[int], *, compressed: bool | None = None) -> list[StreamingInputCallRequest]:
    expected = None if compressed is None else BoolValue(value=compressed)
    return [StreamingInputCallRequest(payload=Payload(body=bytes(size)), expect_compressed=expected) for size in sizes]


FAIL = EchoStatus(code=UNKNOWN, message=SPECIAL)
SQUEEZED = SimpleRequest(
    response_size=RESPONSE_BYTES,
    payload=LARGE.payload,
    response_compressed=BoolValue(value=True),
    expect_compressed=BoolValue(value=True),
)
MIXED = StreamingOutputCallRequest(
    response_parameters=[
        ResponseParameters(size=31_415, compressed=BoolValue(value=True)),
        ResponseParameters(size=92_653, compressed=BoolValue(value=False)),
    ]
)
PING_PONG = [asking(size, body_bytes=body) for size, body in zip(RESPONSES, REQUESTS, strict=True)]
CALLS = {
    "empty_unary": call("EmptyCall", Empty()),
    "large_unary": call("UnaryCall", LARGE),
    "client_streaming": call("StreamingInputCall", *streaming_input(REQUESTS)),
    "server_streaming": call("StreamingOutputCall", asking(*RESPONSES)),
    "ping_pong": call("FullDuplexCall", *PING_PONG, in_turn=True),
    "empty_stream": call("FullDuplexCall"),
    "half_duplex": call("HalfDuplexCall", *PING_PONG),
    "custom_metadata": call("UnaryCall", LARGE, metadata=ECHO),
    "custom_metadata_full_duplex": call("FullDuplexCall", asking(RESPONSE_BYTES), metadata=ECHO),
    "special_status_message": call("UnaryCall", SimpleRequest(response_status=FAIL)),
    "status_code_and_message_full_duplex": call("FullDuplexCall", StreamingOutputCallRequest(response_status=FAIL)),
    "unimplemented_method": call("UnimplementedCall", Empty()),
    "unimplemented_service": call("/grpc.testing.UnimplementedService/UnimplementedCall", Empty()),
    "cancel_after_begin": call("StreamingInputCall", stay=True, cancel_after=0),
    "cancel_after_first_response": call("FullDuplexCall", PING_PONG[0], stay=True, cancel_after=1),
    "timeout_on_sleeping_server": call("FullDuplexCall", asking(), stay=True, deadline_ms=20),
    "client_compressed_unary": call("UnaryCall", SQUEEZED, compress=GZIP),
    "client_compressed_unary_deflate": call("UnaryCall", SQUEEZED, compress=DEFLATE),
    "client_compressed_streaming": call(
        "StreamingInputCall", *streaming_input([27_182, 45_904], compressed=True), compress=GZIP
    ),
    "server_compressed_streaming": call("StreamingOutputCall", MIXED),
}

Results = dict[str, dict[str, Any]]


def schema() -> str:
    """The service and its messages, for who has no generated code."""
    file = FileDescriptorProto()
    DESCRIPTOR.CopyToProto(file)
    return base64.b64encode(FileDescriptorSet(file=[file]).SerializeToString()).decode()


@pytest.fixture(scope="module", params=list(CLIENTS))
def results(server: Interop, request: pytest.FixtureRequest) -> Results:
    """What became of every call, from one run of the script."""
    script, packages = CLIENTS[request.param]
    arguments = [str(server.port), *([str(server.ca)] if server.ca else [])]
    printed = run(script, packages, *arguments, stdin=json.dumps({"schema": schema(), "calls": CALLS}))
    found: Results = json.loads(printed)
    return found


def sizes(result: dict[str, Any]) -> list[int]:
    """The sizes of the payloads that came."""
    messages = [StreamingOutputCallResponse.FromString(base64.b64decode(reply)) for reply in result["replies"]]
    return [len(message.payload.body) for message in messages]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("server_streaming", RESPONSES),
        ("ping_pong", RESPONSES),
        ("half_duplex", RESPONSES),
        ("empty_stream", []),
        ("custom_metadata_full_duplex", [RESPONSE_BYTES]),
        ("server_compressed_streaming", [31_415, 92_653]),
    ],
)
def test_responses(results: Results, name: str, expected: list[int]) -> None:
    assert (results[name]["code"], sizes(results[name])) == (OK, expected)


@pytest.mark.parametrize(
    "name", ["large_unary", "custom_metadata", "client_compressed_unary", "client_compressed_unary_deflate"]
)
def test_large_responses(results: Results, name: str) -> None:
    (reply,) = results[name]["replies"]
    body = SimpleResponse.FromString(base64.b64decode(reply)).payload.body
    assert (results[name]["code"], body) == (OK, bytes(RESPONSE_BYTES))


def test_empty_unary(results: Results) -> None:
    assert (results["empty_unary"]["code"], results["empty_unary"]["replies"]) == (OK, [""])


@pytest.mark.parametrize(("name", "total"), [("client_streaming", 74_922), ("client_compressed_streaming", 73_086)])
def test_sums(results: Results, name: str, total: int) -> None:
    (reply,) = results[name]["replies"]
    sent = StreamingInputCallResponse.FromString(base64.b64decode(reply)).aggregated_payload_size
    assert (results[name]["code"], sent) == (OK, total)


@pytest.mark.parametrize("name", ["custom_metadata", "custom_metadata_full_duplex"])
def test_metadata(results: Results, name: str) -> None:
    found = results[name]
    assert found["initial"]["x-grpc-test-echo-initial"] == ECHO["x-grpc-test-echo-initial"]
    assert found["trailing"]["x-grpc-test-echo-trailing-bin"] == TRAILING


@pytest.mark.parametrize("name", ["special_status_message", "status_code_and_message_full_duplex"])
def test_messages(results: Results, name: str) -> None:
    assert (results[name]["code"], results[name]["details"]) == (UNKNOWN, SPECIAL)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("unimplemented_method", UNIMPLEMENTED),
        ("unimplemented_service", UNIMPLEMENTED),
        ("cancel_after_begin", CANCELLED),
        ("cancel_after_first_response", CANCELLED),
        ("timeout_on_sleeping_server", DEADLINE_EXCEEDED),
    ],
)
def test_statuses(results: Results, name: str, code: int) -> None:
    assert results[name]["code"] == code
