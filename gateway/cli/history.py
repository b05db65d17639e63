"""Commands that look closer: versions one by one, what a release was, and every change as it happens."""

import json
import time
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.command import LARGEST, Gateway, Model, OptionalModel, Output, asks, command
from gateway.cli.failure import Exit, Failure, Lost

if TYPE_CHECKING:
    from protos import admin_pb2 as pb

app = typer.Typer()

AGAIN_S = 1.0
OptionalVersion = Annotated[
    int | None, typer.Argument(metavar="[VERSION]", min=1, max=LARGEST, help="Only this one.", show_default=False)
]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many revisions, the newest.")]
After = Annotated[
    int,
    typer.Option("--after", metavar="SEQUENCE", min=0, max=LARGEST, help="Only what has changed after that one."),
]


@command(app, "versions", "cutover versions digits", "cutover versions digits 2 -o json")
@asks
def versions(gateway: Gateway, model: Model, version: OptionalVersion = None) -> None:
    """Shows the versions of a model closely: inputs, outputs, workers, digests."""
    from gateway.cli import details, tables
    from gateway.cli.plain import to_plain

    with gateway.connect() as admin:
        found = list(admin.versions(model).versions) if version is None else [admin.version(model, version)]
    gateway.show({"versions": [to_plain(one) for one in found]}, lambda: tables.show(details.versions(found)))


@command(app, "revisions", "cutover revisions digits", "cutover revisions digits --limit 5")
@asks
def revisions(gateway: Gateway, model: Model, limit: Limit = 20) -> None:
    """Shows what a release was, newest first. `cutover rollback --to REVISION` brings one back."""
    from gateway.cli import tables
    from gateway.cli.plain import to_plain

    with gateway.connect() as admin:
        found = admin.revisions(model, limit)
    gateway.show({"revisions": [to_plain(one) for one in found]}, lambda: tables.show(tables.revisions(found)))


@command(app, "watch", "cutover watch", "cutover watch digits -o json", "cutover watch --after 17")
@asks
def watch(gateway: Gateway, model: OptionalModel = None, after: After = 0) -> None:
    """Prints a line for every release as it is, then for every change, until interrupted.

    Each has a sequence. Whoever comes back with the last one seen misses nothing; so does this command itself when it
    loses the gateway.
    """
    last, there = after, False
    while True:
        try:
            with gateway.connect() as admin:
                for release in admin.watch(model, last):
                    last, there = max(last, release.sequence), True
                    _print(gateway, release)
            raise Lost("the gateway ended the watch")
        except Failure as failure:
            there = there or isinstance(failure, Lost)
            if failure.code is not Exit.UNREACHABLE or not there:
                raise
            typer.echo(f"cutover: {failure}; trying again", err=True)
            time.sleep(AGAIN_S)


def _print(gateway: Gateway, release: "pb.Release") -> None:
    from gateway.cli import words
    from gateway.cli.plain import to_plain

    if gateway.output is Output.JSON:
        typer.echo(json.dumps(to_plain(release), ensure_ascii=False))
    else:
        what = f"{words.line(release.model)} revision {release.revision} (sequence {release.sequence})"
        typer.echo(f"{datetime.now().astimezone():%H:%M:%S} {what}: {words.release(release)}")
