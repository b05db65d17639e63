"""What clients of the family send and insist on, against a gateway with two proxies: every answer is checked the way
that client checks it. tritonclient and KServe's are the real ones; perf_analyzer and MLServer speak through what their
sources say they send.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from google.protobuf.descriptor import Descriptor
from tritonclient.grpc import model_config_pb2, service_pb2
from tritonclient.utils import InferenceServerException

from protos import inference_pb2 as pb
from protos.inference_pb2_grpc import GRPCInferenceServiceStub
from tests import models
from tests.conformance.perf_analyzer import PerfAnalyzer
from tests.e2e.calls import open_channel
from tests.e2e.waiting import eventually
from tests.serving import Gateway, serving

KSERVES = {"model_name", "isLoaded", "isUnloaded"}
"""Fields of the answers to Load and Unload; Triton's are empty."""
ROWS = np.ones((3, 30), np.float32)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Two proxies, and clients may do everything."""
    folder = tmp_path_factory.mktemp("contracts")
    directory = folder / "models"
    models.save(directory, "classifier", 1, models.classifier(seed=1))
    models.save(directory, "classifier", 2, models.classifier())
    models.save(directory, "scalar", 1, models.scalar())
    models.save(directory, "fixed", 1, models.identity(shape=(2, 3)))
    models.save(directory, "slow", 1, models.slow(rounds=600))
    (folder / "cutover.toml").write_text("""
        [triton]
        model_control = "explicit"
        trace_file = "traces.json"
        change_settings = true
        metric_aliases = true
    """)
    options = ("--proxies", "2", "--config", str(folder / "cutover.toml"))
    with serving(directory, folder / "state", *options) as running:
        yield running


@pytest.fixture
def clients(gateway: Gateway) -> Iterator[list[triton.InferenceServerClient]]:
    """Each with a connection of its own, so that both proxies are asked."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    made = [triton.InferenceServerClient(gateway.target, channel_args=options) for _ in range(8)]
    yield made
    for client in made:
        client.close()


def infer(client: triton.InferenceServerClient, model: str = "classifier", **options: Any) -> triton.InferResult:
    features = 4 if model == "slow" else 30
    tensor = triton.InferInput("X", [3, features], "FP32")
    tensor.set_data_from_numpy(ROWS[:, :features])
    return client.infer(model, [tensor], **options)


def test_every_field_has_tritons_number_and_type() -> None:
    def compare(ours: Descriptor, theirs: Descriptor) -> None:
        for field in ours.fields:
            if theirs.fields or field.name not in KSERVES:
                twin = theirs.fields_by_name[field.name]
                assert (field.number, field.type, field.is_repeated) == (twin.number, twin.type, twin.is_repeated)
        for nested in ours.nested_types:
            compare(nested, theirs.nested_types_by_name[nested.name])

    known = {**service_pb2.DESCRIPTOR.message_types_by_name, **model_config_pb2.DESCRIPTOR.message_types_by_name}
    for name, message in pb.DESCRIPTOR.message_types_by_name.items():
        compare(message, known[name])
    types = pb.DESCRIPTOR.enum_types_by_name["DataType"].values_by_name
    twins = model_config_pb2.DESCRIPTOR.enum_types_by_name["DataType"].values_by_name
    assert {name: value.number for name, value in types.items()} == {n: v.number for n, v in twins.items()}


@pytest.mark.parametrize(
    ("model", "values", "rows"), [("classifier", ROWS, 3), ("fixed", np.ones((2, 3), np.float32), 1)]
)
def test_perf_analyzer_starts_and_measures(gateway: Gateway, model: str, values: Any, rows: int) -> None:
    with open_channel(gateway.target) as channel, open_channel(gateway.target) as other:
        tool = PerfAnalyzer(channel, model)
        assert tool.extensions >= {"statistics", "model_configuration"}
        assert bool(tool.parsed.max_batch_size) is (model == "classifier")
        elsewhere = PerfAnalyzer(other, model)
        for count in (1, 4):
            before = tool.statistics()
            for asking in [tool, elsewhere] * count:
                asking.infer(rows, X=values)
            done = dict.fromkeys(("success", "compute_input", "compute_infer", "compute_output"), 2 * count)
            assert tool.window(before) == {**done, "inference": 2 * count * rows}


