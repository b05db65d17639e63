"""The story's failures reach the one who started it. Its success is an end-to-end test."""

import signal
from pathlib import Path

import pytest

from loadtests import slo
from loadtests.demo import __main__ as demo
from loadtests.demo import story
from loadtests.demo.gateway import CommandFailed
from loadtests.demo.scene import DemoFailed


def test_its_objective_is_valid(tmp_path: Path) -> None:
    (tmp_path / "slo.toml").write_text(story.SLO)
    assert slo.load(tmp_path / "slo.toml").min_requests == 500


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (DemoFailed("a promise broke"), 1, "failed: a promise broke"),
        (CommandFailed("`cutover flip` ended with 1"), 1, "failed: `cutover flip` ended with 1"),
        (KeyboardInterrupt(), 130, "Interrupted"),
    ],
)
def test_how_it_ends(
    error: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: story.Story) -> None:
        raise error

    monkeypatch.setattr(story.Story, "train", fail)
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert demo.main() == code
    finally:
        signal.signal(signal.SIGTERM, before)
    assert said in capsys.readouterr().out
