"""ModelStreamInfer through tritonclient, sync and aio, and through plain stubs."""

import queue
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from protos import inference_pb2 as pb
from protos.inference_pb2_grpc import GRPCInferenceServiceStub
from tests import models
from tests.e2e.waiting import eventually
from tests.serving import Gateway, serving

COUNT = 1000
"""Far more than a stream may have in flight."""
TIMEOUT_S = 60


def tensor(value: float, columns: int = 3) -> triton.InferInput:
    rows = np.full((1, columns), value, np.float32)
    found = triton.InferInput("X", rows.shape, "FP32")
    found.set_data_from_numpy(rows)
    return found


def first(result: triton.InferResult) -> float:
    return float(result.as_numpy("Y")[0, 0])


def parameters(result: triton.InferResult) -> dict[str, Any]:
    found = result.get_response().parameters.items()
    return {key: getattr(value, value.WhichOneof("parameter_choice")) for key, value in found}


class Answers:
    """The callback of a stream: what came, in order."""

    def __init__(self) -> None:
        self._came: queue.Queue[tuple[Any, Any]] = queue.Queue()

    def __call__(self, result: Any, error: Any) -> None:
        self._came.put((result, error))

    def next(self) -> tuple[Any, Any]:
        return self._came.get(timeout=TIMEOUT_S)


def test_triton_client_streams(shared: Gateway) -> None:
    answers = Answers()
    with triton.InferenceServerClient(shared.target) as client:
        client.start_stream(answers)
        for number in range(COUNT):
            client.async_stream_infer(
                "identity_fp32", [tensor(number)], request_id=str(number), enable_empty_final_response=True
            )
        for number in range(COUNT):
            result, error = answers.next()
            assert error is None
            assert (result.get_response().id, first(result)) == (str(number), number)
        client.stop_stream()
    said = parameters(result)
    assert said == {
        "triton_final_response": True,
        "cutover-arm": "stable",
        "cutover-revision": "1",
        "cutover-reason": "stable",
    }


def test_an_error_is_one_answer_and_the_stream_goes_on(shared: Gateway) -> None:
    answers = Answers()
    with triton.InferenceServerClient(shared.target) as client:
        client.start_stream(answers)
        client.async_stream_infer("identity_fp32", [tensor(1)])
        client.async_stream_infer("nobody", [tensor(2)], request_id="b")
        client.async_stream_infer("identity_fp32", [tensor(3, columns=4)])
        client.async_stream_infer("identity_fp32", [tensor(4)])
        came = [answers.next() for _ in range(4)]
        client.stop_stream()
    assert [first(came[index][0]) for index in (0, 3)] == [1, 4]
    texts = [error.message() for _, error in came[1:3]]
    assert texts == ["model 'nobody' is not served here", "input 'X': shape [1, 4], but the model takes [-1, 3]"]


def test_who_asks_for_grpc_errors_gets_one(shared: Gateway) -> None:
    answers = Answers()
    with triton.InferenceServerClient(shared.target) as client:
        client.start_stream(answers, headers={"triton_grpc_error": "true"})
        client.async_stream_infer("identity_fp32", [tensor(1)])
        client.async_stream_infer("nobody", [tensor(2)])
        result, _ = answers.next()
        assert first(result) == 1
        _, error = answers.next()
        assert isinstance(error, InferenceServerException)
        assert (error.status(), error.message()) == ("StatusCode.NOT_FOUND", "model 'nobody' is not served here")
        client.stop_stream()


async def test_triton_aio_client_streams(shared: Gateway) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for number in range(COUNT):
            yield {"model_name": "identity_fp32", "inputs": [tensor(number)], "request_id": str(number)}

    async with triton_aio.InferenceServerClient(shared.target) as client:
        came = [(result, error) async for result, error in client.stream_infer(requests())]
    assert [error for _, error in came if error] == []
    assert [first(result) for result, _ in came] == list(range(COUNT))


def request(number: int, size: int = 3) -> pb.ModelInferRequest:
    values = np.full((size // 3, 3), number, np.float32)
    found = pb.ModelInferRequest(model_name="identity_fp32", id=str(number), raw_input_contents=[values.tobytes()])
    found.inputs.add(name="X", datatype="FP32", shape=values.shape)
    return found


@pytest.fixture
def stub(shared: Gateway) -> Iterator[GRPCInferenceServiceStub]:
    with grpc.insecure_channel(shared.target) as channel:
        yield GRPCInferenceServiceStub(channel)


def test_large_answers_to_a_reader_that_is_slow_at_first(stub: GRPCInferenceServiceStub) -> None:
    call = stub.ModelStreamInfer((request(number, 300_000) for number in range(40)), timeout=TIMEOUT_S)
    ids = [response.infer_response.id for response in call]
    assert ids == [str(number) for number in range(40)]
    assert call.code() == grpc.StatusCode.OK


def test_a_stream_without_requests_is_fine(stub: GRPCInferenceServiceStub) -> None:
    call = stub.ModelStreamInfer(iter(()), timeout=TIMEOUT_S)
    assert list(call) == []
    assert call.code() == grpc.StatusCode.OK


@pytest.mark.usefixtures("each_transport")
@pytest.mark.slow_on("grpcio")
def test_who_leaves_is_not_worked_for_and_a_drain_ends_streams(models_dir: Path, state_dir: Path) -> None:
    models.save(models_dir, "slow", 1, models.slow(rounds=200))
    (models_dir / "slow" / "1" / "model.toml").write_text('batching = "off"\n')
    with serving(models_dir, state_dir) as gateway, grpc.insecure_channel(gateway.target) as channel:
        stub = GRPCInferenceServiceStub(channel)
        call = stub.ModelStreamInfer(iter([slow_request()] * COUNT), timeout=TIMEOUT_S)
        assert gateway.wait_metric("cutover_in_flight_requests", 100) >= 100
        call.cancel()
        assert gateway.wait_metric("cutover_requests_total", 50, code="CANCELLED") >= 50
        eventually(lambda: gateway.metric("cutover_in_flight_requests") == 0)
        admitted = gateway.metric("cutover_requests_total", model="slow")
        assert gateway.metric("cutover_batch_rows_count", model="slow") < admitted, "one by one; not all were run"

        more: queue.Queue[Any] = queue.Queue()
        open_ = stub.ModelStreamInfer(iter(more.get, None), timeout=TIMEOUT_S)
        more.put(slow_request())
        assert next(open_).infer_response.model_name == "slow"
        assert gateway.stop() == 0
        with pytest.raises(grpc.RpcError) as caught:
            next(open_)
        more.put(None)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "draining" in str(caught.value)


def slow_request() -> pb.ModelInferRequest:
    found = pb.ModelInferRequest(model_name="slow", raw_input_contents=[np.ones((1, 4), np.float32).tobytes()])
    found.inputs.add(name="X", datatype="FP32", shape=[1, 4])
    return found


def test_the_deadline_ends_a_stream(stub: GRPCInferenceServiceStub) -> None:
    never: queue.Queue[Any] = queue.Queue()
    call = stub.ModelStreamInfer(iter(never.get, None), timeout=0.2)
    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    never.put(None)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
