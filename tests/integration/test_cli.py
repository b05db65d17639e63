"""The installed command against a real gateway."""

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from gateway.observe.metrics import METRICS
from protos import inference_pb2 as inference
from protos.inference_pb2_grpc import GRPCInferenceServiceStub
from tests import models
from tests.serving import CUTOVER, Gateway, serving


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with two versions of one model; the higher one is stable."""
    folder = tmp_path_factory.mktemp("cli")
    for version in (1, 2):
        models.save(folder / "models", "number", version, models.constant(version))
    with serving(folder / "models", folder / "state") as running:
        yield running


def said(gateway: Gateway, *arguments: str) -> Any:
    return json.loads(gateway.cutover(*arguments, "-o", "json").stdout)


def ask(stub: GRPCInferenceServiceStub, user: str) -> dict[str, str]:
    """Who answered, in the words of the reply's trailing metadata."""
    tensor = inference.ModelInferRequest.InferInputTensor(name="X", datatype="FP32", shape=[1, 4])
    message = inference.ModelInferRequest(model_name="number", inputs=[tensor], raw_input_contents=[bytes(16)])
    _, call = stub.ModelInfer.with_call(message, metadata=[("x-user-id", user)], timeout=30)
    return {key: str(value) for key, value in call.trailing_metadata()}


def test_a_release_from_canary_to_flip_and_back(gateway: Gateway) -> None:
    found = said(gateway, "models")
    assert [(one["version"], one["state"], one["roles"]) for one in found["versions"]] == [
        (1, "FOUND", []),
        (2, "READY", ["stable"]),
    ]
    assert "answers 10 %" in gateway.cutover("canary", "set", "number", "1", "--percent", "10").stdout
    assert "canary-1" in gateway.cutover("status").stdout
    gateway.cutover("canary", "remove", "number", "1")
    gateway.cutover("standby", "set", "number", "1", "--reason", "try it")
    flipped = gateway.cutover("flip", "number").stdout
    assert re.fullmatch(r"number: 2 -> 1, revision \d+, applied by every proxy in [0-9.]+ m?s\n", flipped)
    assert gateway.cutover("rollback", "number").stdout.startswith("number: 1 -> 2, revision ")
    events = said(gateway, "audit", "number", "--limit", "3")["events"]
    assert [event["verb"] for event in events] == ["rollback", "flip", "prepare-standby"]
    assert events[2]["reason"] == "try it"
    assert "@" in events[2]["actor"]
    assert "every hash follows" in gateway.cutover("audit", "--verify").stdout


def test_a_version_is_loaded_looked_at_and_tried_dry(gateway: Gateway) -> None:
    assert gateway.cutover("warm", "number", "1", "--for", "2m").stdout.startswith(
        "number: version 1 warm, for at least "
    )
    (version,) = said(gateway, "versions", "number", "1")["versions"]
    assert (version["state"], version["inputs"][0]["name"]) == ("READY", "X")
    dry = gateway.cutover("canary", "set", "number", "1", "--percent", "10", "--dry-run").stdout
    assert dry.startswith("number: would be stable 2, canary 1 (10 %)")
    refused = gateway.cutover("load", "number", "9", check=False)
    assert (refused.returncode, "has no version 9" in refused.stderr) == (1, True)


def test_a_change_repeated_with_its_request_id_happens_once(gateway: Gateway) -> None:
    etag = said(gateway, "status", "number")["models"][0]["release"]["etag"]
    change = ("shadow", "set", "number", "1", "--request-id", "only-once", "--etag", etag)
    assert said(gateway, *change)["revision"] == said(gateway, *change)["revision"]
    gateway.cutover("shadow", "remove", "number", "1")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("flip", "number", "--etag", "0-00000000"), "read it again"),
        (("standby", "set", "number", "9"), "has no version 9"),
        (("canary", "remove", "number", "9"), "9"),
        (("status", "nothing"), "no model nothing"),
        (("stats", "nothing"), "there is no model nothing; models: number"),
        (("audit", "nothing"), "there is no model nothing; models: number"),
        (("models", "nothing"), "there is no model nothing; models: number"),
    ],
)
def test_refusals_are_one_line_and_exit_1(gateway: Gateway, arguments: tuple[str, ...], complaint: str) -> None:
    done = gateway.cutover(*arguments, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert complaint in done.stderr


def test_assign_says_what_the_gateway_does(gateway: Gateway) -> None:
    gateway.cutover("canary", "set", "number", "1", "--percent", "50")
    users = [f"user-{number}" for number in range(40)]
    units = [part for user in users for part in ("--unit", user)]
    computed = {one["unit"]: one for one in said(gateway, "assign", "number", *units)["assignments"]}
    with grpc.insecure_channel(gateway.target) as channel:
        stub = GRPCInferenceServiceStub(channel)
        answered = {user: ask(stub, user) for user in users}
    assert {user: (one["cutover-arm"], one["cutover-reason"]) for user, one in answered.items()} == {
        user: (one["arm"], one["reason"]) for user, one in computed.items()
    }
    assert {one["arm"] for one in computed.values()} == {"stable", "canary-1"}
    gateway.cutover("canary", "remove", "number", "1")


def test_watch_shows_a_change_and_ends_with_ctrl_c(gateway: Gateway) -> None:
    command = [str(CUTOVER), "status", "number", "--watch", "--every", "60", "-o", "json"]
    command += ["--admin", f"127.0.0.1:{gateway.admin}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watch:
        assert watch.stdout
        assert watch.stderr
        before = json.loads(watch.stdout.readline())["models"][0]["release"]["revision"]
        changed = said(gateway, "shadow", "set", "number", "1")["revision"]
        assert changed == before + 1
        assert json.loads(watch.stdout.readline())["models"][0]["release"]["revision"] == changed
        watch.send_signal(signal.SIGINT)
        assert (watch.wait(30), watch.stderr.read()) == (130, "")
    gateway.cutover("shadow", "remove", "number", "1")


def test_health_and_metrics(gateway: Gateway) -> None:
    done = subprocess.run([str(CUTOVER), "health", "--http", f"127.0.0.1:{gateway.http}"], check=False)
    assert done.returncode == 0
    text = gateway.metrics()
    assert [row.name for row in METRICS if f"# TYPE {row.name} {row.kind}" not in text] == []
    revision = said(gateway, "status", "number")["models"][0]["release"]["revision"]
    assert gateway.metric("cutover_release_revision", model="number") == revision
