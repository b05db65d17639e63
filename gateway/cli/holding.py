"""Commands that hold a release back: pause, resume, abort, and users whom no release reaches."""

import typer

from gateway.cli.changing import Percent, ask, basis_points
from gateway.cli.command import Change, Model, changes, command

app = typer.Typer()
holdout = typer.Typer(help="Users who stay with one version whatever is released.")
app.add_typer(holdout, name="holdout")


@command(app, "abort", "cutover abort digits --reason 'complaints'")
@changes
def abort(change: Change, model: Model) -> None:
    """Ends all canaries and the standby: stable answers everybody.

    Shadows and the holdout stay.
    """
    ask(change, "AbortRelease", model, "stable answers, all canaries and the standby have ended")


@command(app, "pause", "cutover pause digits --reason 'until Monday'")
@changes
def pause(change: Change, model: Model) -> None:
    """Refuses whatever would give a version that is not stable more requests.

    Lowering, removing, aborting and rolling back stay possible.
    """
    ask(change, "PauseRelease", model, "paused")


@command(app, "resume", "cutover resume digits")
@changes
def resume(change: Change, model: Model) -> None:
    """Ends a pause."""
    ask(change, "ResumeRelease", model, "resumed")


@command(holdout, "set", "cutover holdout set digits --percent 5")
@changes
def set_holdout(change: Change, model: Model, percent: Percent) -> None:
    """Keeps a share of the users at the version that is stable now, whatever is released to the others.

    A holdout that is there keeps its version, and grows or shrinks.
    """
    from gateway.cli import words

    points = basis_points(percent)
    ask(change, "SetHoldout", model, f"{words.percent(points)} are held out", basis_points=points)


@command(holdout, "remove", "cutover holdout remove digits")
@changes
def remove_holdout(change: Change, model: Model) -> None:
    """Lets the users of the holdout go where all others go."""
    ask(change, "RemoveHoldout", model, "nobody is held out")
