"""Clients that know nothing of Cutover: tritonclient (sync and aio) and KServe's, unchanged."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from tests.serving import Gateway

SAMPLES: dict[str, NDArray[np.generic]] = {
    "BOOL": np.array([[True, False, True]]),
    "UINT8": np.array([[0, 1, 255]], np.uint8),
    "UINT16": np.array([[0, 1, 65535]], np.uint16),
    "UINT32": np.array([[0, 1, 2**32 - 1]], np.uint32),
    "UINT64": np.array([[0, 1, 2**64 - 1]], np.uint64),
    "INT8": np.array([[-128, 0, 127]], np.int8),
    "INT16": np.array([[-(2**15), 0, 2**15 - 1]], np.int16),
    "INT32": np.array([[-(2**31), 0, 2**31 - 1]], np.int32),
    "INT64": np.array([[-(2**63), 0, 2**63 - 1]], np.int64),
    "FP16": np.array([[-1.5, 0, 65504]], np.float16),
    "FP32": np.array([[-1.5, 0, np.inf]], np.float32),
    "FP64": np.array([[-1.5, 0, 1e300]], np.float64),
    "BYTES": np.array([["", "a", "größer 😊"]], dtype=object),
}


@pytest.mark.parametrize("datatype", SAMPLES)
def test_triton_client_gets_back_every_datatype(shared: Gateway, datatype: str) -> None:
    sample = SAMPLES[datatype]
    sample = np.vectorize(lambda text: text.encode(), otypes=[object])(sample) if datatype == "BYTES" else sample
    model = f"identity_{datatype.lower()}"
    tensor = triton.InferInput("X", sample.shape, datatype)
    tensor.set_data_from_numpy(sample)
    with triton.InferenceServerClient(shared.target) as client:
        result = client.infer(model, [tensor], request_id="abc")
    assert result.as_numpy("Y").tolist() == sample.tolist()
    assert result.get_response().id == "abc"
    assert result.get_response().model_version == "1"


@pytest.mark.parametrize(("model", "labels"), [("labelled", [":cat", ":dog"]), ("classifier", ["", ""])])
def test_triton_client_asks_for_classes(shared: Gateway, model: str, labels: list[str]) -> None:
    rows = np.random.default_rng(0).normal(size=(3, 30)).astype(np.float32)
    tensor = triton.InferInput("X", rows.shape, "FP32")
    tensor.set_data_from_numpy(rows)
    asked = [triton.InferRequestedOutput("probabilities", class_count=5), triton.InferRequestedOutput("label")]
    with triton.InferenceServerClient(shared.target) as client:
        numbers = client.infer(model, [tensor]).as_numpy("probabilities")
        result = client.infer(model, [tensor], outputs=asked)
        (best,) = client.infer(model, [tensor], outputs=[triton.InferRequestedOutput("label", 1)]).as_numpy("label")[0]
        with pytest.raises(InferenceServerException, match="'classification' must be an int64_param"):
            client.infer(model, [tensor], outputs=[triton.InferRequestedOutput("probabilities", class_count=-1)])
    classes = result.as_numpy("probabilities")
    assert classes.shape == (3, 2), "there are no more classes"
    for row, found in zip(numbers, classes, strict=True):
        expected = [f"{row[index]:f}:{index}{labels[index]}" for index in np.argsort(-row)]
        assert [text.decode() for text in found] == expected
    assert result.as_numpy("label").tolist() == np.argmax(numbers, axis=1).tolist()
    assert best.decode() == f"{np.argmax(numbers[0])}:0"


def test_triton_client_asks_about_server_and_models(shared: Gateway) -> None:
    with triton.InferenceServerClient(shared.target) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("classifier")
        assert client.is_model_ready("classifier", "1")
        assert client.get_server_metadata().name == "cutover"
        metadata = client.get_model_metadata("classifier", as_json=True)
    assert metadata["platform"] == "onnxruntime_onnx"
    assert metadata["versions"] == ["1"]
    assert [(item["name"], item["datatype"], item["shape"]) for item in metadata["outputs"]] == [
        ("label", "INT64", ["-1"]),
        ("probabilities", "FP32", ["-1", "2"]),
    ]


def test_triton_client_selects_outputs_and_versions(shared: Gateway) -> None:
    rows = np.ones((5, 30), np.float32)
    tensor = triton.InferInput("X", rows.shape, "FP32")
    tensor.set_data_from_numpy(rows)
    wanted = [triton.InferRequestedOutput("probabilities")]
    with triton.InferenceServerClient(shared.target) as client:
        result = client.infer("classifier", [tensor], model_version="1", outputs=wanted)
        assert result.as_numpy("probabilities").shape == (5, 2)
        assert result.as_numpy("label") is None
        with pytest.raises(InferenceServerException, match="no live version 7"):
            client.infer("classifier", [tensor], model_version="7")
        with pytest.raises(InferenceServerException, match="not an integer"):
            client.infer("classifier", [tensor], model_version="latest")


@pytest.mark.parametrize(
    ("name", "datatype", "shape", "message"),
    [
        ("Z", "FP32", (1, 30), "input 'Z' is unknown"),
        ("X", "FP64", (1, 30), "datatype FP64"),
        ("X", "FP32", (1, 29), "shape"),
        ("X", "FP32", (30,), "shape"),
    ],
)
def test_triton_client_is_told_what_is_wrong(
    shared: Gateway, name: str, datatype: str, shape: tuple[int, ...], message: str
) -> None:
    tensor = triton.InferInput(name, shape, datatype)
    tensor.set_data_from_numpy(np.zeros(shape, np.float32 if datatype == "FP32" else np.float64))
    with (
        triton.InferenceServerClient(shared.target) as client,
        pytest.raises(InferenceServerException, match=message) as caught,
    ):
        client.infer("classifier", [tensor])
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_triton_client_asks_how_models_run_and_what_they_did(shared: Gateway) -> None:
    with triton.InferenceServerClient(shared.target) as client:
        config = client.get_model_config("two_inputs").config
        assert (config.max_batch_size, [list(one.dims) for one in config.input]) == (64, [[2], [2]])
        before = client.get_inference_statistics("identity_fp64").model_stats[0].inference_stats.success.count
        tensor = triton.InferInput("X", [1, 3], "FP64")
        tensor.set_data_from_numpy(SAMPLES["FP64"])
        client.infer("identity_fp64", [tensor])
        after = client.get_inference_statistics("identity_fp64", "1").model_stats[0]
        assert after.inference_stats.success.count == before + 1
        assert ("scalar", "READY") in {(one.name, one.state) for one in client.get_model_repository_index().models}


def test_triton_client_may_change_nothing_unless_allowed(shared: Gateway) -> None:
    with triton.InferenceServerClient(shared.target) as client:
        assert client.get_trace_settings(as_json=True)["settings"]["trace_level"]["value"] == ["OFF"]
        assert client.get_log_settings(as_json=True)["settings"]["log_info"] == {"bool_param": True}
        assert "model_repository" not in client.get_server_metadata().extensions
        changes: tuple[tuple[Callable[[], object], str], ...] = (
            (lambda: client.unload_model("scalar"), 'model_control = "explicit"'),
            (lambda: client.load_model("scalar"), 'model_control = "explicit"'),
            (lambda: client.update_trace_settings(settings={"trace_rate": "1"}), "set trace_file"),
            (lambda: client.update_log_settings({"log_info": False}), "change_settings = true"),
        )
        for change, remedy in changes:
            with pytest.raises(InferenceServerException, match=remedy) as caught:
                change()
            assert caught.value.status() == "StatusCode.PERMISSION_DENIED"


async def test_triton_aio_client_infers(shared: Gateway) -> None:
    pairs = [np.array([[1, 2], [3, 4]], np.float32), np.array([[10, 20], [30, 40]], np.float32)]
    tensors = [triton_aio.InferInput(name, [2, 2], "FP32") for name in "AB"]
    for tensor, values in zip(tensors, pairs, strict=True):
        tensor.set_data_from_numpy(values)
    async with triton_aio.InferenceServerClient(shared.target) as client:
        assert await client.is_server_ready()
        result = await client.infer("two_inputs", list(reversed(tensors)))
    assert result.as_numpy("SUM").tolist() == [[11, 22], [33, 44]]
    assert result.as_numpy("LENGTHS").tolist() == [30, 70]


KSERVE = """
import asyncio, sys
import numpy as np
from kserve import InferInput, InferRequest, InferenceGRPCClient

async def main():
    client = InferenceGRPCClient(sys.argv[1])
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready("classifier")
    tensor = InferInput("X", [3, 30], "FP32")
    tensor.set_data_from_numpy(np.ones((3, 30), np.float32), binary_data=sys.argv[2] == "raw")
    request = InferRequest(model_name="classifier", infer_inputs=[tensor], request_id="k1")
    reply = await client.infer(request)
    assert reply.id == "k1", reply
    outputs = {output.name: output.as_numpy() for output in reply.outputs}
    assert outputs["probabilities"].shape == (3, 2), outputs
    assert outputs["label"].shape == (3,), outputs
    await client.close()

asyncio.run(main())
"""


@pytest.mark.parametrize("contents", ["raw", "typed"])
def test_kserve_client_infers(shared: Gateway, contents: str) -> None:
    """In a process of its own: its protobuf modules collide with tritonclient's."""
    command = [sys.executable, "-W", "ignore", "-c", KSERVE, shared.target, contents]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False, cwd=Path(__file__).parent)
    assert done.returncode == 0, done.stderr[-2000:]
