from asyncio import get_running_loop
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.dataplane.errands import Errands
from gateway.dataplane.plane import Plane, Settings
from gateway.dataplane.service import ERRANDS, FILES, About, DataService
from gateway.errors import Code
from gateway.routing import link
from gateway.routing.snapshot import Canary, Policy, Pool, Release, Snapshot
from gateway.transport.call import NO_TRAILERS, Streaming
from protos import health_pb2 as health
from protos import inference_pb2 as pb
from tests.unit.gateway.dataplane.fake_stream import FakeStream
from tests.unit.gateway.dataplane.fakes import FakeCall, SocketWorker, infer, pool, until

OIP = "/inference.GRPCInferenceService/"
CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
NOT_THERE = {
    *("RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload"),
    *("TraceSetting", "LogSettings"),
    *("SystemSharedMemoryStatus", "SystemSharedMemoryRegister", "SystemSharedMemoryUnregister"),
}
"""Declared and not served."""
SERVING, NOT_SERVING = (health.HealthCheckResponse.SERVING, health.HealthCheckResponse.NOT_SERVING)


class ServiceBench:
    """A service over a plane; model `m` has version 1 stable and version 2 as a canary that is still loading."""

    def __init__(self) -> None:
        self.plane = Plane(Settings(), get_running_loop())
        self.errands: list[link.Errand] = []
        about = About("cutover", "1.2.3", ("binary_tensor_data",))
        self.service = DataService(self.plane, Errands(self.errands.append), about, get_running_loop())

    def call(self, path: str, message: Any = b"") -> FakeCall:
        handler = self.service.resolve(path)
        assert callable(handler)
        call = FakeCall(message if isinstance(message, bytes) else message.SerializeToString())
        handler(call)
        return call

    def ask(self, method: str, message: Any, answer: Any) -> Any:
        """The reply to a call that is answered at once."""
        call = self.call(method if method.startswith("/") else OIP + method, message)
        assert call.code == Code.OK, call.text
        return answer.FromString(call.body)

    def refused(self, method: str, message: Any) -> tuple[Code | None, str]:
        call = self.call(method if method.startswith("/") else OIP + method, message)
        return call.code, call.text

    def check(self, service: str) -> int:
        status: int = self.ask(CHECK, health.HealthCheckRequest(service=service), health.HealthCheckResponse).status
        return status

    async def serve(self, *addresses: str, canary: str = "loading") -> None:
        policy = Policy(1, canaries=(Canary(2, ()),))
        pools = (pool(addresses=addresses), Pool("m", 2, shadow=False, state=canary))
        self.plane.apply(Snapshot(epoch=1, releases=(Release("m", 1, policy),), pools=pools))
        await until(lambda: not self.plane._connecting)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[ServiceBench]:
    made = ServiceBench()
    async with SocketWorker(tmp_path / "w") as worker:
        await made.serve(worker.address)
        yield made
        made.plane.apply(Snapshot(epoch=9))
        made.plane.report(0)
        await until(lambda: not worker._writers)


