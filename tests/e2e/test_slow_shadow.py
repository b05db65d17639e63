"""A shadow that is hundreds of times slower than production, and gets a copy of everything."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from protos.inference_pb2_grpc import GRPCInferenceServiceStub
from tests import models
from tests.e2e.calls import request
from tests.serving import serving

REQUESTS = 400
QUEUE = 8


@pytest.mark.slow
def test_a_slow_shadow_costs_no_answer_and_what_it_cannot_take_is_counted(models_dir: Path, state_dir: Path) -> None:
    models.save(models_dir, "mean", 1, models.slow(rounds=4000, size=64))
    models.save(models_dir, "mean", 2, models.slow(rounds=1, size=64))
    config = state_dir.with_name("cutover.toml")
    config.write_text(f"[limits]\nmax_shadow_queue = {QUEUE}\n")
    with serving(models_dir, state_dir, "--config", str(config), "--proxies", "1") as gateway:
        gateway.cutover("shadow", "set", "mean", "1", "--rate", "1.0", "--reason", "test")
        with grpc.insecure_channel(gateway.target) as channel, ThreadPoolExecutor(8) as pool:
            stub = GRPCInferenceServiceStub(channel)
            replies = list(pool.map(lambda _: stub.ModelInfer(request("mean"), timeout=30), range(REQUESTS)))
        assert Counter(reply.model_version for reply in replies) == {"2": REQUESTS}
        assert {reply.raw_output_contents[0] for reply in replies} == {replies[0].raw_output_contents[0]}
        assert gateway.wait_metric("cutover_requests_total", REQUESTS, code="OK") == REQUESTS
        assert gateway.metric("cutover_requests_total") == REQUESTS

        # Whatever it was slow for, it learned something; what still waits is dropped when it ends.
        assert gateway.wait_metric("cutover_shadow_copies_total", 1, result="compared") > 0
        gateway.cutover("shadow", "remove", "mean", "1", "--reason", "test")
        assert gateway.wait_metric("cutover_shadow_copies_total", REQUESTS) == REQUESTS
        assert gateway.metric("cutover_shadow_copies_total", result="dropped") > REQUESTS / 10
        assert gateway.metric("cutover_shadow_copies_total", result="incomparable") == 0
        rows = gateway.metric("cutover_shadow_rows_total")
        assert rows == gateway.metric("cutover_shadow_agreed_rows_total") > 0
