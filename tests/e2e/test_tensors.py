"""Tensors of a megabyte, which lie in memory that proxy and worker share, beside small ones; and bad days for them."""

import os
import signal
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import grpc
import numpy as np
import pytest

from protos import inference_pb2 as pb
from protos.inference_pb2_grpc import GRPCInferenceServiceStub
from tests import models
from tests.e2e.waiting import eventually
from tests.serving import Gateway, serving

MEGABYTE = 1 << 18
"""FP32 values."""
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Y = X, twice: version 2 answers, version 1 may be its shadow."""
    folder = tmp_path_factory.mktemp("tensors")
    for version in (1, 2):
        models.save(folder / "models", "same", version, models.identity("FP32", (-1, -1)))
    with serving(folder / "models", folder / "state", "--proxies", "1") as made:
        yield made


def request(seed: int, size: int) -> pb.ModelInferRequest:
    values = np.random.default_rng(seed).random((1, size), np.float32)
    message = pb.ModelInferRequest(model_name="same", raw_input_contents=[values.tobytes()])
    message.inputs.add(name="X", datatype="FP32", shape=values.shape)
    return message


class Asker(threading.Thread):
    """Asks with large and small tensors in turns, and looks at each answer."""

    def __init__(self, target: str, seed: int, stop: threading.Event, at_least: int) -> None:
        super().__init__()
        self._address = target
        self._seed = seed
        self._enough = stop
        self._at_least = at_least
        self.answered = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        with grpc.insecure_channel(self._address, options=UNLIMITED) as channel:
            stub = GRPCInferenceServiceStub(channel)
            while self.answered < self._at_least or not self._enough.is_set():
                number = self._seed + self.answered
                message = request(number, (MEGABYTE, 10, 100_000, MEGABYTE + 1)[number % 4])
                try:
                    reply = stub.ModelInfer(message, timeout=60)
                    if reply.raw_output_contents[0] != message.raw_input_contents[0]:
                        self.wrong.append(f"{number}: the answer of another")
                except grpc.RpcError as error:
                    self.wrong.append(f"{number}: {error.code().name}: {error.details()}")
                self.answered += 1


def shared(pid: int) -> tuple[int, int]:
    """Mappings and descriptors of shared memory that a process has."""
    found = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found += "cutover-tensors" in str(entry.readlink())
        except FileNotFoundError:
            continue
    return Path(f"/proc/{pid}/maps").read_text().count("cutover-tensors"), found


def replaced(gateway: Gateway, old: int) -> bool:
    return (
        bool(gateway.workers("same"))
        and old not in gateway.workers("same")
        and "ready" in gateway.cutover("models").stdout
    )


def test_large_and_small_from_many_callers_through_worker_deaths(gateway: Gateway) -> None:
    stop = threading.Event()
    askers = [Asker(gateway.target, 1000 * number, stop, at_least=12) for number in range(4)]
    (proxy,) = gateway.proxies()
    eventually(lambda: shared(proxy)[0] == 1)
    before = shared(proxy)
    for asker in askers:
        asker.start()
    try:
        for _ in range(2):
            reached = sum(asker.answered for asker in askers) + 12
            eventually(lambda reached=reached: sum(asker.answered for asker in askers) >= reached)  # type: ignore[misc] # a default is a value
            (worker,) = gateway.workers("same")
            assert shared(worker)[0] == 1
            os.kill(worker, signal.SIGKILL)
            eventually(partial(replaced, gateway, worker))
    finally:
        stop.set()
        for asker in askers:
            asker.join(60)
    assert [asker.wrong for asker in askers] == [[]] * 4
    eventually(lambda: shared(proxy) == before)


def test_copies_of_large_tensors_are_compared(gateway: Gateway) -> None:
    gateway.cutover("shadow", "set", "same", "1", "--rate", "1.0", "--reason", "a test")
    count = 6
    with grpc.insecure_channel(gateway.target, options=UNLIMITED) as channel:
        stub = GRPCInferenceServiceStub(channel)
        calls = [
            (stub.ModelInfer.future(message, timeout=60), message)
            for message in (request(n, MEGABYTE) for n in range(count))
        ]
        for call, message in calls:
            assert call.result().raw_output_contents[0] == message.raw_input_contents[0]
    assert gateway.wait_metric("cutover_shadow_copies_total", count, model="same", result="compared") == count
    gateway.cutover("shadow", "remove", "same", "1", "--reason", "a test")
