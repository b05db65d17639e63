"""Flips and ways back at bad moments: a proxy that stands still, a new version that keeps crashing."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import grpc
import pytest

from protos.inference_pb2_grpc import GRPCInferenceServiceStub
from tests import models
from tests.e2e.calls import ask, request
from tests.e2e.waiting import eventually
from tests.serving import Gateway, serving

pytestmark = [pytest.mark.usefixtures("each_transport"), pytest.mark.slow_on("grpcio")]


def test_a_proxy_that_stands_still_is_dead_before_a_flip_is_acknowledged(models_dir: Path, state_dir: Path) -> None:
    for version in (1, 2):
        models.save(models_dir, "number", version, models.constant(version))
    with serving(models_dir, state_dir) as gateway, grpc.insecure_channel(gateway.target) as channel:
        stub = GRPCInferenceServiceStub(channel)
        assert stub.ModelInfer(request("number"), timeout=30).model_version == "2"
        gateway.cutover("standby", "set", "number", "1", "--reason", "test")
        (still,) = gateway.proxies()
        os.kill(still, signal.SIGSTOP)
        waiting = stub.ModelInfer.future(request("number"), timeout=60)
        gateway.cutover("flip", "number", "--reason", "test")
        assert not Path(f"/proc/{still}").exists()
        assert waiting.code() is grpc.StatusCode.UNAVAILABLE
        reply = stub.ModelInfer(request("number"), timeout=60, wait_for_ready=True)
        assert reply.model_version == "1"


@pytest.mark.slow
def test_a_version_that_was_a_canary_and_keeps_crashing_can_be_left(models_dir: Path, state_dir: Path) -> None:
    for version in (1, 2):
        models.save(models_dir, "number", version, models.constant(version))
    with serving(models_dir, state_dir) as gateway:
        gateway.cutover("standby", "set", "number", "1", "--reason", "the highest version was released at first sight")
        gateway.cutover("flip", "number", "--reason", "test")
        gateway.cutover("canary", "set", "number", "2", "--percent", "10", "--reason", "test")
        gateway.cutover("standby", "set", "number", "2", "--reason", "test")
        gateway.cutover("flip", "number", "--reason", "test")
        assert ask(gateway.target, "number")[0] == 2
        eventually(lambda: crashing(gateway), limit_s=60)
        began_s = time.monotonic()
        gateway.cutover("rollback", "number", "--reason", "it keeps crashing")
        assert time.monotonic() - began_s < 10
        assert ask(gateway.target, "number", cutover_arm="stable")[0] == 1


def crashing(gateway: Gateway) -> bool:
    """Kills version 2's worker once more; true when that counts as crashing again and again."""
    for worker in gateway.workers("number"):
        with suppress(OSError):
            if b"/number/2/" in Path(f"/proc/{worker}/cmdline").read_bytes():
                os.kill(worker, signal.SIGKILL)
    return "keeps crashing" in gateway.cutover("models").stdout
