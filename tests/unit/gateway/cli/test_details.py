from rich.console import Console

from gateway.cli import details
from protos import admin_pb2 as pb
from tests.unit.gateway.cli.fake import version


def shown(*found: pb.Version) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(details.versions(found))
    return captured.get()


def test_everything_known_of_a_version_is_shown() -> None:
    found = version(
        "digits", 2, [], batched=True, restarts=1, inputs=[pb.Tensor(name="X", datatype="FP32", shape=[-1])]
    )
    found.outputs.add(name="label", datatype="INT64", shape=[-1, 10])
    lines = [line.split() for line in shown(found).splitlines() if line.strip()]
    assert lines == [
        ["digits", "version", "2", "ready", "2/2,", "1", "restart", "not", "released"],
        ["input", "X", "FP32", "[any]"],
        ["output", "label", "INT64", "[any,", "10]"],
        ["batched", "yes"],
        ["digest", "f" * 64],
    ]


def test_what_is_wrong_with_a_version_is_text() -> None:
    out = shown(version("digits", 2, [], state=pb.Version.FAILED, error="not [ONNX]\nat all"))
    assert "not [ONNX] at all" in out


def test_no_version() -> None:
    assert "no version found" in shown()
