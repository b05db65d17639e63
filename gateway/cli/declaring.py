"""Commands about whole releases: as a file that says what a release is to be, and as what there is."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.command import Change, Gateway, Model, Notation, changes, command, writes
from gateway.cli.failure import Exit, Failure

if TYPE_CHECKING:
    from gateway.cli.admin import Admin
    from gateway.controlplane.commands import Declared
    from protos import admin_pb2 as pb

app = typer.Typer()
get = typer.Typer(help="What there is, in a notation of your choice.")
app.add_typer(get, name="get")

STDIN = Path("-")
LARGEST_BYTES = 1 << 20
"""Of one request to the admin API."""
TRIES = 5
"""To read a release and its overrides of the same moment."""
File = Annotated[
    Path, typer.Option("--file", "-f", metavar="FILE", help="A release as TOML; -: from stdin.", show_default=False)
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only show the difference: exit code 5 if there is one, 0 if not.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before changing.")]


@command(get, "release", "cutover get release digits -o toml > digits.toml", "cutover get release digits -o json")
@writes
def get_release(gateway: Gateway, model: Model) -> None:
    """Shows the whole release of a model; `-o toml` is what `cutover apply` takes."""
    from gateway.cli import words
    from gateway.cli.plain import to_plain
    from gateway.controlplane import releasefile
    from gateway.controlplane.declared import described

    with gateway.connect() as admin:
        release, now = _read(admin, model)
    if gateway.output is Notation.TOML:
        typer.echo(releasefile.write(model, now), nl=False)
        return
    paused = ", paused" if release.paused else ""
    lines = [f"{model}: revision {release.revision}{paused}", *(f"  {words.line(line)}" for line in described(now))]
    gateway.show(to_plain(release) | {"overrides": now.overrides}, lambda: typer.echo("\n".join(lines)))


@command(
    app,
    "apply",
    "cutover apply -f digits.toml --dry-run",
    "cutover apply -f digits.toml --reason 'second week' --yes",
)
@changes
def apply(change: Change, file: File, dry_run: DryRun = False, yes: Yes = False) -> None:
    """Makes a release what a file declares, in one step; shows the difference first.

    The file says all there is: what it leaves out, the release has not. Buckets stay with who has them. Where
    nothing differs nothing is done.
    """
    from gateway.controlplane.declared import difference, overrides_stray

    model, wanted = _declared(file)
    with change.gateway.connect() as admin:
        release, now = _read(admin, model)
        lines = difference(now, wanted)
        if not lines:
            _report(change, release, lines, [f"{model}: nothing to do, revision {release.revision}"])
            return
        request = _request(release, wanted, change)
        if wanted.overrides != now.overrides or overrides_stray(now, wanted):
            request.override_list.SetInParent()
            request.override_list.overrides.update(wanted.overrides)
        if request.ByteSize() > LARGEST_BYTES:
            raise Failure(Exit.USAGE, f"{file}: too much for one change; keep the overrides with `cutover override`")
        if dry_run:
            # The gateway may refuse it, which is worth more than the difference.
            request.validate_only = True
            would = admin.change("UpdateRelease", request)
            _report(change, would, lines, _said(model, lines))
            raise typer.Exit(Exit.DIFFERS)
        if not yes:
            _confirm(model, lines, file)
        start_s = time.perf_counter()
        after = admin.change("UpdateRelease", request)
        took_ms = (time.perf_counter() - start_s) * 1000
    _report(change, after, lines, [*(_said(model, lines) if yes else ()), _done(after, took_ms)], took_ms)


def _read(admin: "Admin", model: str) -> "tuple[pb.Release, Declared]":
    """The release and what declares it, overrides included. These are read for themselves, so it is looked twice."""
    from gateway.cli.words import to_policy
    from gateway.controlplane.declared import of_policy

    release = admin.release(model)
    for _ in range(TRIES):
        overrides = admin.overrides(model) if release.policy.override_count else {}
        again = admin.release(model) if overrides else release
        if again.etag == release.etag:
            return release, of_policy(to_policy(release.policy, overrides))
        release = again
    raise Failure(Exit.REFUSED, f"the release of {model} changes all the time: try again")


def _declared(file: Path) -> "tuple[str, Declared]":
    from gateway.controlplane.releasefile import read
    from gateway.errors import InvalidRequest

    try:
        text = sys.stdin.read() if file == STDIN else file.read_text("utf-8")
        return read(text)
    except OSError as error:
        raise Failure(Exit.USAGE, f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise Failure(Exit.USAGE, f"{file} is not UTF-8: {error.reason}") from None
    except InvalidRequest as error:
        raise Failure(Exit.USAGE, f"{file}: {error}") from None


def _request(release: "pb.Release", wanted: "Declared", change: Change) -> "pb.UpdateReleaseRequest":
    from gateway.cli.words import to_message
    from protos import admin_pb2 as pb

    request = pb.UpdateReleaseRequest(
        release=pb.Release(name=release.name, policy=to_message(wanted)),
        etag=change.etag or release.etag,
        request_id=change.request_id,
        reason=change.reason,
    )
    request.update_mask.paths.append("policy")
    return request


def _confirm(model: str, lines: list[str], file: Path) -> None:
    """Asks on the terminal, below the difference."""
    if file == STDIN or not sys.stdin.isatty():
        raise Failure(Exit.USAGE, "nobody is there to be asked: say --yes to apply, or --dry-run to look")
    typer.echo("\n".join(_said(model, lines)), err=True)
    if not typer.confirm("Apply?", err=True):
        raise Failure(Exit.REFUSED, "nothing was changed")


def _said(model: str, lines: list[str]) -> list[str]:
    from gateway.cli.words import line

    return [f"{line(model)}:", *(f"  {line(one)}" for one in lines)]


def _done(after: "pb.Release", took_ms: float) -> str:
    from gateway.cli.words import milliseconds

    return f"{after.model}: revision {after.revision}, applied by every proxy in {milliseconds(took_ms)}"


def _report(change: Change, release: "pb.Release", lines: list[str], said: list[str], took_ms: float = 0.0) -> None:
    from gateway.cli.plain import to_plain

    more: dict[str, Any] = {"difference": lines, "took_ms": round(took_ms, 3), "request_id": change.request_id}
    change.gateway.show(to_plain(release) | more, lambda: typer.echo("\n".join(said)))
