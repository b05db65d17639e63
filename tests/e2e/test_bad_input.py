"""What a person gets for a mistake: one line naming the thing and the remedy, exit code not 0, and nothing changed."""

import json
import socket
import subprocess
from pathlib import Path

import pytest

from tests import models
from tests.e2e.calls import ask
from tests.e2e.waiting import eventually
from tests.serving import CUTOVER, serving


def serve(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """`cutover serve` that is expected to refuse."""
    command = [str(CUTOVER), "serve", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """One line on stderr with these words, exit code 2, no traceback."""
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in lines[0]


PORTS = ("--grpc-port", "0", "--http-port", "0", "--admin-port", "0")


def test_a_repository_that_is_missing_or_a_file(tmp_path: Path, state_dir: Path) -> None:
    refused(serve("--models", tmp_path / "nowhere", "--state", state_dir, *PORTS), "nowhere")
    file = tmp_path / "file"
    file.touch()
    refused(serve("--models", file, "--state", state_dir, *PORTS), str(file), "director")


@pytest.mark.parametrize("option", ["--grpc-port", "--http-port", "--admin-port"])
def test_a_taken_port(models_dir: Path, state_dir: Path, option: str) -> None:
    models.save(models_dir, "number", 1, models.constant(1))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ports = [word for pair in zip(PORTS[::2], PORTS[1::2], strict=True) if pair[0] != option for word in pair]
        refused(serve("--models", models_dir, "--state", state_dir, *ports, option, port), port, option)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[server]\ncolour = 1\n", ("server.colour",)),
        ('[limits]\nworker_wait = "10 bananas"\n', ("limits.worker_wait", "ms")),
        ("[limits]\nworker_wait = 10\n", ("limits.worker_wait", "ms")),
        ("[server\n", ("config.toml",)),
    ],
)
def test_a_config_that_is_wrong(
    tmp_path: Path, models_dir: Path, state_dir: Path, text: str, words: tuple[str]
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(text)
    refused(serve("--models", models_dir, "--state", state_dir, "--config", config, *PORTS), *words)


def test_a_state_directory_that_cannot_be_written(models_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    refused(serve("--models", models_dir, "--state", file / "state", *PORTS), str(file))


@pytest.mark.usefixtures("each_transport")
@pytest.mark.slow_on("grpcio")
def test_bad_models_are_reported_and_good_ones_served(models_dir: Path, state_dir: Path) -> None:
    models.save(models_dir, "good", 1, models.constant(1))
    models.save(models_dir, "empty", 1, b"")
    models.save(models_dir, "truncated", 1, models.classifier()[:100])
    models.save(models_dir, "text", 1, b"this is not a model\n")
    models.save(models_dir, "zipmap", 1, models.zipmap())
    (models_dir / "nothing" / "1").mkdir(parents=True)
    (models_dir / "good" / "newest").mkdir()
    with serving(models_dir, state_dir) as gateway:
        assert ask(gateway.target, "good")[0] == 1
        shown = json.dumps(json.loads(gateway.cutover("models", "-o", "json").stdout))
        for name in ("empty", "truncated", "text", "zipmap", "nothing", "newest"):
            assert name in shown
        for name in ("truncated", "text", "zipmap"):
            with pytest.raises(Exception, match="UNAVAILABLE") as caught:
                ask(gateway.target, name)
            assert name in str(caught.value)
        assert "zipmap': False" in shown or 'zipmap\\": False' in shown or "zipmap" in shown


def test_refused_commands_change_nothing(models_dir: Path, state_dir: Path) -> None:
    for version in (1, 2, 3):
        models.save(models_dir, "number", version, models.constant(version))
    models.save(models_dir, "broken", 1, models.constant(1))
    with serving(models_dir, state_dir) as gateway:
        models.save(models_dir, "broken", 2, b"this is not a model\n")
        eventually(lambda: "broken" in gateway.cutover("models").stdout)
        gateway.cutover("canary", "set", "number", "1", "--percent", "60", "--reason", "test")
        before = gateway.cutover("status", "number", "-o", "json").stdout
        for command, words in (
            (("canary", "set", "number", "2", "--percent", "50"), "110 %"),
            (("canary", "set", "number", "9", "--percent", "5"), "9"),
            (("canary", "set", "number", "3", "--percent", "5"), "stable"),
            (("canary", "remove", "number", "2"), "2"),
            (("standby", "set", "number", "9"), "9"),
            (("standby", "set", "broken", "2"), "broken"),
            (("flip", "number"), "standby"),
            (("rollback", "number"), "roll"),
            (("shadow", "set", "number", "1", "--rate", "1.5"), "rate"),
            (("flip", "number", "--etag", '"0-00000000"'), "read it again"),
            (("status", "nobody"), "nobody"),
        ):
            done = gateway.cutover(*command, check=False)
            assert done.returncode in (1, 2), done
            assert "Traceback" not in done.stderr
            assert words in done.stderr
        after = gateway.cutover("status", "number", "-o", "json").stdout
        assert _etag(after) == _etag(before)


def _etag(status: str) -> str:
    found: list[str] = []

    def look(value: object) -> None:
        if isinstance(value, dict):
            found.extend(str(item) for key, item in value.items() if key == "etag")
            for item in value.values():
                look(item)
        elif isinstance(value, list):
            for item in value:
                look(item)

    look(json.loads(status))
    assert found
    return found[0]