REFLECTION = [f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo" for version in ("v1", "v1alpha")]


async def test_only_what_is_served_resolves() -> None:
    service = ServiceBench().service
    assert callable(service.resolve(f"{OIP}ModelInfer"))
    for path in (f"{OIP}ModelStreamInfer", WATCH, *REFLECTION):
        assert isinstance(service.resolve(path), Streaming)
    for path in (
        "",
        "/",
        f"{OIP}CudaSharedMemoryStatus",
        f"{OIP}modelinfer",
        "/inference.GRPCInferenceService",
        "ModelInfer",
    ):
        assert service.resolve(path) is None


async def test_every_method_of_the_schema_is_served() -> None:
    service = ServiceBench().service
    for file in FILES:
        for described in file.services_by_name.values():
            for method in described.methods:
                if method.name in NOT_THERE:
                    continue
                handler = service.resolve(f"/{described.full_name}/{method.name}")
                streams = method.client_streaming or method.server_streaming
                assert isinstance(handler, Streaming) if streams else callable(handler), method.full_name


async def test_a_schema_that_is_not_public_is_not_told() -> None:
    plane, errands = ServiceBench().plane, Errands(lambda _: None)
    service = DataService(plane, errands, About("cutover", "1.2.3"), get_running_loop(), reflect=False)
    assert [service.resolve(path) for path in REFLECTION] == [None, None]
    assert service.resolve(WATCH) is not None


async def test_before_the_first_snapshot_it_lives_but_is_not_ready() -> None:
    bench = ServiceBench()
    assert bench.ask("ServerLive", pb.ServerLiveRequest(), pb.ServerLiveResponse).live
    assert not bench.ask("ServerReady", pb.ServerReadyRequest(), pb.ServerReadyResponse).ready
    assert bench.check("") == NOT_SERVING
    assert bench.check("liveness") == SERVING


async def test_a_settled_server_is_ready(bench: ServiceBench) -> None:
    assert not bench.ask("ServerReady", pb.ServerReadyRequest(), pb.ServerReadyResponse).ready, "the canary is loading"
    assert [bench.check(service) for service in ("", "m")] == [NOT_SERVING, SERVING]
    stable = bench.plane.pool("m", 1)
    assert stable
    await bench.serve(*stable.addresses, canary="failed")
    assert bench.ask("ServerReady", pb.ServerReadyRequest(), pb.ServerReadyResponse).ready
    for service in ("", "readiness", "liveness", "inference.GRPCInferenceService", "m"):
        assert bench.check(service) == SERVING


async def test_draining_turns_readiness_off_and_nothing_else(bench: ServiceBench) -> None:
    bench.service.drain()
    assert bench.ask("ServerLive", pb.ServerLiveRequest(), pb.ServerLiveResponse).live
    assert not bench.ask("ServerReady", pb.ServerReadyRequest(), pb.ServerReadyResponse).ready
    assert not bench.ask("ModelReady", pb.ModelReadyRequest(name="m"), pb.ModelReadyResponse).ready
    assert [bench.check(service) for service in ("", "m", "liveness")] == [NOT_SERVING, NOT_SERVING, SERVING]
    call = bench.call(f"{OIP}ModelInfer", infer((1, 2)))
    await until(lambda: call.closed)
    assert call.code == Code.OK


def opened(bench: ServiceBench, path: str, *messages: bytes) -> FakeStream:
    """A stream of the service that has sent some messages."""
    method = bench.service.resolve(path)
    assert isinstance(method, Streaming)
    stream = FakeStream()
    method.start(stream)
    stream.push(*messages)
    return stream


async def test_draining_ends_the_streams(bench: ServiceBench) -> None:
    watch = opened(bench, WATCH, health.HealthCheckRequest(service="m").SerializeToString())
    watch.end()
    streams = [opened(bench, path) for path in (f"{OIP}ModelStreamInfer", *REFLECTION)]
    before = [stream.code for stream in (watch, *streams)]
    bench.service.drain()
    after = [stream.code for stream in (watch, *streams)]
    assert (before, after) == ([None] * 4, [Code.UNAVAILABLE, Code.UNAVAILABLE, Code.OK, Code.OK])
    told = [health.HealthCheckResponse.FromString(message).status for message in watch.sent]
    assert told == [SERVING, NOT_SERVING]


async def test_a_watcher_hears_when_a_worker_comes() -> None:
    bench = ServiceBench()
    watch = opened(bench, WATCH, health.HealthCheckRequest(service="m").SerializeToString())
    watch.end()
    await bench.serve()
    await until(lambda: len(watch.sent) == 2)
    told = [health.HealthCheckResponse.FromString(message).status for message in watch.sent]
    assert told == [health.HealthCheckResponse.SERVICE_UNKNOWN, NOT_SERVING]


async def test_health_is_listed(bench: ServiceBench) -> None:
    found = bench.ask("/grpc.health.v1.Health/List", health.HealthListRequest(), health.HealthListResponse)
    assert found.statuses["m"].status == SERVING


async def test_model_stream_infer_goes_to_the_pipeline(bench: ServiceBench) -> None:
    stream = opened(bench, f"{OIP}ModelStreamInfer", infer((1, 2), id="a"))
    await until(lambda: stream.sent)
    assert pb.ModelStreamInferResponse.FromString(stream.sent[0]).infer_response.id == "a"


async def test_a_model_is_ready_by_version(bench: ServiceBench) -> None:
    def ready(version: str) -> bool:
        answer = bench.ask("ModelReady", pb.ModelReadyRequest(name="m", version=version), pb.ModelReadyResponse)
        return bool(answer.ready)

    assert [ready(version) for version in ("", "1", "2")] == [True, True, False]
    assert bench.refused("ModelReady", pb.ModelReadyRequest(name="m", version="7")) == (
        Code.NOT_FOUND,
        "m has no live version 7; it has 1, 2",
    )
    assert bench.refused("ModelReady", pb.ModelReadyRequest(name="m", version="v1"))[0] == Code.INVALID_ARGUMENT


async def test_the_server_says_who_it_is(bench: ServiceBench) -> None:
    answer = bench.ask("ServerMetadata", pb.ServerMetadataRequest(), pb.ServerMetadataResponse)
    assert (answer.name, answer.version) == ("cutover", "1.2.3")
    assert list(answer.extensions) == ["binary_tensor_data"]


async def test_a_model_says_what_it_takes_and_gives(bench: ServiceBench) -> None:
    answer = bench.ask("ModelMetadata", pb.ModelMetadataRequest(name="m"), pb.ModelMetadataResponse)
    assert (answer.name, answer.platform, list(answer.versions)) == ("m", "onnxruntime_onnx", ["1", "2"])
    assert [(t.name, t.datatype, list(t.shape)) for t in answer.inputs] == [("X", "FP32", [-1, 2])]
    assert [(t.name, t.datatype, list(t.shape)) for t in answer.outputs] == [("Y", "FP32", [-1, 2])]


async def test_a_model_says_how_it_runs(bench: ServiceBench) -> None:
    config = bench.ask("ModelConfig", pb.ModelConfigRequest(name="m"), pb.ModelConfigResponse).config
    assert (config.name, list(config.version_policy.specific.versions)) == ("m", [1, 2])
    assert config.dynamic_batching.default_queue_policy.max_queue_size == Settings().max_queue


async def test_what_one_proxy_cannot_know_is_asked_of_the_control_process(bench: ServiceBench) -> None:
    for kind in ERRANDS:
        assert bench.call(OIP + kind, b"as it came").code is None
    assert [(errand.kind, errand.message) for errand in bench.errands] == [(kind, b"as it came") for kind in ERRANDS]


@pytest.mark.parametrize("method", ["ModelMetadata", "ModelConfig"])
async def test_a_version_that_loads_says_nothing_yet(bench: ServiceBench, method: str) -> None:
    assert bench.refused(method, pb.ModelMetadataRequest(name="m", version="2")) == (
        Code.UNAVAILABLE,
        "m version 2 is not ready: it is loading",
    )


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (f"{OIP}ModelReady", pb.ModelReadyRequest(name="nobody")),
        (f"{OIP}ModelMetadata", pb.ModelMetadataRequest(name="nobody")),
        (CHECK, health.HealthCheckRequest(service="nobody")),
    ],
)
async def test_an_unknown_model_is_not_found(bench: ServiceBench, path: str, message: Any) -> None:
    assert bench.refused(path, message) == (Code.NOT_FOUND, "model 'nobody' is not served here")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (f"{OIP}ServerLive", "ServerLiveRequest"),
        (f"{OIP}ModelReady", "ModelReadyRequest"),
        (f"{OIP}ModelMetadata", "ModelMetadataRequest"),
        (CHECK, "HealthCheckRequest"),
    ],
)
async def test_broken_messages_are_refused_by_name(bench: ServiceBench, path: str, name: str) -> None:
    assert bench.refused(path, b"\x0a\x09x") == (Code.INVALID_ARGUMENT, f"the message is not a {name}")


async def test_model_infer_goes_to_the_pipeline(bench: ServiceBench) -> None:
    call = bench.call(f"{OIP}ModelInfer", infer((1, 2)))
    await until(lambda: call.closed)
    assert call.array() == [[1, 2]]
    assert NO_TRAILERS.pairs == ()
