"""Commands about the audit log: show it, verify it, take it elsewhere."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from gateway.cli.command import DefaultGroup, Gateway, OptionalModel, Output, OutputOption, asks, command
from gateway.cli.failure import Exit, Failure

if TYPE_CHECKING:
    from gateway.controlplane.audit import AuditEvent

app = typer.Typer()
audit = typer.Typer(cls=DefaultGroup, help="Who changed what, when and why, and who was refused what: `audit [MODEL]`.")
app.add_typer(audit, name="audit")

STDIN = "-"

Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many events, the newest.")]
Verify = Annotated[bool, typer.Option("--verify", help="Recompute the hash chain of the whole log instead.")]
File = Annotated[str | None, typer.Argument(metavar="[FILE]", help="What `audit export` has written; -: stdin.")]
State = Annotated[
    Path | None, typer.Option("--state", metavar="DIR", help="The state directory of a stopped gateway, or a copy.")
]
Hash = Annotated[str | None, typer.Option("--hash", metavar="HASH", help="Noted earlier: it must stand in the log.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="A new file (default: stdout).")]
After = Annotated[int, typer.Option("--after", metavar="SEQUENCE", min=0, help="Only events later than that one.")]


@command(audit, "show", "cutover audit show", "cutover audit show digits --limit 5", "cutover audit show --verify")
@asks
def show(gateway: Gateway, model: OptionalModel = None, limit: Limit = 20, verify: Verify = False) -> None:
    """Shows who changed what, when and why, and who was refused what, newest first.

    The word `show` may be left out, unless the model is called like a command.
    """
    from gateway.cli import tables
    from gateway.cli.plain import to_plain

    if verify:
        _verify_all(gateway, model)
        return
    with gateway.connect() as admin:
        events = admin.events(model, limit)
    gateway.show({"events": [to_plain(one) for one in events]}, lambda: tables.show(tables.audit(events)))


@command(
    audit,
    "verify",
    "cutover audit verify audit.jsonl",
    "cutover audit verify --state cutover-state",
    "cutover audit verify audit.jsonl --hash 0f1e...",
)
def verify(file: File = None, state: State = None, hash_: Hash = None, output: OutputOption = Output.TABLE) -> None:
    """Recomputes the hash chain of a whole log, without a gateway.

    One changed byte is found. Of a state directory, releases, their revisions and
    the tokens are compared with what the log says of them, too. What the chain cannot show is that its end
    was cut off: note its newest hash elsewhere, and give it with --hash.
    """
    from gateway.controlplane.auditfile import Damaged

    if (file is None) == (state is None):
        raise Failure(Exit.USAGE, "name a file that `cutover audit export` has written, or --state DIR")
    try:
        count, newest = _file(file, hash_) if file is not None else _state(state or Path(), hash_)
    except Damaged as damage:
        raise Failure(Exit.REFUSED, str(damage)) from None
    if output is Output.JSON:
        import json

        typer.echo(json.dumps({"verified": count, "hash": newest}))
    else:
        from gateway.cli import words

        typer.echo(f"{words.counted(count, 'event')}, every hash follows from the last; the newest is {newest}")


@command(audit, "export", "cutover audit export --out audit.jsonl", "cutover audit export --after 1200 >> audit.jsonl")
@asks
def export(gateway: Gateway, out: Out = None, after: After = 0) -> None:
    """Writes the whole log as JSON lines, oldest first; `audit verify` checks them.

    A line is the event: sorted keys, no spaces. Its hash is the SHA-256 of the
    hash before it and of the line without `hash`, and without `kind` where
    that is `change`.
    """
    from gateway.cli.chain import to_event
    from gateway.controlplane.auditfile import line

    with gateway.connect() as admin, _writing(out) as to:
        count = 0
        for event in admin.history(after):
            to.write(line(to_event(event)))
            count += 1
    if out is not None:
        from gateway.cli import words

        gateway.show({"exported": count}, lambda: typer.echo(f"{words.counted(count, 'event')} in {out}"))


def _verify_all(gateway: Gateway, model: str | None) -> None:
    from gateway.cli import words
    from gateway.cli.chain import broken

    if model is not None:
        raise Failure(Exit.USAGE, "--verify checks the log of all models together: leave the model out")
    with gateway.connect() as admin:
        events = admin.events(None, limit=None)
    wrong = broken(events)
    if wrong:
        raise Failure(Exit.REFUSED, wrong)
    gateway.show(
        {"verified": len(events)},
        lambda: typer.echo(f"{words.counted(len(events), 'event')}, every hash follows from the last"),
    )


def _file(name: str, expected: str | None) -> tuple[int, str]:
    from gateway.controlplane import auditfile

    with ExitStack() as until:
        try:
            lines = sys.stdin.buffer if name == STDIN else until.enter_context(Path(name).open("rb"))
        except OSError as error:
            raise Failure(Exit.USAGE, f"{name} cannot be read: {error.strerror}") from None
        return _chain(auditfile.events(lines), expected)


def _state(folder: Path, expected: str | None) -> tuple[int, str]:
    from gateway.controlplane.auditfile import Damaged, File
    from gateway.controlplane.store.choice import STORE_FILE

    if not (folder / STORE_FILE).exists():
        raise Failure(
            Exit.USAGE,
            f"--state {folder} has no {STORE_FILE}: name the state directory of a gateway; with store.url the log is "
            "in the database, from where `cutover audit export` takes it",
        )
    with File(folder / STORE_FILE) as stored:
        found = _chain(stored.events(), expected)
        for wrong in stored.strange():
            raise Damaged(wrong)
    return found


def _chain(events: "Iterable[AuditEvent]", expected: str | None) -> tuple[int, str]:
    """How many there are, and the newest hash. Raises Damaged."""
    from gateway.controlplane.audit import GENESIS
    from gateway.controlplane.audit import verify as check
    from gateway.controlplane.auditfile import Damaged

    count, newest, met = 0, GENESIS, expected in (None, GENESIS)

    def passing() -> "Iterator[AuditEvent]":
        nonlocal count, newest, met
        for event in events:
            count, newest = count + 1, event.hash
            met = met or newest == expected
            yield event

    if wrong := check(passing()):
        raise Damaged(wrong)
    if not met:
        raise Damaged(f"no event has the hash {expected}: the end of the log was cut off, or it is another log")
    return count, newest


@contextmanager
def _writing(out: Path | None) -> Iterator[BinaryIO]:
    """Never over a file that is there: it may be the only copy. What was not written whole is not left behind."""
    if out is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        file = out.open("xb")
    except OSError as error:
        raise Failure(Exit.USAGE, f"--out {out} cannot be made: {error.strerror}") from None
    try:
        with file:
            yield file
    except BaseException:
        out.unlink(missing_ok=True)
        raise
