"""Commands that look: models, status, statistics, assign."""

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.command import Gateway, Model, OptionalModel, asks, command
from gateway.cli.failure import Exit, Failure

if TYPE_CHECKING:
    from gateway.cli.admin import Admin
    from gateway.cli.overview import Overview

app = typer.Typer()

Units = Annotated[
    list[str], typer.Option("--unit", metavar="UNIT", help="User id, tenant...; may be repeated.", show_default=False)
]
Watching = Annotated[bool, typer.Option("--watch", "-w", help="Stay and show every change.")]
Every = Annotated[
    float, typer.Option("--every", metavar="SECONDS", min=0.1, help="With --watch: how often to read statistics.")
]
Pairs = Annotated[
    list[str],
    typer.Option("--metadata", metavar="KEY=VALUE", help="Metadata of the request, for rules; may be repeated."),
]


@command(app, "models", "cutover models", "cutover models digits", "cutover models -o json")
@asks
def models(gateway: Gateway, model: OptionalModel = None) -> None:
    """Lists the versions found, what they are used for, and what is wrong."""
    from gateway.cli import tables
    from gateway.cli.plain import to_plain

    with gateway.connect() as admin:
        response = admin.versions(model)
    gateway.show(to_plain(response), lambda: tables.show(tables.versions(response)))


@command(app, "status", "cutover status", "cutover status digits --watch", "cutover status digits -o json")
@asks
def status(gateway: Gateway, model: OptionalModel = None, watch: Watching = False, every: Every = 2.0) -> None:
    """Shows who answers whom, and how well."""
    if watch:
        from gateway.cli.watching import watch_status

        watch_status(gateway, model, every)
        return
    from gateway.cli import tables

    with gateway.connect() as admin:
        found = look(admin, model)
    gateway.show(plain_status(found), lambda: tables.show(tables.status(found, tables.utc_now())))


@command(app, "stats", "cutover stats", "cutover stats digits -o json")
@asks
def stats(gateway: Gateway, model: OptionalModel = None) -> None:
    """Shows what every version did under every arm since the gateway started."""
    from gateway.cli import tables
    from gateway.cli.plain import to_plain

    with gateway.connect() as admin:
        found = admin.statistics(model)
    gateway.show(to_plain(found), lambda: tables.show(tables.statistics(found)))


@command(app, "assign", "cutover assign digits --unit user-1", "cutover assign digits --unit alice --unit bob -o json")
@asks
def assign(gateway: Gateway, model: Model, unit: Units, metadata: Pairs = []) -> None:  # noqa: B006 - typer copies it
    """Computes which arm answers a unit, and why.

    Nothing is asked of the gateway but the release, so anyone can check it.

    bucket = MurmurHash3 x86_32 of "salt:unit" * 10000 >> 32; an arm owns ranges of buckets. An override comes first,
    then rules for metadata, then the holdout, whose salt is its own.
    """
    from gateway.cli import tables, words
    from gateway.cli.assignment import assign as compute

    if "" in unit:
        raise Failure(Exit.USAGE, "--unit is empty: requests with an empty unit are spread as if they had none")
    given = dict(_pair(text) for text in metadata)
    with gateway.connect() as admin:
        release = admin.release(model)
        overrides = admin.overrides(model, unit) if release.policy.override_count else {}
    policy = words.to_policy(release.policy, overrides)
    held = policy.holdout
    found = [compute(policy, one, given) for one in unit]
    plain = {
        "model": model,
        "revision": release.revision,
        "salt": policy.salt,
        **({"holdout_salt": held.salt} if held else {}),
        "assignments": [dataclasses.asdict(one) for one in found],
    }
    gateway.show(plain, lambda: tables.show(tables.assignments(found, policy.salt, held.salt if held else "")))


def _pair(text: str) -> tuple[str, str]:
    """Key and value of `--metadata`; keys are in lower case on the wire, as in gRPC."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise Failure(Exit.USAGE, f"--metadata is KEY=VALUE, not {text!r}")
    return key.lower(), value


def look(admin: "Admin", model: str | None) -> "list[Overview]":
    """One model or all of them, as they stand now."""
    from gateway.cli.overview import overviews

    return overviews(admin.releases(model), admin.versions(model).versions, admin.statistics(model).statistics)


def plain_status(found: "list[Overview]") -> dict[str, object]:
    """The JSON document of `cutover status`."""
    return {"models": [overview.plain() for overview in found]}
