"""The command line: everything wrong is said in one line before any load is made."""

from pathlib import Path

import pytest

from loadtests import cli
from tests.unit.loadtests.target import Serve


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "the following arguments are required: model, --version"),
        (("digits", "--version", "1", "--rate", "x"), "argument --rate: 'x' is not a rate"),
        (("digits", "--version", "1", "--duration", "30"), "argument --duration: '30' is not a duration"),
        (("digits", "--version", "1", "--suite", "soak"), "invalid choice: 'soak'"),
        (("digits", "--version", "1", "--colour"), "unrecognized arguments: --colour"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    said = capsys.readouterr().err
    assert caught.value.code == 2
    assert said.startswith("cutover loadtest: ")
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--duration", "0s"), 2, "nothing would be measured"),
        (("--slo", "/nowhere/slo.toml"), 2, "cannot read the SLO file /nowhere/slo.toml"),
        (("--report", "/dev/null/x"), 2, "cannot write the report to /dev/null/x"),
        (("--target", "127.0.0.1:1"), 3, "nothing at 127.0.0.1:1 speaks gRPC"),
    ],
)
def test_what_cannot_be_run(
    arguments: tuple[str, ...], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(("digits", "--version", "1", *arguments)) == code
    said = capsys.readouterr().err
    assert said.startswith("cutover loadtest: ")
    assert message in said
    assert said.count("\n") == 1


def test_a_wrong_aim_and_wrong_rows(serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = serve()
    assert cli.main(("digits", "--version", "5", "--target", target)) == 2
    assert "answers under no arm" in capsys.readouterr().err
    assert cli.main(("digits", "--version", "1", "--target", target, "--rows", str(tmp_path / "no.npz"))) == 2
    assert "cannot read the rows" in capsys.readouterr().err


def test_help_names_defaults_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert caught.value.code == 0
    assert "(default: 100)" in said
    assert "(default: 2s)" in said
    assert "python -m loadtests fraud --version 2" in said