def test_statistics_hold_what_was_answered_before_whichever_proxy_is_asked(
    clients: list[triton.InferenceServerClient],
) -> None:
    def counted(client: triton.InferenceServerClient, **which: str) -> Any:
        (found,) = client.get_inference_statistics("classifier", **{"model_version": "2", **which}).model_stats
        return found

    first = counted(clients[0])
    for number, client in enumerate(clients):
        infer(client)
        found = counted(clients[number - 1])
        assert found.inference_stats.success.count == first.inference_stats.success.count + number + 1
    assert found.inference_count == first.inference_count + 3 * len(clients)
    assert found.execution_count == first.execution_count + len(clients)
    by_rows = {one.batch_size: one.compute_infer.count for one in found.batch_stats}
    assert by_rows[3] >= len(clients)
    assert sum(by_rows.values()) == found.execution_count
    assert sum(rows * count for rows, count in by_rows.items()) == found.inference_count
    with pytest.raises(InferenceServerException):
        infer(clients[0], model_version="7")
    everything = clients[1].get_inference_statistics()
    assert {(one.name, one.version) for one in everything.model_stats} == {
        ("classifier", "2"),
        ("fixed", "1"),
        ("scalar", "1"),
        ("slow", "1"),
    }
    with pytest.raises(InferenceServerException, match="no live version 1"):
        counted(clients[0], model_version="1")


def test_tritonclient_takes_a_model_out_of_service_and_back(
    gateway: Gateway, clients: list[triton.InferenceServerClient]
) -> None:
    def states() -> dict[tuple[str, str], str]:
        return {(one.name, one.version): one.state for one in clients[0].get_model_repository_index().models}

    assert states() == {
        ("classifier", "1"): "UNAVAILABLE",
        ("classifier", "2"): "READY",
        ("fixed", "1"): "READY",
        ("scalar", "1"): "READY",
        ("slow", "1"): "READY",
    }
    clients[1].unload_model("classifier")
    for client in clients:
        assert not client.is_model_ready("classifier")
        assert client.is_server_ready()
        with pytest.raises(InferenceServerException, match="unloaded by a client; load it") as caught:
            infer(client)
        assert caught.value.status() == "StatusCode.UNAVAILABLE"
    assert states()["classifier", "2"] in ("UNLOADING", "UNAVAILABLE")
    assert " unloaded " in gateway.cutover("models", "classifier").stdout
    clients[2].load_model("classifier")
    for client in clients:
        assert client.is_model_ready("classifier")
        assert infer(client).get_response().model_version == "2"
    assert states()["classifier", "2"] == "READY"
    with pytest.raises(InferenceServerException, match="immutable"):
        clients[0].load_model("classifier", config="{}")
    with pytest.raises(InferenceServerException, match="no version of model 'nobody'"):
        clients[0].load_model("nobody")


def test_what_was_admitted_before_an_unload_is_answered(clients: list[triton.InferenceServerClient]) -> None:
    infer(clients[0], "slow")
    answers: list[Any] = []
    tensor = triton.InferInput("X", [3, 4], "FP32")
    tensor.set_data_from_numpy(ROWS[:, :4])
    for client in clients:
        client.async_infer("slow", [tensor], lambda result, error: answers.append(error or result))
    for client in clients:
        client.is_server_live()  # on the same connection: when it is answered, what was sent before it is admitted
    clients[0].unload_model("slow")
    eventually(lambda: len(answers) == len(clients))
    assert [str(answer) for answer in answers if isinstance(answer, InferenceServerException)] == []
    clients[0].load_model("slow")


def test_tritonclient_traces_requests_of_both_proxies(
    gateway: Gateway, clients: list[triton.InferenceServerClient]
) -> None:
    file = gateway.state.with_name("traces.json")
    settings = {"trace_level": ["TIMESTAMPS"], "trace_rate": "1", "trace_count": "20"}
    said = clients[0].update_trace_settings("classifier", settings, as_json=True)["settings"]
    assert {name: said[name]["value"] for name in settings} == {
        "trace_level": ["TIMESTAMPS"],
        "trace_rate": ["1"],
        "trace_count": ["20"],
    }
    assert clients[1].get_trace_settings(as_json=True)["settings"]["trace_level"]["value"] == ["OFF"]
    sent = {f"request-{number}" for number in range(16)}
    for number, name in enumerate(sorted(sent)):
        infer(clients[number % 8], request_id=name)

    def traces() -> list[dict[str, Any]]:
        return json.loads(file.read_text()) if file.exists() else []

    eventually(lambda: {entry.get("request_id") for entry in traces()} >= sent)
    assert {(entry["model_name"], entry["model_version"]) for entry in traces() if "model_name" in entry} == {
        ("classifier", 2)
    }
    for entry in traces():
        points = [stamp["ns"] for stamp in entry.get("timestamps", [])]
        assert points == sorted(points)
    left = clients[3].get_trace_settings("classifier", as_json=True)["settings"]["trace_count"]["value"]
    assert left == ["4"]
    cleared = clients[2].update_trace_settings("classifier", dict.fromkeys(settings), as_json=True)["settings"]
    assert (cleared["trace_level"]["value"], cleared["trace_count"]["value"]) == (["OFF"], ["-1"])


