"""A release as a file, against a real gateway."""

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from gateway.cli.failure import Exit
from gateway.cli.root import run
from protos import inference_pb2 as inference
from protos.inference_pb2_grpc import GRPCInferenceServiceStub
from tests import models
from tests.serving import Gateway, serving


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Three versions of one model, the first of them stable, the third broken."""
    folder = tmp_path_factory.mktemp("declaring")
    models.save(folder / "models", "number", 1, models.constant(1))
    with serving(folder / "models", folder / "state") as running:
        models.save(folder / "models", "number", 2, models.constant(2))
        broken = folder / "models" / "number" / "3" / "model.onnx"
        broken.parent.mkdir()
        broken.write_bytes(b"no model")
        yield running


class Shell:
    """Commands in this process, which spares starting one for each."""

    def __init__(self, gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
        self._admin = f"127.0.0.1:{gateway.admin}"
        self._capsys = capsys

    def __call__(self, *arguments: str, code: int = Exit.OK) -> str:
        """What it says: on stdout, or where it fails on stderr."""
        self._capsys.readouterr()
        assert run([*arguments, "--admin", self._admin]) == code
        out, err = self._capsys.readouterr()
        return out if code in (Exit.OK, Exit.DIFFERS) else err

    def toml(self) -> str:
        return self("get", "release", "number", "-o", "toml")

    def revision(self) -> int:
        revision: int = json.loads(self("get", "release", "number", "-o", "json"))["revision"]
        return revision


@pytest.fixture
def cutover(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(gateway, capsys)


def answered(gateway: Gateway, *metadata: tuple[str, str]) -> tuple[str, str]:
    """The arm that answers a request with that metadata, and why."""
    tensor = inference.ModelInferRequest.InferInputTensor(name="X", datatype="FP32", shape=[1, 4])
    message = inference.ModelInferRequest(model_name="number", inputs=[tensor], raw_input_contents=[bytes(16)])
    with grpc.insecure_channel(gateway.target) as channel:
        _, call = GRPCInferenceServiceStub(channel).ModelInfer.with_call(message, metadata=metadata, timeout=30)
    said = dict(call.trailing_metadata())
    return said["cutover-arm"], said["cutover-reason"]


def test_a_release_is_got_edited_looked_at_and_applied(gateway: Gateway, cutover: Shell, tmp_path: Path) -> None:
    file = tmp_path / "number.toml"
    file.write_text(cutover.toml())
    assert "nothing to do, revision 1" in cutover("apply", "-f", str(file))
    wanted = file.read_text() + (
        "\n[[canaries]]\nversion = 2\npercent = 12.5\n\n[holdout]\nversion = 1\npercent = 5\n"
        '\n[[rules]]\nkey = "x-team"\nvalues = ["qa"]\narm = "canary-2"\n\n[overrides]\nann = "canary-2"\n'
    )
    file.write_text(wanted.replace("stable = 1\n", 'stable = 1\ntimeout = "20s"\n'))
    assert cutover("apply", "-f", str(file), "--dry-run", code=Exit.DIFFERS).splitlines() == [
        "number:",
        "  + canary 2: 12.5 %",
        "  + holdout of 1: 5 %",
        '  + rule 1: x-team = ["qa"] goes to canary-2',
        "  + timeout: 20000 ms",
        "  + override ann: canary-2",
    ]
    assert "say --yes to apply" in cutover("apply", "-f", str(file), code=Exit.USAGE)
    assert cutover.revision() == 1
    assert "revision 2, applied by every proxy in" in cutover(
        "apply", "-f", str(file), "--yes", "--reason", "second week"
    )
    assert cutover.toml() == file.read_text().replace('"20s"\n', '"20s"\nsalt = "number/2"\n')
    assert answered(gateway, ("x-team", "qa")) == ("canary-2", "rule")
    assert answered(gateway, ("x-user-id", "ann")) == ("canary-2", "override")
    assert "nothing to do, revision 2" in cutover("apply", "-f", str(file), "--dry-run")
    (event,) = json.loads(cutover("audit", "number", "-n", "1", "-o", "json"))["events"]
    assert (event["verb"], event["reason"]) == ("declare", "second week")


def test_what_would_send_requests_to_a_version_that_does_not_load_is_refused(cutover: Shell, tmp_path: Path) -> None:
    before = cutover.revision()
    for line in ("stable = 3\n", "stable = 1\n[[canaries]]\nversion = 3\npercent = 1\n"):
        file = tmp_path / "number.toml"
        file.write_text('model = "number"\n' + line)
        assert "number version 3 cannot be loaded" in cutover("apply", "-f", str(file), "--yes", code=Exit.REFUSED)
    assert cutover.revision() == before


def test_another_stable_version_is_declared_and_rolled_back(cutover: Shell, tmp_path: Path) -> None:
    before = cutover.toml()
    file = tmp_path / "number.toml"
    file.write_text('model = "number"\nstable = 2\n')
    assert "~ stable: 1 -> 2" in cutover("apply", "-f", str(file), "--yes")
    assert cutover.toml() == file.read_text()
    cutover("rollback", "number")
    assert cutover.toml() == before
