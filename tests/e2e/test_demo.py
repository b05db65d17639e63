"""The demo runs to its end, and leaves nothing behind when it is interrupted."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "loadtests.demo"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_whole_story(tmp_path: Path) -> None:
    done = subprocess.run(
        COMMAND, capture_output=True, text=True, timeout=280, check=False, env=os.environ | {"TMPDIR": str(tmp_path)}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"^ ?(\d+)\. ", done.stdout, re.MULTILINE) == [str(number) for number in range(1, 14)]
    for expected in (
        "$ cutover flip digits", "$ cutover rollback digits", "none failed", "verdict: pass", "answered by version 2",
    ):  # fmt: skip
        assert expected in done.stdout
    kept = re.search(r"load report is (\S+)", done.stdout)
    assert kept
    assert Path(kept[1]).read_text().startswith("<!doctype html>")
    assert list(tmp_path.iterdir()) == [Path(kept[1]).parent]


@pytest.mark.slow
def test_an_interrupted_demo_leaves_nothing(tmp_path: Path) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "cutover status" in line:  # the gateway serves
                break
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted" in said
    assert list(tmp_path.iterdir()) == []
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(tmp_path) in _read(path)]


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:  # the process has ended
        return ""
