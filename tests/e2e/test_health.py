"""The health protocol through plain stubs and grpcio's own health checking, while models come and the gateway goes."""

import json
from pathlib import Path

import grpc
import pytest

from protos import health_pb2 as health
from protos.health_pb2_grpc import HealthStub
from protos.inference_pb2_grpc import GRPCInferenceServiceStub
from tests import models
from tests.e2e.calls import request
from tests.serving import serving

pytestmark = [pytest.mark.usefixtures("each_transport"), pytest.mark.slow_on("grpcio")]

SERVING, NOT_SERVING, UNKNOWN = (
    health.HealthCheckResponse.SERVING,
    health.HealthCheckResponse.NOT_SERVING,
    health.HealthCheckResponse.SERVICE_UNKNOWN,
)
TIMEOUT_S = 60


def test_a_watcher_sees_a_model_come_and_the_gateway_go(models_dir: Path, state_dir: Path) -> None:
    models.save(models_dir, "first", 1, models.constant(1))
    with serving(models_dir, state_dir) as gateway, grpc.insecure_channel(gateway.target) as channel:
        stub = HealthStub(channel)
        whole = stub.Watch(health.HealthCheckRequest(), timeout=TIMEOUT_S)
        second = stub.Watch(health.HealthCheckRequest(service="second"), timeout=TIMEOUT_S)
        assert (next(whole).status, next(second).status) == (SERVING, UNKNOWN)
        models.save(models_dir, "second", 1, models.constant(2))
        while (status := next(second).status) != SERVING:
            assert status == NOT_SERVING, "it loads"
        assert _asked_only_while_serving(gateway.target, "second") == 1
        listed = stub.List(health.HealthListRequest(), timeout=TIMEOUT_S).statuses
        assert {name: each.status for name, each in listed.items() if name in ("first", "second")} == {
            "first": SERVING,
            "second": SERVING,
        }
        assert gateway.stop() == 0
        assert (next(whole).status, next(second).status) == (NOT_SERVING, NOT_SERVING)
        for watch in (whole, second):
            with pytest.raises(grpc.RpcError) as caught:
                next(watch)
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert gateway.log_tail().count("cutover has stopped") == 1


def _asked_only_while_serving(target: str, model: str) -> int:
    """The version that answers a client which watches the model's health and sends nothing to who is not SERVING."""
    config = {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": model}}
    options = [("grpc.service_config", json.dumps(config)), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(target, options=options) as channel:
        reply = GRPCInferenceServiceStub(channel).ModelInfer(request(model), timeout=TIMEOUT_S, wait_for_ready=True)
    config["healthCheckConfig"] = {"serviceName": "nobody"}
    options[0] = ("grpc.service_config", json.dumps(config))
    with grpc.insecure_channel(target, options=options) as channel, pytest.raises(grpc.RpcError) as caught:
        GRPCInferenceServiceStub(channel).ModelInfer(request(model), timeout=TIMEOUT_S)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    return int(reply.model_version)
