"""The RPCs of the data port: OIP v2 (`inference.GRPCInferenceService`), health, reflection.

ModelInfer goes straight to the pipeline, ModelStreamInfer message by message; the rest is rare and uses protobuf
objects.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import DecodeError, Message

from gateway.dataplane.errands import LONG_S, QUICK_S, Errands
from gateway.dataplane.exchange import Exchanges
from gateway.dataplane.health import Health
from gateway.dataplane.modelconfig import PLATFORM, model_config
from gateway.dataplane.plane import Plane
from gateway.dataplane.reflection import Reflection, Schema
from gateway.dataplane.refusal import refuse
from gateway.dataplane.route import Arm, Route
from gateway.errors import InvalidRequest, NotFound, NotReady, RequestError
from gateway.routing.snapshot import Pool
from gateway.transport.call import NO_TRAILERS, Call, Handler, Streaming
from gateway.transport.one_request import one_request
from protos import health_pb2 as health
from protos import inference_pb2 as pb
from protos import reflection_pb2 as reflection
from protos import reflection_v1alpha_pb2 as reflection_v1alpha

INFERENCE: Final = "/inference.GRPCInferenceService/"
HEALTH: Final = "/grpc.health.v1.Health/"
FILES: Final = (pb.DESCRIPTOR, health.DESCRIPTOR, reflection.DESCRIPTOR, reflection_v1alpha.DESCRIPTOR)
"""The schema of the data port."""
ERRANDS: Final = {
    "ModelStatistics": QUICK_S,
    "RepositoryIndex": QUICK_S,
    "RepositoryModelLoad": LONG_S,
    "RepositoryModelUnload": LONG_S,
    "TraceSetting": QUICK_S,
    "LogSettings": QUICK_S,
    "SystemSharedMemoryRegister": QUICK_S,
    "SystemSharedMemoryUnregister": QUICK_S,
    "SystemSharedMemoryStatus": QUICK_S,
}
"""Methods that the control process answers, and how long it may take."""


@dataclass(frozen=True, slots=True)
class About:
    """What ServerMetadata says. `extensions`: Triton's names of what is served."""

    name: str
    version: str
    extensions: tuple[str, ...] = ()


class DataService:
    """Finds the handler of a path."""

    def __init__(
        self, plane: Plane, errands: Errands, about: About, loop: asyncio.AbstractEventLoop, *, reflect: bool = True
    ) -> None:
        """`errands` ask the control process; without `reflect` nobody is told the schema."""
        self._plane = plane
        self._about = about
        self._health = Health(plane, loop)
        plane.on_change = self._health.changed
        self._exchanges = Exchanges(plane.pipeline.infer)
        self._reflection = Reflection(Schema(FILES))
        self._handlers: dict[str, Handler | Streaming] = {
            f"{INFERENCE}ModelInfer": plane.pipeline.infer,
            f"{INFERENCE}ModelStreamInfer": Streaming(self._exchanges.start),
            f"{INFERENCE}ServerLive": _unary(pb.ServerLiveRequest, self._server_live),
            f"{INFERENCE}ServerReady": _unary(pb.ServerReadyRequest, self._server_ready),
            f"{INFERENCE}ModelReady": _unary(pb.ModelReadyRequest, self._model_ready),
            f"{INFERENCE}ServerMetadata": _unary(pb.ServerMetadataRequest, self._server_metadata),
            f"{INFERENCE}ModelMetadata": _unary(pb.ModelMetadataRequest, self._model_metadata),
            f"{INFERENCE}ModelConfig": _unary(pb.ModelConfigRequest, self._model_config),
            **{f"{INFERENCE}{kind}": errands.handler(kind, limit_s) for kind, limit_s in ERRANDS.items()},
            f"{HEALTH}Check": _unary(health.HealthCheckRequest, self._health.check),
            f"{HEALTH}List": _unary(health.HealthListRequest, self._health.list),
            f"{HEALTH}Watch": Streaming(one_request(self._health.watch), may_idle=True),
        }
        if reflect:
            for module in (reflection, reflection_v1alpha):
                (described,) = module.DESCRIPTOR.services_by_name.values()
                path = f"/{described.full_name}/ServerReflectionInfo"
                self._handlers[path] = Streaming(self._reflection.start)

    def resolve(self, path: str) -> Handler | Streaming | None:
        """The handler of a method path."""
        return self._handlers.get(path)

    def drain(self) -> None:
        """Turns readiness off and tells all who watch; ends streams as soon as what they asked is answered."""
        self._health.drain()
        self._exchanges.drain()
        self._reflection.drain()

    def _server_live(self, _: pb.ServerLiveRequest) -> Message:
        return pb.ServerLiveResponse(live=True)

    def _server_ready(self, _: pb.ServerReadyRequest) -> Message:
        return pb.ServerReadyResponse(ready=self._health.ready)

    def _model_ready(self, request: pb.ModelReadyRequest) -> Message:
        arm = self._arm(request.name, request.version)[1]
        return pb.ModelReadyResponse(ready=arm.lane.ready and self._health.open)

    def _server_metadata(self, _: pb.ServerMetadataRequest) -> Message:
        about = self._about
        return pb.ServerMetadataResponse(name=about.name, version=about.version, extensions=about.extensions)

    def _model_metadata(self, request: pb.ModelMetadataRequest) -> Message:
        versions, pool = self._loaded(request.name, request.version)
        reply = pb.ModelMetadataResponse(name=request.name, versions=map(str, versions), platform=PLATFORM)
        for specs, described in ((pool.inputs, reply.inputs), (pool.outputs, reply.outputs)):
            for spec in specs:
                described.add(name=spec.name, datatype=spec.datatype, shape=spec.shape)
        return reply

    def _model_config(self, request: pb.ModelConfigRequest) -> Message:
        versions, pool = self._loaded(request.name, request.version)
        return pb.ModelConfigResponse(config=model_config(pool, versions, self._plane.max_queue))

    def _loaded(self, model: str, version: str) -> tuple[list[int], Pool]:
        """The live versions of a model, and the pool of the one that is asked for, once its tensors are known."""
        route, arm = self._arm(model, version)
        pool = arm.lane.pool
        if not pool.inputs:
            raise NotReady(f"{model} version {arm.version} is not ready: {pool.error or 'it is loading'}")
        return sorted({each.version for each in route.arms.values()}), pool

    def _arm(self, model: str, version: str) -> tuple[Route, Arm]:
        route = self._plane.pipeline.routes.get(model.encode())
        if route is None:
            raise NotFound(f"model '{model}' is not served here")
        return route, route.by_version(version.encode())


def _unary(request_type: Any, method: Callable[[Any], Message]) -> Handler:
    """Wraps a method from message to message as a handler of calls."""

    def handle(call: Call) -> None:
        try:
            request = request_type.FromString(call.message)
        except DecodeError:
            refuse(call, InvalidRequest(f"the message is not a {request_type.DESCRIPTOR.name}"))
            return
        try:
            call.reply(method(request).SerializeToString(), NO_TRAILERS)
        except RequestError as error:
            refuse(call, error)

    return handle
