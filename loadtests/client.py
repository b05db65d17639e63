"""The gRPC side of a load test: find the model, find the arm, ask and check who answered.

Inside Locust, `grpc.experimental.gevent.init_gevent()` must have been called before a channel is made.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import grpc

from loadtests import data, tensors
from loadtests.recorder import OK
from loadtests.settings import ANY_ARM, AUTO_ARM, Settings
from loadtests.tensors import RowsError, TensorSpec
from protos.inference_pb2 import ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ServerLiveRequest
from protos.inference_pb2_grpc import GRPCInferenceServiceStub

ARM_KEY = "cutover-arm"
UNIT_KEY = "x-user-id"
WRONG_VERSION = "WRONG_VERSION"
WRONG_ARM = "WRONG_ARM"
CONNECT_TIMEOUT_S = 5.0

_MAX_MESSAGE = 2**31 - 1


class TargetUnreachable(Exception):
    """Nothing that speaks gRPC in clear answers at the target; one line."""


class AimError(Exception):
    """The target answers, but not with the model, version or arm that was asked for; one line."""


@dataclass(frozen=True)
class Aim:
    """What to send and who must answer."""

    requests: Sequence[ModelInferRequest]
    version: str
    """Empty: any."""
    arm: str | None
    """None: no arm is forced or checked."""
    rows: data.Rows


def connect(target: str, connections: int = 1) -> list[grpc.Channel]:
    """Channels with a connection each, ready to use. Raises TargetUnreachable."""
    options = (
        ("grpc.use_local_subchannel_pool", 1),  # or channels to one address would share one connection
        ("grpc.max_receive_message_length", _MAX_MESSAGE),
        ("grpc.max_send_message_length", _MAX_MESSAGE),
        ("grpc.enable_http_proxy", 0),
    )
    channels = [grpc.insecure_channel(target, options=options) for _ in range(connections)]
    for channel in channels:
        try:
            GRPCInferenceServiceStub(channel).ServerLive(ServerLiveRequest(), timeout=CONNECT_TIMEOUT_S)
        except grpc.RpcError as error:
            if status_name(error) in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
                close(channels)
                raise TargetUnreachable(
                    f"nothing at {target} speaks gRPC in clear; is the gateway running there? "
                    f"Where its port has TLS, aim at its Unix socket, unix:PATH ({_explain(error)})"
                ) from error
    return channels


def close(channels: Sequence[grpc.Channel]) -> None:
    """Closes the channels."""
    for channel in channels:
        channel.close()


def take_aim(channel: grpc.Channel, settings: Settings) -> Aim:
    """Reads the metadata, loads or makes up rows, finds the arm with one trial request each.

    Raises AimError or RowsError.
    """
    stub = GRPCInferenceServiceStub(channel)
    inputs = _inputs(stub, settings)
    rows = data.load(settings.rows, inputs) if settings.rows else data.synthesize(inputs, settings.seed)
    requests = data.requests(settings.model, inputs, rows)
    arm = _find_arm(stub, settings, requests[0])
    return Aim(requests, settings.version, arm, rows)


class Asker:
    """Sends requests over one channel and names what became of each."""

    def __init__(self, channel: grpc.Channel, aim: Aim, units: int, timeout_s: float) -> None:
        self._infer = GRPCInferenceServiceStub(channel).ModelInfer
        self._aim = aim
        self._units = units
        self._timeout_s = timeout_s
        self._forced = ((ARM_KEY, aim.arm),) if aim.arm else ()

    def ask(self, number: int) -> str:
        """Sends the request of this number; units and rows take turns. OK, a gRPC status, or which answer was wrong."""
        request = self._aim.requests[number % len(self._aim.requests)]
        metadata = ((UNIT_KEY, f"user-{number % self._units}"), *self._forced)
        try:
            reply, call = self._infer.with_call(request, timeout=self._timeout_s, metadata=metadata)
        except grpc.RpcError as error:
            return status_name(error)
        if self._aim.version and reply.model_version != self._aim.version:
            return WRONG_VERSION
        if self._aim.arm and answered_by(call) != self._aim.arm:
            return WRONG_ARM
        return OK


def status_name(error: grpc.RpcError) -> str:
    """The name of an RPC error's status."""
    code = getattr(
        error, "code", lambda: None
    )()  # a failed call is an RpcError and a Call; its type says only the first
    return code.name if isinstance(code, grpc.StatusCode) else "UNKNOWN"


def answered_by(call: grpc.Call) -> str | None:
    """The arm that the reply's trailing metadata names."""
    for key, value in call.trailing_metadata() or ():
        if key == ARM_KEY:
            return value if isinstance(value, str) else value.decode("ascii", "replace")
    return None


def _inputs(stub: GRPCInferenceServiceStub, settings: Settings) -> tuple[TensorSpec, ...]:
    for version in dict.fromkeys((settings.version, "")):  # a server may not describe versions one by one
        try:
            request = ModelMetadataRequest(name=settings.model, version=version)
            metadata = stub.ModelMetadata(request, timeout=CONNECT_TIMEOUT_S)
        except grpc.RpcError as error:
            problem = f"{settings.target} does not describe the model {settings.model!r}: {_explain(error)}"
            continue
        if not metadata.inputs:
            raise RowsError(f"the metadata of {settings.model!r} names no inputs")
        return tensors.specs(metadata.inputs)
    raise AimError(problem)


def _find_arm(stub: GRPCInferenceServiceStub, settings: Settings, request: ModelInferRequest) -> str | None:
    """The arm to force: the named one, or the first that answers with the wanted version."""
    if settings.arm == ANY_ARM or (settings.arm == AUTO_ARM and not settings.version):
        return None
    if settings.arm != AUTO_ARM:
        _check_arm(settings, settings.arm, *_try_arm(stub, request, settings.arm))
        return settings.arm
    tried = []
    for arm in ("stable", f"canary-{settings.version}", "standby"):
        reply, found = _try_arm(stub, request, arm)
        if isinstance(reply, ModelInferResponse) and reply.model_version == settings.version and found == arm:
            return arm
        if isinstance(reply, ModelInferResponse) and reply.model_version == settings.version and found is None:
            return None  # a server without arms that serves this version
        tried.append(f"{arm}: {reply if isinstance(reply, str) else f'version {reply.model_version}'}")
    raise AimError(
        f"version {settings.version} of {settings.model!r} answers under no arm ({'; '.join(tried)}); "
        f"make it a canary or standby first"
    )


def _try_arm(
    stub: GRPCInferenceServiceStub, request: ModelInferRequest, arm: str
) -> tuple[ModelInferResponse | str, str | None]:
    try:
        reply, call = stub.ModelInfer.with_call(request, timeout=CONNECT_TIMEOUT_S, metadata=((ARM_KEY, arm),))
    except grpc.RpcError as error:
        return _explain(error), None
    return reply, answered_by(call)


def _check_arm(settings: Settings, arm: str, reply: ModelInferResponse | str, found: str | None) -> None:
    if isinstance(reply, str):
        raise AimError(f"the arm {arm!r} of {settings.model!r} does not answer: {reply}")
    if found != arm:
        raise AimError(
            f"asked the arm {arm!r} of {settings.model!r}, but {found or 'no arm that says its name'} answered"
        )
    if settings.version and reply.model_version != settings.version:
        raise AimError(
            f"the arm {arm!r} of {settings.model!r} is version {reply.model_version}, not {settings.version}"
        )


def _explain(error: grpc.RpcError) -> str:
    details = getattr(error, "details", lambda: None)()
    return f"{status_name(error)} {details or ''}".strip()
