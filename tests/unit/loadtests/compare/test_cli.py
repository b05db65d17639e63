from typing import Any

import pytest

from loadtests.bench import h2load
from loadtests.bench.errors import BenchError
from loadtests.compare import cli
from loadtests.compare.session import Session
from tests.unit.loadtests.compare.samples import row


@pytest.fixture
def h2load_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(h2load, "require_h2load", lambda: "h2load")


@pytest.mark.usefixtures("h2load_is_there")
@pytest.mark.parametrize(("problems", "code"), [({}, 0), ({"kserve": "no luck"}, 1)])
def test_what_was_found_is_printed(
    problems: dict[str, str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(self: Session, names: Any) -> None:
        assert list(names) == ["triton"]
        self.results.rows["triton"] = row("triton", 5_000)
        self.results.problems |= problems

    monkeypatch.setattr(Session, "run", run)
    assert cli.main(["triton", "--quick"]) == code
    out = capsys.readouterr().out
    assert "| triton | 1.0 | 5,000 | 1.00 |" in out
    assert "quick: the numbers mean nothing" in out
    assert "not measured" in out


@pytest.mark.usefixtures("h2load_is_there")
@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (BenchError("no luck"), 1)])
def test_what_was_found_before_it_broke_is_printed(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(self: Session, names: Any) -> None:
        self.results.rows["triton"] = row("triton", 5_000)
        raise error

    monkeypatch.setattr(Session, "run", run)
    assert cli.main([]) == code
    assert "| triton | 1.0 | 5,000 | 1.00 |" in capsys.readouterr().out


def test_an_unknown_peer(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["envoy"])
    assert ended.value.code == 2
    assert "no peer 'envoy': there are triton, cutover, kserve, mlserver, nginx, resnet" in capsys.readouterr().err


def test_without_h2load(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert cli.main([]) == 1
    assert "h2load is missing" in capsys.readouterr().err
