"""`google.longrunning.Operations` on the admin port: looks after what RPCs have started and not finished."""

# ruff: noqa: N802  # RPCs are named by the proto
from typing import Final

from google.longrunning import operations_pb2
from google.protobuf.any_pb2 import Any
from google.protobuf.empty_pb2 import Empty
from google.rpc import status_pb2

from gateway.controlplane import names, pages
from gateway.controlplane.messages import timestamp
from gateway.controlplane.operations import Cancelled, Operation, Operations
from gateway.controlplane.statuses import UNEXPECTED, Context
from gateway.errors import Code, InvalidRequest, RequestError
from gateway.oip import status
from protos import admin_pb2 as pb

MAX_WAIT_S: Final = 60.0
"""Of one call; whoever wants to wait longer asks again."""

_OPERATIONS: Final = pages.Listing[Operation]("operations", tuple[str], lambda operation: (operation.key,))


class Operating:
    """Every RPC of google/longrunning/operations.proto."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    async def GetOperation(
        self, request: operations_pb2.GetOperationRequest, context: Context
    ) -> operations_pb2.Operation:
        return operation_message(self._operations.get(names.id_of_operation(request.name)))

    async def ListOperations(
        self, request: operations_pb2.ListOperationsRequest, context: Context
    ) -> operations_pb2.ListOperationsResponse:
        if request.name not in ("", "operations"):
            raise InvalidRequest(f"name must be operations or empty, not {request.name[:200]!r}", "name")
        if request.filter:
            raise InvalidRequest("operations cannot be filtered: leave filter out", "filter")
        left = _OPERATIONS.after(request.page_token, self._operations.list())
        page, token = _OPERATIONS.take(left, pages.page_size(request.page_size), operation_message)
        return operations_pb2.ListOperationsResponse(operations=page, next_page_token=token)

    async def WaitOperation(
        self, request: operations_pb2.WaitOperationRequest, context: Context
    ) -> operations_pb2.Operation:
        wait = request.timeout  # any 64 bits of seconds, which a timedelta would not hold
        asked_s = wait.seconds + wait.nanos / 1e9 if request.HasField("timeout") else MAX_WAIT_S
        found = await self._operations.wait(names.id_of_operation(request.name), min(max(asked_s, 0.0), MAX_WAIT_S))
        return operation_message(found)

    async def CancelOperation(self, request: operations_pb2.CancelOperationRequest, context: Context) -> Empty:
        self._operations.cancel(names.id_of_operation(request.name))
        return Empty()

    async def DeleteOperation(self, request: operations_pb2.DeleteOperationRequest, context: Context) -> Empty:
        self._operations.delete(names.id_of_operation(request.name))
        return Empty()


def operation_message(operation: Operation) -> operations_pb2.Operation:
    """An operation as Google's clients know it."""
    metadata = pb.OperationMetadata(
        verb=operation.asked.verb,
        target=operation.asked.target,
        actor=operation.actor,
        create_time=timestamp(operation.created_ms),
        end_time=timestamp(operation.ended_ms) if operation.done else None,
    )
    message = operations_pb2.Operation(name=names.operation_name(operation.key), done=operation.done)
    message.metadata.Pack(metadata)
    if operation.error is not None:
        message.error.CopyFrom(_status(operation.error))
    elif operation.response is not None:
        packed = Any()
        packed.Pack(operation.response)
        message.response.CopyFrom(packed)
    return message


def _status(error: Exception) -> status_pb2.Status:
    if isinstance(error, RequestError):
        return status_pb2.Status.FromString(status.details(error))
    if isinstance(error, Cancelled):
        return status_pb2.Status(code=Code.CANCELLED, message=str(error))
    return status_pb2.Status(code=Code.INTERNAL, message=UNEXPECTED)
