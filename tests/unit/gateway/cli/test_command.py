import inspect
from pathlib import Path
from typing import Annotated

import pytest
import typer

from gateway.cli.command import Change, DefaultGroup, Gateway, Keys, Output, asks, changes, command, waits
from tests.unit.gateway.cli.fake import Shell


def test_asks_gives_the_function_a_gateway() -> None:
    seen: list[object] = []

    @asks
    def look(gateway: Gateway, model: str, limit: int = 3) -> None:
        seen.extend((gateway, model, limit))

    keys = ["admin_ca", "admin_cert", "admin_key", "token_file"]
    assert list(inspect.signature(look).parameters) == ["model", "limit", "admin", "timeout", *keys, "output"]
    look(model="m", limit=4, admin="h:1", timeout=2.0, output=Output.JSON, token_file=Path("t"))
    assert seen == [Gateway("h:1", 2.0, Output.JSON, Keys(token=Path("t"))), "m", 4]


def test_changes_give_every_call_a_request_id_of_its_own() -> None:
    seen: list[Change] = []

    @changes
    def act(change: Change) -> None:
        seen.append(change)

    given = {"admin": "h:1", "timeout": 2.0, "output": Output.TABLE, "reason": "", "etag": None, "request_id": None}
    given["dry_run"] = True
    act(**given)
    act(**given)
    assert seen[0].request_id != seen[1].request_id
    assert seen[0].dry_run


def test_waits_has_more_patience() -> None:
    @waits
    def look(gateway: Gateway) -> None: ...

    @asks
    def ask(gateway: Gateway) -> None: ...

    waiting, asking = (inspect.signature(one).parameters["timeout"].default for one in (look, ask))
    assert waiting > asking


def test_a_command_s_own_option_takes_the_place_of_a_shared_one() -> None:
    seen: list[object] = []

    @changes
    def act(change: Change, dry_run: str = "") -> None:
        seen.extend((change.dry_run, dry_run))

    given = {"admin": "h:1", "timeout": 2.0, "output": Output.TABLE, "reason": "", "etag": None, "request_id": None}
    act(**given, dry_run="mine")
    assert seen == [False, "mine"]


@pytest.mark.parametrize(
    ("path", "usage"),
    [
        (("models",), "cutover models [OPTIONS] [MODEL]"),
        (("standby", "set"), "cutover standby set [OPTIONS] MODEL VERSION"),
        (("loadtest",), "cutover loadtest [OPTIONS] MODEL [-- OPTIONS]"),
        (("config", "check"), "cutover config check [OPTIONS] FILE"),
    ],
)
def test_the_usage_line_has_arguments_as_people_write_them(cutover: Shell, path: tuple[str, ...], usage: str) -> None:
    lines = [line.strip() for line in cutover.local(*path, "--help").out.splitlines()]
    assert f"Usage: {usage}" in lines


def test_examples_keep_their_lines(capsys: pytest.CaptureFixture[str]) -> None:
    app = typer.Typer(rich_markup_mode="rich")

    @command(app, "go", "cutover go left", "cutover go right")
    def go(where: Annotated[str, typer.Argument()]) -> None: ...

    app(["--help"], standalone_mode=False)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[lines.index("cutover go left") + 1] == "cutover go right"


def test_a_group_may_be_a_command_too(capsys: pytest.CaptureFixture[str]) -> None:
    app = typer.Typer()
    group = typer.Typer(cls=DefaultGroup)
    app.add_typer(group, name="log")

    @command(group, "show")
    def show(model: Annotated[str, typer.Argument()] = "all", limit: int = 1) -> None:
        typer.echo(f"show {model} {limit}")

    @command(group, "check")
    def check() -> None:
        typer.echo("check")

    @command(app, "other")
    def other() -> None: ...

    for arguments in (["log"], ["log", "iris"], ["log", "--limit", "2"], ["log", "show", "check"], ["log", "check"]):
        app(arguments, standalone_mode=False)
    said = capsys.readouterr().out
    assert said.split("\n")[:5] == ["show all 1", "show iris 1", "show all 2", "show check 1", "check"]
    app(["log", "--help"], standalone_mode=False)
    assert "check" in capsys.readouterr().out
