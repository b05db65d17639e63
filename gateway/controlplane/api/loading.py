"""Versions loaded and kept warm because somebody asks for it, not because a release names them."""

# ruff: noqa: N802  # RPCs are named by the proto
from typing import Final

from google.longrunning import operations_pb2

from gateway.controlplane import names
from gateway.controlplane.api.caller import actor
from gateway.controlplane.api.operating import operation_message
from gateway.controlplane.api.versions import Versions
from gateway.controlplane.operations import Asked, Operations
from gateway.controlplane.ports import Fleet
from gateway.controlplane.releases import check_texts
from gateway.controlplane.statuses import Context
from gateway.errors import InvalidRequest
from protos import admin_pb2 as pb

KEEP_S: Final = 3_600
MAX_KEEP_S: Final = 24 * 3_600


class Loading:
    """Starts operations that load versions."""

    def __init__(self, fleet: Fleet, versions: Versions, operations: Operations) -> None:
        self._fleet = fleet
        self._versions = versions
        self._operations = operations

    async def LoadVersion(self, request: pb.LoadVersionRequest, context: Context) -> operations_pb2.Operation:
        return self._start("load", request.name, request.request_id, 0, context)

    async def WarmVersion(self, request: pb.WarmVersionRequest, context: Context) -> operations_pb2.Operation:
        if not 0 <= request.keep_s <= MAX_KEEP_S:
            raise InvalidRequest(f"keep_s must be 0 to {MAX_KEEP_S}, not {request.keep_s}", "keep_s")
        return self._start("warm", request.name, request.request_id, request.keep_s or KEEP_S, context)

    def _start(self, verb: str, name: str, request_id: str, keep_s: int, context: Context) -> operations_pb2.Operation:
        model, version = names.version_of(name)

        async def work() -> pb.Version:
            await self._fleet.prepare(model, version, shadow=False)
            self._fleet.keep(model, version, keep_s)
            return self._versions.message(model, version)

        caller = actor(context)
        check_texts(request_id, "", caller)
        asked = Asked(verb, name, str(keep_s))
        return operation_message(self._operations.start(asked, work, caller, request_id))
