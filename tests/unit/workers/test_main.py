"""Tests of `workers.__main__`: the command line. Whole processes are in tests/integration/test_worker.py."""

import os
from pathlib import Path

import pytest

from workers import __main__ as module

GIVEN = ["--model", "m/model.onnx", "--socket", "s", "--status-fd", "7"]


def test_the_supervisors_command_line_is_understood() -> None:
    options = module._parse(GIVEN)
    assert (options.model, options.socket, options.status_fd) == (Path("m/model.onnx"), Path("s"), 7)
    assert (options.threads, options.max_batch_size, options.batching, options.idle) == (1, 64, "auto", False)
    assert options.max_memory is None
    assert module._parse([*GIVEN, "--max-memory", "67108864"]).max_memory == 64 << 20


@pytest.mark.parametrize(
    "wrong",
    [
        ["--threads", "0"],
        ["--max-batch-size", "-1"],
        ["--batching", "on"],
        ["--status-fd", "x"],
        ["--max-memory", "0"],
        ["--unknown"],
    ],
)
def test_wrong_arguments_are_usage_errors(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        module._parse(["--model", "m", "--socket", "s", "--status-fd", "7", *wrong])
    assert caught.value.code == module.USAGE
    assert "error:" in capsys.readouterr().err


def test_nothing_is_sent_to_the_makers_of_onnxruntime() -> None:
    assert module.ENVIRONMENT["ORT_DISABLE_TELEMETRY"] == "1"


def test_idle_priority_that_is_not_permitted_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    monkeypatch.setattr(os, "setpriority", refuse)
    module._yield_to_production()
