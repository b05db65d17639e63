"""Commands that copy the store of a running gateway, and put a copy in its place."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.command import Gateway, asks, command
from gateway.cli.failure import Exit, Failure

if TYPE_CHECKING:
    from gateway.controlplane.restoring import Place, Restored, Word

app = typer.Typer()

To = Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it.", show_default=False)]
From = Annotated[Path | None, typer.Argument(metavar="[FILE]", help="What backup has written.", show_default=False)]
Accept = Annotated[bool, typer.Option("--accept", help="Take the store that is there, although it is older.")]
State = Annotated[
    Path | None, typer.Option("--state", metavar="DIR", help="The state directory of the gateway.", show_default=False)
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="The gateway's settings.", show_default=False)
]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the audit log.")]


@command(app, "backup", "cutover backup cutover-2026-11-29.jsonl", "cutover backup nightly.jsonl -o json")
@asks
def backup(gateway: Gateway, file: To) -> None:
    """Copies releases, their history, the audit log and tokens into a file.

    The copy is of one moment; changes go on meanwhile. It is checked before it
    takes the place of FILE. It holds what the store holds: keep it as safe.
    """
    beside = file.with_name(f".{file.name}.new")
    try:
        with gateway.connect() as admin, beside.open("wb") as copy:
            beside.chmod(0o600)
            for piece in admin.backup():
                copy.write(piece)
            copy.flush()
            os.fsync(copy.fileno())
        lines = _checked(beside)
        beside.replace(file)
    except OSError as error:
        raise Failure(Exit.REFUSED, f"{file} cannot be written: {error.strerror}") from None
    finally:
        beside.unlink(missing_ok=True)
    size = file.stat().st_size
    gateway.show(
        {"file": str(file), "lines": lines, "bytes": size},
        lambda: typer.echo(f"{file}: {lines} lines, {size} bytes"),
    )


def _checked(file: Path) -> int:
    """How many records there are. Raises Failure when the gateway has not sent all of them."""
    from gateway.controlplane.store import backup as backups
    from gateway.errors import RequestError

    try:
        with file.open("rb") as lines:
            return sum(1 for _ in backups.read(lines))
    except RequestError as error:
        raise Failure(Exit.UNREACHABLE, str(error)) from None


@command(
    app,
    "restore",
    "cutover restore nightly.jsonl --state state",
    "cutover restore nightly.jsonl --config cutover.toml",
    "cutover restore --accept --state state --reason 'disk died'",
)
def restore(
    file: From = None, accept: Accept = False, state: State = None, config: ConfigFile = None, reason: Reason = ""
) -> None:
    """Puts a backup in the place of the store, while the gateway is stopped.

    A store that is there is kept beside the new one; a database must be empty.
    --accept instead takes the store that is there although it is older than
    what was served, such as a database that was restored by other means.
    Releases of which newer ones were served become new changes.
    """
    if (file is None) != accept:
        raise Failure(Exit.USAGE, "give either a FILE or --accept")
    from gateway.cli.admin import actor
    from gateway.controlplane.restoring import Word, described
    from gateway.errors import RequestError

    try:
        restored = _restored(_place(state, config), file, Word(actor(), reason))
    except RequestError as error:
        raise Failure(Exit.REFUSED, str(error)) from None
    for line in described(restored):
        typer.echo(line)


def _place(state: Path | None, config: Path | None) -> "Place":
    from gateway.config import load
    from gateway.controlplane.restoring import Place

    found = load(config, {"server.state": state} if state is not None else {})
    return Place(found.server.state, found.store.url, found.store.password_file)


def _restored(place: "Place", file: Path | None, word: "Word") -> "Restored":
    import asyncio

    from gateway.controlplane import restoring

    if file is None:
        return asyncio.run(restoring.accept(place, word))
    try:
        lines = file.open("rb")
    except OSError as error:
        raise Failure(Exit.USAGE, f"{file} cannot be read: {error.strerror}") from None
    with lines:
        return asyncio.run(restoring.restore(place, lines, word))
