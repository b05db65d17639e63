from pathlib import Path

import pytest

from loadtests.bench import h2load
from loadtests.bench.errors import BenchError
from loadtests.overload import cli
from loadtests.overload.flood import Plan
from tests.unit.loadtests.overload.samples import course


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Plan]:
    """What was asked of the bench."""
    asked: list[Plan] = []

    def run(folder: Path, plan: Plan) -> object:
        asked.append(plan)
        return course()

    monkeypatch.setattr(cli, "run", run)
    monkeypatch.setattr(cli, "FIGURE", tmp_path / "default.svg")
    monkeypatch.setattr(h2load, "require_h2load", lambda: "h2load")
    return asked


def test_a_table_the_aims_and_a_figure(plans: list[Plan], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--max-queue-wait", "20ms", "--slo", "60ms"]) == 0
    assert plans == [Plan(6.0, "20ms", 0.06)]
    assert (tmp_path / "default.svg").read_text().startswith("<svg")
    out = capsys.readouterr().out
    assert "| 10 × | 5,000 |" in out
    assert "| goodput at 10 ×, by the capacity | ≥ × 0.9 |" in out


def test_a_quick_run_draws_only_where_it_is_told(plans: list[Plan], tmp_path: Path) -> None:
    assert cli.main(["--quick"]) == 0
    assert plans[0].step_s == 1.0
    assert list(tmp_path.iterdir()) == []
    assert cli.main(["--quick", "--figure", str(tmp_path / "o.svg")]) == 0
    assert (tmp_path / "o.svg").exists()


def test_what_goes_wrong_is_one_line(
    plans: list[Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["--figure", str(tmp_path / "none" / "o.svg")]) == 1
    for error, code, said in ((BenchError("no luck"), 1, "no luck"), (KeyboardInterrupt(), 130, "interrupted")):

        def run(folder: Path, plan: Plan, error: BaseException = error) -> object:
            raise error

        monkeypatch.setattr(cli, "run", run)
        assert cli.main([]) == code
        assert f"overload: {said}\n" in capsys.readouterr().err


def test_a_wait_without_its_unit_is_refused() -> None:
    with pytest.raises(SystemExit):
        cli.main(["--max-queue-wait", "50"])
