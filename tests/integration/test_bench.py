"""The bench's clients get right answers from both echo servers, and notice wrong ones."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.comparison import Side
from tests.bench.drive import drive
from tests.bench.echo import BIDI, COUNT, MANY, UNARY
from tests.bench.load import BenchError
from tests.bench.raw_client import Headers, render_bidi, render_many, render_unary
from tests.bench.servers import GRPC_AIO, TRANSPORT, Echo, echo_server
from tests.bench.shapes import Workload, grpcio_shape, in_turns
from tests.bench.transport import checked_out

MESSAGE = COUNT.pack(300) + bytes(range(100))


@pytest.fixture(scope="module", params=[TRANSPORT, GRPC_AIO])
def echo(request: pytest.FixtureRequest) -> Iterator[Echo]:
    arguments = ["0"] if request.param == TRANSPORT else []
    with echo_server("echo", request.param, *arguments) as running:
        yield running


@pytest.mark.parametrize("kind", Headers)
def test_unary_calls_with_changing_headers(echo: Echo, kind: Headers) -> None:
    scripts = [render_unary(UNARY, kind, MESSAGE, 200, seed) for seed in range(2)]
    assert drive(echo.port, scripts, 150, 16).items == 300


def test_more_connections_than_calls_in_flight(echo: Echo) -> None:
    script = render_unary(UNARY, Headers.INDEXED, MESSAGE, 20)
    assert drive(echo.port, [script] * 12, 20, 5).items == 240


def test_streams(echo: Echo) -> None:
    assert drive(echo.port, [render_bidi(BIDI, MESSAGE, 2000)] * 2, 2000, 32).items == 4000
    assert drive(echo.port, [render_many(MANY, MESSAGE, 300)] * 2, 1, 2).items == 2


def test_an_error_is_not_an_answer(echo: Echo) -> None:
    script = render_unary(MANY, Headers.SAME, b"", 1)  # no count in it
    with pytest.raises(BenchError, match=r"grpc-status (2|13)"):
        drive(echo.port, [script], 1, 1)


def test_an_answer_of_another_size_is_none(echo: Echo) -> None:
    script = render_unary(MANY, Headers.SAME, MESSAGE, 1)
    with pytest.raises(BenchError, match="data bytes instead of 109"):
        drive(echo.port, [script], 1, 1)


@pytest.mark.parametrize("method", ["unary", "bidi", "many"])
def test_grpcio_clients(echo: Echo, method: str, tmp_path: Path) -> None:
    side = Side("echo", echo, None, 1.0, "")
    measured = grpcio_shape(Workload(tmp_path), method, "call", 8, 40).measure(side, 80)
    assert measured.value > 0


def test_shapes_measure_what_they_say(echo: Echo, tmp_path: Path) -> None:
    measured = in_turns(Workload(tmp_path)).measure(Side("echo", echo, None, 1.0, ""), 512)
    assert measured.value > 0


def test_a_server_that_does_not_start_is_told() -> None:
    with pytest.raises(BenchError, match="did not print its port"), echo_server("none", "tests.bench.load"):
        pass


def test_a_wrong_shape_is_told_in_one_line() -> None:
    command = [sys.executable, "-m", "tests.bench.transport", "--only", "nothing"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(("bench: no shape's name contains 'nothing'", "bench: h2load"))


def test_a_revision_is_checked_out_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    monkeypatch.setattr("tests.bench.transport.ROOT", tmp_path)
    git("init", "--quiet")
    for text in ("old", "new"):
        (tmp_path / "file").write_text(text)
        git("add", "file")
        git("commit", "--quiet", "--message", text)
    with checked_out("HEAD~1") as (name, root):
        assert name == git("rev-parse", "--short", "HEAD~1").strip()
        assert (root / "file").read_text() == "old"
    assert not root.exists()
    assert len(git("worktree", "list").splitlines()) == 1
    with pytest.raises(BenchError, match="no revision nothing"), checked_out("nothing"):
        pass


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("h2load") is None, reason="h2load is not installed")
def test_isolation_measures_both_kinds_of_load() -> None:
    command = [sys.executable, "-m", "tests.bench.isolation", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "| paced at 2,000 requests/s | p99 ms |" in done.stdout
    assert "| 4 × 16 in flight | requests/s |" in done.stdout
    *_, copies = done.stdout.splitlines()
    *_, incomparable, failed, _ = copies.strip("| ").split(" | ")
    assert (incomparable, failed) == ("0", "0")
