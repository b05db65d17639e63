"""Processes of the demo: started, asked, ended; failures in one line."""

import json
import stat
import sys
from pathlib import Path

import pytest

from loadtests.demo import gateway
from loadtests.demo.gateway import CommandFailed

FAKE = f"""#!{sys.executable}
import json, os, pathlib, signal, sys, time
arguments = sys.argv[1:]
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
if arguments[0] != "serve":
    print(json.dumps([arguments, os.environ["CUTOVER_ADMIN"]]))
    print("first line", "the reason", sep="\\n", file=sys.stderr)
    sys.exit(int(arguments[1]))
models, state = (pathlib.Path(arguments[arguments.index(flag) + 1]) for flag in ("--models", "--state"))
if not models.exists():
    sys.exit("no models there")
state.mkdir()
(state / "ready.json").write_text(json.dumps({{"grpc": 1, "http": 2, "admin": 3, "pid": os.getpid()}}))
signal.sigwait([signal.SIGTERM])
(state / "stopped").touch()
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a script in the place of the cutover command."""
    script = tmp_path / "cutover"
    script.write_text(FAKE)
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(gateway, "CUTOVER", script)
    return tmp_path


def test_it_serves_and_stops(fake: Path) -> None:
    (fake / "models").mkdir()
    with gateway.serving(fake / "models", fake / "state") as running:
        assert (running.target, running.http, running.admin) == ("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")
        assert json.loads(running.run("say", "0")) == [["say", "0"], "127.0.0.1:3"]
        assert running.read("say", "0")[0] == ["say", "0", "-o", "json"]
        assert running.run("say", "4", accept=(0, 4))
        with pytest.raises(CommandFailed, match="`cutover say 5` ended with 5: the reason"):
            running.run("say", "5")
    assert (fake / "state" / "stopped").exists()


def test_a_gateway_that_does_not_start_is_quoted(fake: Path) -> None:
    with (
        pytest.raises(CommandFailed, match="cutover serve ended with 1: no models there"),
        gateway.serving(fake / "models", fake / "state"),
    ):
        pass


def test_nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "CUTOVER", tmp_path / "cutover")
    with (
        pytest.raises(CommandFailed, match="is not installed: run `make install`"),
        gateway.serving(tmp_path, tmp_path / "state"),
    ):
        pass
