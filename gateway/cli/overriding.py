"""Commands about the override list of a release."""

from typing import Annotated

import typer

from gateway.cli.changing import ask
from gateway.cli.command import Change, Gateway, Model, asks, changes, command

app = typer.Typer()
override = typer.Typer(help="Users who go to one arm whatever their bucket.")
app.add_typer(override, name="override")

Units = Annotated[
    list[str], typer.Option("--unit", metavar="UNIT", help="User id, tenant...; may be repeated.", show_default=False)
]
Arm = Annotated[
    str, typer.Option("--arm", metavar="ARM", help="stable, standby or canary-VERSION.", show_default=False)
]


@command(
    override,
    "set",
    "cutover override set digits --unit ann --arm stable",
    "cutover override set digits --unit qa-1 --unit qa-2 --arm canary-2",
)
@changes
def set_override(change: Change, model: Model, unit: Units, arm: Arm) -> None:
    """Sends units to an arm whatever their bucket, until that arm ends."""
    from gateway.cli import words

    entries = dict.fromkeys(unit, arm)
    said = f"{words.counted(len(entries), 'unit')} overridden to {words.line(arm)}"
    ask(change, "SetOverrides", model, said, overrides=entries)


@command(override, "remove", "cutover override remove digits --unit ann")
@changes
def remove_override(change: Change, model: Model, unit: Units) -> None:
    """Lets units go where their bucket goes again."""
    from gateway.cli import words

    units = list(dict.fromkeys(unit))
    said = f"{words.counted(len(units), 'unit')} no longer overridden"
    ask(change, "SetOverrides", model, said, remove=units)


@command(override, "list", "cutover override list digits", "cutover override list digits -o json")
@asks
def list_overrides(gateway: Gateway, model: Model) -> None:
    """Shows which units are overridden, and to which arm."""
    from gateway.cli import tables

    with gateway.connect() as admin:
        found = admin.overrides(model)
    gateway.show({"model": model, "overrides": found}, lambda: tables.show(tables.overrides(found)))
