import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loadtests.bench.errors import BenchError
from loadtests.compare import venvs


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What was run instead of venv and pip; they make the interpreter."""
    ran: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        if "venv" in command:
            python = Path(command[-1]) / "bin" / "python"
            python.parent.mkdir(parents=True, exist_ok=True)
            python.touch()
        return subprocess.CompletedProcess(command, 1 if "broken" in command else 0)

    monkeypatch.setattr("loadtests.compare.venvs.subprocess.run", run)
    return ran


def test_installed_once(commands: list[list[str]], tmp_path: Path) -> None:
    made = venvs.environment("peer", ["one", "two"], tmp_path)
    assert made == tmp_path / "peer"
    assert commands[0] == [sys.executable, "-m", "venv", "--clear", str(made)]
    assert commands[1] == [str(made / "bin" / "pip"), "install", "--disable-pip-version-check", "one", "two"]
    assert venvs.environment("peer", ["one", "two"], tmp_path) == made
    assert len(commands) == 2
    venvs.environment("peer", ["one"], tmp_path)  # other packages: anew
    assert len(commands) == 4


def test_another_interpreter_gets_its_own(
    commands: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    venvs.environment("peer", ["one"], tmp_path)
    monkeypatch.setattr(sys, "base_prefix", "/opt/another")
    venvs.environment("peer", ["one"], tmp_path)
    assert len(commands) == 4
    venvs.environment("peer", ["one"], tmp_path)
    assert len(commands) == 4


def test_what_failed_is_tried_again(commands: list[list[str]], tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(BenchError, match=r"peer could not be installed: .*pip install .* ended with 1"):
            venvs.environment("peer", ["broken"], tmp_path)
    assert len(commands) == 4


def test_a_command_that_cannot_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(BenchError, match=r"could not be installed: .*No such file"):
        venvs.environment("peer", [], tmp_path)


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"CUTOVER_PEERS": "/srv/peers", "XDG_CACHE_HOME": "/cache"}, "/srv/peers"),
        ({"XDG_CACHE_HOME": "/cache"}, "/cache/cutover-peers"),
        ({"HOME": "/home/a"}, "/home/a/.cache/cutover-peers"),
    ],
)
def test_where_they_are_kept(environment: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUTOVER_PEERS", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert str(venvs.folder()) == folder


def test_a_version_is_asked_of_the_environment(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    assert venvs.version(tmp_path, "cutover-none") == ""
