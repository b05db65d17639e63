"""The RPCs of the data port: OIP v2 (`inference.GRPCInferenceService`) and `grpc.health.v1.Health/Check`.

ModelInfer goes straight to the pipeline; the rest is rare and uses protobuf objects.
"""

from collections.abc import Callable
from typing import Any, Final

from google.protobuf.message import DecodeError, Message

from gateway.dataplane.plane import Plane
from gateway.dataplane.refusal import refuse
from gateway.dataplane.route import Arm, Route
from gateway.errors import InvalidRequest, NotFound, NotReady, RequestError
from gateway.transport.call import NO_TRAILERS, Call, Handler
from protos import health_pb2 as health
from protos import inference_pb2 as pb

INFERENCE: Final = "/inference.GRPCInferenceService/"
PLATFORM: Final = "onnxruntime_onnx"
EXTENSIONS: Final = ("binary_tensor_data",)
"""Only what is served (Triton's names)."""


class DataService:
    """Finds the handler of a path. `draining` turns readiness off."""

    def __init__(self, plane: Plane, name: str, version: str) -> None:
        self._plane = plane
        self._name = name
        self._version = version
        self.draining = False
        self._handlers: dict[str, Handler] = {
            f"{INFERENCE}ModelInfer": plane.pipeline.infer,
            f"{INFERENCE}ServerLive": _unary(pb.ServerLiveRequest, self._server_live),
            f"{INFERENCE}ServerReady": _unary(pb.ServerReadyRequest, self._server_ready),
            f"{INFERENCE}ModelReady": _unary(pb.ModelReadyRequest, self._model_ready),
            f"{INFERENCE}ServerMetadata": _unary(pb.ServerMetadataRequest, self._server_metadata),
            f"{INFERENCE}ModelMetadata": _unary(pb.ModelMetadataRequest, self._model_metadata),
            "/grpc.health.v1.Health/Check": _unary(health.HealthCheckRequest, self._check),
        }

    def resolve(self, path: str) -> Handler | None:
        """The handler of a method path."""
        return self._handlers.get(path)

    @property
    def _ready(self) -> bool:
        return self._plane.settled and not self.draining

    def _server_live(self, _: pb.ServerLiveRequest) -> Message:
        return pb.ServerLiveResponse(live=True)

    def _server_ready(self, _: pb.ServerReadyRequest) -> Message:
        return pb.ServerReadyResponse(ready=self._ready)

    def _model_ready(self, request: pb.ModelReadyRequest) -> Message:
        arm = self._arm(request.name, request.version)[1]
        return pb.ModelReadyResponse(ready=arm.lane.ready and not self.draining)

    def _server_metadata(self, _: pb.ServerMetadataRequest) -> Message:
        return pb.ServerMetadataResponse(name=self._name, version=self._version, extensions=EXTENSIONS)

    def _model_metadata(self, request: pb.ModelMetadataRequest) -> Message:
        route, arm = self._arm(request.name, request.version)
        pool = arm.lane.pool
        if not pool.inputs:
            reason = pool.error or "it is loading"
            raise NotReady(f"{request.name} version {arm.version} is not ready: {reason}")
        versions = sorted({each.version for each in route.arms.values()})
        reply = pb.ModelMetadataResponse(name=request.name, versions=map(str, versions), platform=PLATFORM)
        for specs, described in ((pool.inputs, reply.inputs), (pool.outputs, reply.outputs)):
            for spec in specs:
                described.add(name=spec.name, datatype=spec.datatype, shape=spec.shape)
        return reply

    def _arm(self, model: str, version: str) -> tuple[Route, Arm]:
        route = self._plane.pipeline.routes.get(model.encode())
        if route is None:
            raise NotFound(f"model '{model}' is not served here")
        return route, route.by_version(version.encode())

    def _check(self, request: health.HealthCheckRequest) -> Message:
        """Services: "" and "readiness" and the inference service, "liveness", or a model's name."""
        service = request.service
        if service == "liveness":
            serving = True
        elif service in ("", "readiness", "inference.GRPCInferenceService"):
            serving = self._ready
        else:
            serving = self._arm(service, "")[1].lane.ready and not self.draining
        states = health.HealthCheckResponse.ServingStatus
        return health.HealthCheckResponse(status=states.SERVING if serving else states.NOT_SERVING)


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
