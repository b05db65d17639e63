"""Work nobody waits for is not run: storms of cancellations and deadlines against a worker that stands still.

While its process is stopped nothing is run, whatever the machine does; what it runs afterwards is counted.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

from protos.inference_pb2_grpc import GRPCInferenceServiceStub
from tests import models
from tests.e2e.calls import open_channel, request
from tests.e2e.waiting import eventually
from tests.serving import Gateway, serving

pytestmark = pytest.mark.slow_on("grpcio")

CONFIG = """
[workers]
max_batch_size = 1
max_queue_wait = "0s"
"""
CHANNELS = 3
CALLS = 100
"""Per channel: fewer than the streams a connection may have."""
KEPT = 7
"""Every so many-th caller stays."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, each_transport: str) -> Iterator[Gateway]:
    """One proxy, a model for each storm."""
    folder = tmp_path_factory.mktemp(f"nobody-waits-{each_transport}")
    for model in ("left", "late"):
        models.save(folder / "models", model, 1, models.constant(1))
    config = folder / "config.toml"
    config.write_text(CONFIG)
    with serving(folder / "models", folder / "state", "--config", str(config)) as gateway:
        yield gateway


@contextmanager
def standing_still(gateway: Gateway, model: str) -> Iterator[None]:
    """The model's worker does nothing until the end of the block."""
    (worker,) = gateway.workers(model)
    os.kill(worker, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(worker, signal.SIGCONT)


@contextmanager
def stubs(gateway: Gateway) -> Iterator[list[GRPCInferenceServiceStub]]:
    channels = [open_channel(gateway.target) for _ in range(CHANNELS)]
    try:
        yield [GRPCInferenceServiceStub(channel) for channel in channels]
    finally:
        for channel in channels:
            channel.close()


def given_up(gateway: Gateway, model: str, count: int) -> None:
    """Returns when the proxy knows that so many callers have left or are late; either comes first."""
    eventually(lambda: gateway.metric("cutover_requests_total", model=model) == count)


def executed(gateway: Gateway, model: str, answered: int) -> float:
    """Rows the model has run, once the proxy has reported so many answers."""
    assert gateway.wait_metric("cutover_requests_total", answered, model=model, code="OK") == answered
    return gateway.metric("cutover_batch_rows_sum", model=model)


@pytest.mark.slow
def test_of_a_storm_of_cancellations_only_those_who_stay_are_run(gateway: Gateway) -> None:
    with stubs(gateway) as each:
        with standing_still(gateway, "left"):
            calls = [stub.ModelInfer.future(request("left"), timeout=100) for stub in each for _ in range(CALLS)]
            eventually(lambda: gateway.metric("cutover_in_flight_requests") == len(calls))
            staying = calls[KEPT - 1 :: KEPT]  # not the first, which are at the worker
            for call in calls:
                if call not in staying:
                    call.cancel()
            given_up(gateway, "left", len(calls) - len(staying))
        assert [len(call.result().raw_output_contents) for call in staying] == [1] * len(staying)
    assert executed(gateway, "left", len(staying)) == len(staying)


def test_of_a_storm_of_deadlines_only_those_in_time_are_run(gateway: Gateway) -> None:
    with stubs(gateway) as each:
        with standing_still(gateway, "late"):
            late = [stub.ModelInfer.future(request("late"), timeout=2) for stub in each for _ in range(CALLS)]
            staying = [stub.ModelInfer.future(request("late"), timeout=100) for stub in each]
            assert {call.code() for call in late} == {grpc.StatusCode.DEADLINE_EXCEEDED}
            given_up(gateway, "late", len(late))
        assert [len(call.result().raw_output_contents) for call in staying] == [1] * len(staying)
    assert executed(gateway, "late", len(staying)) == len(staying)