def test_tritonclient_changes_what_is_logged(gateway: Gateway, clients: list[triton.InferenceServerClient]) -> None:
    before = clients[0].get_log_settings(as_json=True)["settings"]
    assert (before["log_info"], before["log_verbose_level"]) == ({"bool_param": True}, {"uint32_param": 0})
    quiet = clients[1].update_log_settings({"log_info": False}, as_json=True)["settings"]
    assert quiet == {**before, "log_info": {"bool_param": False}}
    size = len(gateway.log.read_bytes())
    clients[2].load_model("scalar")
    assert len(gateway.log.read_bytes()) == size
    assert clients[3].update_log_settings({"log_info": True}, as_json=True)["settings"] == before
    clients[2].load_model("scalar")
    assert "model loaded by a client model=scalar peer=127.0.0.1:" in gateway.log_tail()


def test_dashboards_made_for_triton_find_their_metrics(
    gateway: Gateway, clients: list[triton.InferenceServerClient]
) -> None:
    infer(clients[0])
    done = clients[0].get_inference_statistics("classifier", "2").model_stats[0]
    assert gateway.metric("nv_inference_request_success", model="classifier", version="2") >= 1
    assert gateway.metric("nv_inference_count", model="classifier") == done.inference_count
    assert gateway.metric("nv_inference_exec_count", model="classifier") == done.execution_count


KSERVE = """
import sys
import grpc
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

with grpc.insecure_channel(sys.argv[1]) as channel:
    stub = GRPCInferenceServiceStub(channel)
    gone = stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="scalar"))
    assert (gone.model_name, gone.isUnloaded) == ("scalar", True), gone
    assert not stub.ModelReady(pb.ModelReadyRequest(name="scalar")).ready
    back = stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="scalar"))
    assert (back.model_name, back.isLoaded) == ("scalar", True), back
    assert stub.ModelReady(pb.ModelReadyRequest(name="scalar")).ready
    metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name="scalar"))
    assert (metadata.name, metadata.platform) == ("scalar", "onnxruntime_onnx"), metadata
"""


def test_kserves_stubs_load_and_unload(gateway: Gateway) -> None:
    """In a process of its own: their protobuf modules collide with tritonclient's."""
    command = [sys.executable, "-W", "ignore", "-c", KSERVE, gateway.target]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False, cwd=Path(__file__).parent)
    assert done.returncode == 0, done.stderr[-2000:]


def test_what_mlserver_sends_and_reads(gateway: Gateway) -> None:
    """After mlserver/grpc/converters.py and proto/dataplane.proto of SeldonIO/MLServer at a325e52."""
    with open_channel(gateway.target) as channel:
        stub = GRPCInferenceServiceStub(channel)
        request = pb.ModelInferRequest(model_name="classifier", id="m1")
        request.parameters["content_type"].string_param = "np"
        tensor = request.inputs.add(name="X", datatype="FP32", shape=[1, 30])
        tensor.parameters["content_type"].string_param = "np"
        tensor.contents.fp32_contents.extend([1.0] * 30)
        request.outputs.add(name="probabilities").parameters["content_type"].string_param = "np"
        reply = stub.ModelInfer(request)
        # inject_raw takes the place of `contents` wherever raw contents are there at all, one for each output.
        assert (reply.id, len(reply.raw_output_contents)) == ("m1", len(reply.outputs))
        assert len(reply.raw_output_contents[0]) == 4 * 2
        index = stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True))
        assert {one.state for one in index.models} == {"READY"}
        loaded = stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="classifier"))
        assert loaded.isLoaded
        metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name="classifier"))
        # Number 6 is `parameters` there and `properties` in the specification: nobody may send it.
        assert {field.number for field in metadata.DESCRIPTOR.fields} == {1, 2, 3, 4, 5}


def test_shared_memory_of_gpus_is_not_there(clients: list[triton.InferenceServerClient]) -> None:
    with pytest.raises(InferenceServerException) as caught:
        clients[0].get_cuda_shared_memory_status()
    assert caught.value.status() == str(grpc.StatusCode.UNIMPLEMENTED)
