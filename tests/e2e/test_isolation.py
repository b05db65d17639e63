"""Bad days of one model: only its requests suffer, at worst the one that is to blame; another model answers on."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest

import tests.children.impostor
from protos import inference_pb2 as pb
from protos.inference_pb2_grpc import GRPCInferenceServiceStub
from tests import models
from tests.e2e.calls import Askers, ask, open_channel, request
from tests.e2e.waiting import eventually
from tests.serving import Gateway, serving

CONFIG = """
[server]
proxies = 2
[limits]
worker_timeout = "3s"
[models.hungry]
max_memory = "256MiB"
[models.leaky]
max_memory = "64MiB"
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Two proxies, a model for every bad day, and one that has none."""
    folder = tmp_path_factory.mktemp("isolation")
    directory = folder / "models"
    for name in ("number", "victim", "garbage", "late", "leaky"):
        models.save(directory, name, 1, models.constant(1))
    models.save(directory, "fragile", 1, models.crasher())
    models.save(directory, "hungry", 1, models.hungry())
    config = folder / "config.toml"
    config.write_text(CONFIG)
    impostor = str(Path(tests.children.impostor.__file__).parent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", impostor, prepend=os.pathsep)
        with serving(directory, folder / "state", "--config", str(config)) as gateway:
            yield gateway


@contextmanager
def nobody_else_suffers(gateway: Gateway) -> Iterator[None]:
    """Another model is asked without a pause, and answers everything."""
    with Askers(gateway.target, "number", threads=4) as askers:
        askers.wait_more(20)
        yield
        askers.wait_more(20)
    assert [answer.error for answer in askers.answers if answer.error] == []
    assert gateway.metric("cutover_worker_restarts_total", model="number") == 0


def restarts(gateway: Gateway, model: str) -> float:
    return gateway.metric("cutover_worker_restarts_total", model=model)


def number(model: str, value: int) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name=model, raw_input_contents=[np.array([value], np.int64).tobytes()])
    message.inputs.add(name="X", datatype="INT64", shape=[1])
    return message


def outcome(gateway: Gateway, message: pb.ModelInferRequest, timeout_s: float = 60) -> tuple[str, str]:
    """Code and details of a request over a connection of its own."""
    with open_channel(gateway.target) as channel:
        try:
            GRPCInferenceServiceStub(channel).ModelInfer(message, timeout=timeout_s)
        except grpc.RpcError as error:
            return error.code().name, error.details() or ""
    return "OK", ""


def test_a_killed_worker(gateway: Gateway) -> None:
    with nobody_else_suffers(gateway), Askers(gateway.target, "victim", threads=4) as askers:
        askers.wait_more(20)
        (worker,) = gateway.workers("victim")
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: gateway.workers("victim") not in ([], [worker]))
        askers.wait_more(20)
    assert [answer.error for answer in askers.answers if answer.error] == []


def test_a_hung_worker(gateway: Gateway) -> None:
    before = restarts(gateway, "victim")
    with nobody_else_suffers(gateway):
        eventually(lambda: len(gateway.workers("victim")) == 1)
        assert ask(gateway.target, "victim")[0] == 1
        (worker,) = gateway.workers("victim")
        os.kill(worker, signal.SIGSTOP)
        assert ask(gateway.target, "victim")[0] == 1
        assert gateway.wait_metric("cutover_worker_restarts_total", before + 1, model="victim") == before + 1


def test_a_request_that_asks_for_too_much_memory(gateway: Gateway) -> None:
    with nobody_else_suffers(gateway):
        (worker,) = gateway.workers("hungry")
        code, details = outcome(gateway, number("hungry", 1 << 20))
        assert code == "INTERNAL"
        assert details.startswith("the model failed: out of memory")
        assert outcome(gateway, number("hungry", 8)) == ("OK", "")
        assert gateway.workers("hungry") == [worker]


def test_a_worker_that_holds_too_much_memory(gateway: Gateway) -> None:
    with nobody_else_suffers(gateway):
        (worker,) = gateway.workers("leaky")
        assert ask(gateway.target, "leaky")[0] == 1
        eventually(lambda: gateway.workers("leaky") not in ([], [worker]))
        assert ask(gateway.target, "leaky")[0] == 1
        assert gateway.wait_metric("cutover_worker_restarts_total", 1, model="leaky") >= 1
    assert "worker holds too much memory" in gateway.log.read_text()


def test_a_worker_that_answers_garbage(gateway: Gateway) -> None:
    with nobody_else_suffers(gateway):
        code, details = outcome(gateway, request("garbage"))
    assert (code, details) == ("UNAVAILABLE", "garbage version 1: the worker died twice")


def test_a_worker_that_answers_too_late(gateway: Gateway) -> None:
    with nobody_else_suffers(gateway):
        assert outcome(gateway, request("late"), timeout_s=0.7)[0] == "DEADLINE_EXCEEDED"
        assert outcome(gateway, request("late"), timeout_s=0.7)[0] == "DEADLINE_EXCEEDED"
        with open_channel(gateway.target) as channel:  # the answers nobody waited for are nobody's
            reply = GRPCInferenceServiceStub(channel).ModelInfer(request("late"))
    assert np.frombuffer(reply.raw_output_contents[0], np.int64).tolist() == [1]


def test_a_poisoned_request_among_those_of_two_proxies(gateway: Gateway) -> None:
    """It kills two workers, and with them die requests that came through the other proxy; those are answered."""
    stop, asked, failed = threading.Event(), threading.Semaphore(0), list[str]()

    def innocent() -> None:
        with open_channel(gateway.target) as channel:
            stub = GRPCInferenceServiceStub(channel)
            while not stop.is_set():
                try:
                    stub.ModelInfer(number("fragile", 1), timeout=60)
                except grpc.RpcError as error:
                    failed.append(f"{error.code().name}: {error.details()}")
                asked.release()

    threads = [threading.Thread(target=innocent) for _ in range(8)]  # over a connection each, to either proxy
    with nobody_else_suffers(gateway):
        for thread in threads:
            thread.start()
        try:
            for _ in range(40):
                asked.acquire(timeout=60)
            code, details = outcome(gateway, number("fragile", models.CRASH))
            for _ in range(40):
                asked.acquire(timeout=60)
        finally:
            stop.set()
            for thread in threads:
                thread.join(60)
    assert (code, details) == ("UNAVAILABLE", "fragile version 1: the worker died twice")
    assert failed == []
    assert gateway.wait_metric("cutover_worker_restarts_total", 2, model="fragile") == 2
