"""Through a real channel in tests/integration/test_operations.py."""

import pytest
from google.protobuf.message import Message

from gateway.controlplane.api.operating import operation_message
from gateway.controlplane.operations import Asked, Cancelled, Operation
from gateway.errors import Code, NotReady
from protos import admin_pb2 as pb


def operation(response: Message | None = None, error: Exception | None = None) -> Operation:
    made = Operation(Asked("load", "models/iris/versions/2"), "ada", "", 1_000)
    made.response, made.error = response, error
    made.ended_ms = 2_000 if response or error else 0
    return made


def test_one_that_runs() -> None:
    running = operation()
    message, metadata = operation_message(running), pb.OperationMetadata()
    assert (message.name, message.done) == (f"operations/{running.key}", False)
    assert message.WhichOneof("result") is None
    assert message.metadata.Unpack(metadata)
    assert (metadata.verb, metadata.target, metadata.actor) == ("load", "models/iris/versions/2", "ada")
    assert (metadata.create_time.ToMilliseconds(), metadata.HasField("end_time")) == (1_000, False)


def test_one_that_has_a_response() -> None:
    message, metadata, version = (
        operation_message(operation(pb.Version(version=2))),
        pb.OperationMetadata(),
        pb.Version(),
    )
    assert message.done
    assert message.response.Unpack(version)
    assert version == pb.Version(version=2)
    assert message.metadata.Unpack(metadata)
    assert metadata.end_time.ToMilliseconds() == 2_000


@pytest.mark.parametrize(
    ("error", "code", "text", "details"),
    [
        (NotReady("it is broken"), Code.UNAVAILABLE, "it is broken", 2),
        (Cancelled("cancelled"), Code.CANCELLED, "cancelled", 0),
        (KeyError("secret"), Code.INTERNAL, "internal error, see the log", 0),
    ],
)
def test_one_that_failed(error: Exception, code: Code, text: str, details: int) -> None:
    message = operation_message(operation(error=error))
    assert (message.error.code, message.error.message, len(message.error.details)) == (code, text, details)
