"""Commands that change a release. Each says what happened, at which revision, and how long that took."""

import decimal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.command import LARGEST, Change, Model, Version, changes, command
from gateway.cli.failure import Exit, Failure

if TYPE_CHECKING:
    from protos import admin_pb2 as pb

app = typer.Typer()
shadow = typer.Typer(help="Versions that get copies of requests and answer nobody.")
canary = typer.Typer(help="Versions that answer a share of the users.")
standby = typer.Typer(help="The warmed version a flip makes stable.")
app.add_typer(shadow, name="shadow")
app.add_typer(canary, name="canary")
app.add_typer(standby, name="standby")

HUNDREDTHS = 100
Rate = Annotated[
    float, typer.Option("--rate", metavar="RATE", help="Share of the requests copied: above 0, at most 1.")
]
Percent = Annotated[
    str, typer.Option("--percent", metavar="PERCENT", help="Share of the units, 0.01 to 100.", show_default=False)
]
Revision = Annotated[
    int,
    typer.Option(
        "--to",
        metavar="REVISION",
        min=0,
        max=LARGEST,
        help="To this revision (default: before the last flip or promote).",
    ),
]


@command(shadow, "set", "cutover shadow set digits 2", "cutover shadow set digits 2 --rate 0.1 --reason 'look at v2'")
@changes
def set_shadow(change: Change, model: Model, version: Version, rate: Rate = 1.0) -> None:
    """Sends a version copies of real requests and compares its answers."""
    from gateway.cli import words

    if not 0 < rate <= 1:
        raise Failure(Exit.USAGE, f"--rate {rate:g} is not a share of the requests: above 0, at most 1")
    ask(change, "SetShadow", model, f"version {version} gets copies of {words.rate(rate)}", version=version, rate=rate)


@command(shadow, "remove", "cutover shadow remove digits 2")
@changes
def remove_shadow(change: Change, model: Model, version: Version) -> None:
    """Ends the copies to a version."""
    ask(change, "RemoveShadow", model, f"version {version} gets no more copies", version=version)


@command(canary, "set", "cutover canary set digits 2 --percent 10", "cutover canary set digits 2 --percent 0.25")
@changes
def set_canary(change: Change, model: Model, version: Version, percent: Percent) -> None:
    """Gives a version a share of the users; loads and warms it first.

    A growing share keeps every user it has; a shrinking one gives back those who came last.
    """
    from gateway.cli import words

    points = basis_points(percent)
    said = f"version {version} answers {words.percent(points)}"
    ask(change, "SetCanary", model, said, version=version, basis_points=points)


@command(canary, "remove", "cutover canary remove digits 2 --reason 'too slow'")
@changes
def remove_canary(change: Change, model: Model, version: Version) -> None:
    """Gives all users of a canary back to stable."""
    ask(change, "RemoveCanary", model, f"version {version} answers nobody as canary", version=version)


@command(standby, "set", "cutover standby set digits 2")
@changes
def set_standby(change: Change, model: Model, version: Version) -> None:
    """Loads and warms a version and returns when it could be flipped to."""
    said = f"version {version} stands by, `cutover flip {model}` makes it stable"
    ask(change, "PrepareStandby", model, said, version=version)


@command(app, "flip", "cutover flip digits", "cutover flip digits --reason 'v2 met its SLO' --etag 7-1a2b3c4d")
@changes
def flip(change: Change, model: Model) -> None:
    """Makes the standby stable, in one step.

    Once this returns, no request admitted afterwards is answered by the old version. `cutover rollback` takes it back.
    The new version's canary and shadow end; the output names them.
    """
    _switch(change, "Flip", model, _ended)


@command(app, "promote", "cutover promote digits 2 --reason 'a week at 50 %'")
@changes
def promote(change: Change, model: Model, version: Version) -> None:
    """Makes a canary stable, in one step.

    Once this returns, no request admitted afterwards is answered by the old version. `cutover rollback` takes it back.
    Other canaries keep their users.
    """
    _switch(change, "PromoteCanary", model, _ended, version=version)


@command(app, "rollback", "cutover rollback digits --reason 'agreement fell'", "cutover rollback digits --to 7")
@changes
def rollback(change: Change, model: Model, to: Revision = 0) -> None:
    """Restores what stood before the last flip or promote, or at a revision, in one step.

    Once this returns, every request admitted afterwards is answered as then. Canaries, shadows, standby and holdout of
    that time are back, too, and the output names them: `cutover canary remove` ends a canary.
    """
    _switch(change, "Rollback", model, _restored, revision=to)


