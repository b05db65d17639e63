"""Bad days of processes: a worker, a proxy, or everything is killed."""

import os
import signal
from functools import partial
from pathlib import Path

import grpc
import numpy as np
import pytest

from protos import inference_pb2 as pb
from protos.inference_pb2_grpc import GRPCInferenceServiceStub
from tests import models
from tests.e2e.calls import Askers, ask
from tests.e2e.waiting import eventually
from tests.serving import Gateway, serving
from tests.transports import differs

pytestmark = [pytest.mark.usefixtures("each_transport"), pytest.mark.slow_on("grpcio")]


def test_a_killed_worker_costs_no_answer(models_dir: Path, state_dir: Path) -> None:
    models.save(models_dir, "number", 1, models.constant(1))
    with serving(models_dir, state_dir) as gateway:
        with Askers(gateway.target, "number", threads=8) as askers:
            for _ in range(3):
                askers.wait_more(50)
                (worker,) = gateway.workers("number")
                os.kill(worker, signal.SIGKILL)
                eventually(partial(_replaced, gateway, worker))
            askers.wait_more(50)
        restarts = gateway.metric("cutover_worker_restarts_total", model="number")
    assert [answer.error for answer in askers.answers if answer.error] == []
    assert restarts == 3


def test_a_request_that_kills_its_worker_fails_alone(models_dir: Path, state_dir: Path) -> None:
    models.save(models_dir, "fragile", 1, models.crasher())
    with serving(models_dir, state_dir) as gateway, grpc.insecure_channel(gateway.target) as channel:
        stub = GRPCInferenceServiceStub(channel)
        good = [stub.ModelInfer.future(_row(1), timeout=60) for _ in range(4)]
        bad = stub.ModelInfer.future(_row(models.CRASH), timeout=60)
        good += [stub.ModelInfer.future(_row(2), timeout=60) for _ in range(4)]
        assert [len(call.result().raw_output_contents) for call in good] == [1] * 8
        assert bad.code() is grpc.StatusCode.UNAVAILABLE
        assert "died" in bad.details()


@pytest.mark.slow
def test_a_worker_that_crashes_again_and_again_is_reported(models_dir: Path, state_dir: Path) -> None:
    models.save(models_dir, "fragile", 1, models.crasher())
    models.save(models_dir, "number", 1, models.constant(1))
    with serving(models_dir, state_dir) as gateway, grpc.insecure_channel(gateway.target) as channel:
        stub = GRPCInferenceServiceStub(channel)

        def failed() -> bool:
            with pytest.raises(grpc.RpcError):
                stub.ModelInfer(_row(models.CRASH), timeout=60)
            return "crash" in gateway.cutover("models").stdout

        eventually(failed, limit_s=60)
        assert ask(gateway.target, "number")[0] == 1


def test_a_killed_proxy_is_replaced(models_dir: Path, state_dir: Path) -> None:
    models.save(models_dir, "number", 1, models.constant(1))
    with serving(models_dir, state_dir, "--proxies", "2") as gateway:
        killed = gateway.proxies()[0]
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: len(gateway.proxies()) == 2 and killed not in gateway.proxies())
        eventually(lambda: gateway.metric("cutover_proxies") == 2)
        assert ask(gateway.target, "number")[0] == 1


@pytest.mark.slow
def test_a_proxy_that_is_told_to_stop_fails_no_call(models_dir: Path, state_dir: Path, each_transport: str) -> None:
    """Its calls are answered, and its clients go to the other one."""
    models.save(models_dir, "number", 1, models.constant(1))
    with serving(models_dir, state_dir, "--proxies", "2") as gateway:
        with Askers(gateway.target, "number", threads=8) as askers:
            askers.wait_more(50)
            for proxy in gateway.proxies():
                os.kill(proxy, signal.SIGTERM)
                eventually(partial(_relieved, gateway, proxy))
                askers.wait_more(50)
        assert gateway.metric("cutover_proxy_restarts_total") == 2
    errors = {answer.error.partition(":")[0] for answer in askers.answers if answer.error}
    assert errors <= differs("draining", each_transport, h2=set(), grpcio={"CANCELLED", "UNAVAILABLE"})


@pytest.mark.slow
def test_the_release_survives_a_kill_of_everything(models_dir: Path, state_dir: Path) -> None:
    for version in (1, 2):
        models.save(models_dir, "number", version, models.constant(version))
    gateway = Gateway(models_dir, state_dir)
    try:
        gateway.cutover("standby", "set", "number", "1", "--reason", "test")
        gateway.cutover("flip", "number", "--reason", "test")
        before = gateway.cutover("status", "number", "-o", "json").stdout
        assert ask(gateway.target, "number")[0] == 1
    finally:
        gateway.kill()
    with serving(models_dir, state_dir) as again:
        assert ask(again.target, "number")[0] == 1
        assert _release(again.cutover("status", "number", "-o", "json").stdout) == _release(before)
        again.cutover("rollback", "number", "--reason", "test")
        assert ask(again.target, "number")[0] == 2


@pytest.mark.slow
def test_proxies_serve_on_when_the_control_process_is_killed_and_the_next_one_takes_over(
    models_dir: Path, state_dir: Path
) -> None:
    models.save(models_dir, "number", 1, models.constant(1))
    first = Gateway(models_dir, state_dir)
    try:
        orphans = first.proxies() + first.workers()
        os.kill(first.pid, signal.SIGKILL)
        first.process.wait()
        assert ask(first.target, "number")[0] == 1
        with serving(models_dir, state_dir, "--grpc-port", str(first.grpc)) as second:
            assert ask(second.target, "number")[0] == 1
            eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in orphans))
            assert ask(second.target, "number")[0] == 1
    finally:
        first.kill()


def _relieved(gateway: Gateway, proxy: int) -> bool:
    """Whether another serves in the place of that proxy."""
    proxies = gateway.proxies()
    return len(proxies) == 2 and proxy not in proxies and gateway.metric("cutover_proxies") == 2


def _replaced(gateway: Gateway, dead: int) -> bool:
    return gateway.workers("number") not in ([], [dead])


def _row(value: int) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name="fragile", raw_input_contents=[np.array([value], np.int64).tobytes()])
    message.inputs.add(name="X", datatype="INT64", shape=[1])
    return message


def _release(status: str) -> str:
    """The lasting part of a status document."""
    import json

    document = json.loads(status)
    return json.dumps(document.get("release", document.get("releases", document)), sort_keys=True)


def test_a_worker_that_hangs_is_replaced_and_its_requests_answered(
    models_dir: Path, state_dir: Path, tmp_path: Path
) -> None:
    models.save(models_dir, "number", 1, models.constant(1))
    config = tmp_path / "config.toml"
    config.write_text('[limits]\nworker_timeout = "500ms"\n')
    with serving(models_dir, state_dir, "--config", str(config)) as gateway:
        (worker,) = gateway.workers("number")
        os.kill(worker, signal.SIGSTOP)
        assert ask(gateway.target, "number")[0] == 1
        assert gateway.workers("number") not in ([], [worker])
        assert gateway.wait_metric("cutover_worker_restarts_total", 1, model="number") == 1
