import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.openloop import cli
from tests.unit.loadtests.target import Serve


def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "loadtests.openloop", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def payload(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("openloop") / "payload"
    path.write_bytes(b"\0\0\0\0\0")
    return str(path)


def test_a_run_as_json_and_as_text(serve: Serve) -> None:
    target = serve("--fail-every", "5")
    shown = ask(
        target, "--model", "digits", "--stage", "200:0.2s", "--stage", "100/s:0.2s", "--metadata", "x-user-id=a"
    )
    assert shown.returncode == 0, shown.stderr
    assert "200/s: " in shown.stdout
    assert "RESOURCE_EXHAUSTED" in shown.stdout
    told = ask(target, "--model", "digits", "--rate", "100", "--duration", "0.3s", "--warmup", "0.1s", "-o", "json",
               "--metadata", "x-user-id=a", "--arrivals", "constant")  # fmt: skip
    found = json.loads(told.stdout)
    assert found["schema"] == "cutover-openloop/1"
    assert [(stage["name"], stage["intended"]) for stage in found["stages"]] == [("warm-up", 10), ("100/s", 30)]


def test_nobody_there(payload: str, unused_tcp_port: int) -> None:
    found = ask(f"127.0.0.1:{unused_tcp_port}", "--payload", payload)
    assert found.returncode == 3
    assert found.stderr.startswith("openloop: nothing at")
    assert found.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["127.0.0.1:1"], "one of the arguments --model --payload is required"),
        (["example.org:80", "--payload", "PAYLOAD"], "'example.org' is not this machine"),
        (["10.0.0.1:80", "--payload", "PAYLOAD"], "'10.0.0.1' is not this machine"),
        (["127.0.0.1", "--payload", "PAYLOAD"], "is not host:port or unix:path"),
        (["127.0.0.1:1", "--payload", "PAYLOAD", "--stage", "5"], "is not RATE:DURATION"),
        (["127.0.0.1:1", "--payload", "PAYLOAD", "--metadata", "grpc-timeout=1S"], "is not KEY=VALUE"),
    ],
)
def test_wrong_usage(arguments: list[str], said: str, payload: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([payload if each == "PAYLOAD" else each for each in arguments])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_wrong_values(payload: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["127.0.0.1:1", "--payload", payload, "--duration", "0s"]) == 2
    assert cli.main(["127.0.0.1:1", "--payload", str(tmp_path / "none")]) == 2
    assert "longer than 0s" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["127.0.0.1:8001", "localhost:1", "[::1]:65535", "unix:/tmp/x"])
def test_targets_of_this_machine(text: str) -> None:
    assert cli.target(text) == text


@pytest.mark.parametrize("text", ["127.0.0.1:0", "::2:80", ":80", "127.0.0.1:x"])
def test_what_is_no_target(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        cli.target(text)