def basis_points(text: str) -> int:
    """Hundredths of a percent in `10`, `0.25` or `10%`. Raises Failure when it is no step of 0.01 in 0.01..100."""
    try:
        points = decimal.Decimal(text.strip().removesuffix("%").strip()) * HUNDREDTHS
    except decimal.InvalidOperation:
        points = decimal.Decimal(0)
    if not points.is_finite() or points != points.to_integral_value() or not 1 <= points <= 100 * HUNDREDTHS:
        raise Failure(Exit.USAGE, f"--percent {text} is not a share of the users: 0.01 to 100 in steps of 0.01")
    return int(points)


def ask(change: Change, method: str, model: str, said: str, **fields: Any) -> None:
    """Sends the request `<method>Request` and prints what came of it."""
    _send(change, method, model, fields, lambda before, after, took_ms: [_line(before, after, said, took_ms)])


def _switch(
    change: Change, method: str, model: str, more: "Callable[[pb.Policy, pb.Policy], str]", **fields: Any
) -> None:
    """The same for another stable version; `more` says in a second line what else is different, if anything is."""

    def report(before: "pb.Release", after: "pb.Release", took_ms: float) -> list[str]:
        was, now = before.policy, after.policy
        lines = [_line(before, after, f"{was.stable_version} -> {now.stable_version}", took_ms)]
        said = more(was, now) if after.revision > before.revision else ""
        return [*lines, f"  {said}"] if said else lines

    _send(change, method, model, fields, report)


def _ended(was: "pb.Policy", now: "pb.Policy") -> str:
    """Canaries, shadows, overrides and rules that are no more."""
    from gateway.cli import words

    left = set(words.candidates(words.to_policy(now)))
    gone = [said for said in words.candidates(words.to_policy(was)) if said not in left]
    if now.override_count < was.override_count:
        gone.append(words.counted(was.override_count - now.override_count, "override"))
    if len(now.rules) < len(was.rules):
        gone.append(words.counted(len(was.rules) - len(now.rules), "rule"))
    return f"ended: {', '.join(gone)}" if gone else ""


def _restored(_: "pb.Policy", now: "pb.Policy") -> str:
    """The whole policy that is back."""
    from gateway.cli import words

    return f"restored: {words.describe(words.to_policy(now), now.override_count)}"


def _send(
    change: Change,
    method: str,
    model: str,
    fields: dict[str, Any],
    report: "Callable[[pb.Release, pb.Release, float], list[str]]",
) -> None:
    from gateway.cli.admin import release_name
    from gateway.cli.plain import to_plain
    from protos import admin_pb2 as pb

    with change.gateway.connect() as admin:
        before = admin.release(model)
        if change.dry_run and not before.sequence:
            raise Failure(Exit.REFUSED, "this gateway is too old for --dry-run: it would make the change")
        request = getattr(pb, f"{method}Request")(
            name=release_name(model),
            etag=change.etag or before.etag,
            request_id=change.request_id,
            reason=change.reason,
            validate_only=change.dry_run,
            **fields,
        )
        start_s = time.perf_counter()
        after = admin.change(method, request)
        took_ms = (time.perf_counter() - start_s) * 1000
    if change.dry_run:
        change.gateway.show(to_plain(after) | {"dry_run": True}, lambda: typer.echo(_would_be(before, after)))
        return
    plain = to_plain(after) | {"took_ms": round(took_ms, 3), "request_id": change.request_id}
    change.gateway.show(plain, lambda: typer.echo("\n".join(report(before, after, took_ms))))


def _would_be(before: "pb.Release", after: "pb.Release") -> str:
    from gateway.cli import words

    if after.revision == before.revision:
        return f"{after.model}: nothing would change, revision {before.revision}"
    return f"{after.model}: would be {words.release(after)}, revision {after.revision}; nothing was changed"


def _line(before: "pb.Release", after: "pb.Release", said: str, took_ms: float) -> str:
    from gateway.cli import words

    if after.revision <= before.revision:
        return f"{after.model}: {said}, as before, revision {after.revision}"
    took = words.milliseconds(took_ms)
    return f"{after.model}: {said}, revision {after.revision}, applied by every proxy in {took}"
