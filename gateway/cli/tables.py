"""What people read: rich tables and lines. Text of others (errors, reasons) is shown as text, never as markup."""

import contextlib
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import msgspec
import typer
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gateway.cli import words
from gateway.cli.assignment import Assigned
from gateway.cli.overview import ArmRow, Overview, errors, requests, rows
from gateway.cli.plain import timestamp
from gateway.controlplane.audit import ACCESS, override_count
from gateway.routing.snapshot import Release
from protos import admin_pb2 as pb

PIPE_WIDTH = 240
"""Columns when stdout is not a terminal, so that lines stay whole for grep."""
DIGEST = 12

_STATES = {
    pb.Version.READY: "green",
    pb.Version.LOADING: "yellow",
    pb.Version.UNLOADED: "yellow",
    pb.Version.FAILED: "bold red",
    pb.Version.MISSING: "bold red",
}


def console() -> Console:
    """Where tables go: the terminal in its width, else wide and without colours."""
    return Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def show(*parts: RenderableType) -> None:
    """Prints each part on lines of its own; without a terminal also without the blanks that fill columns up."""
    out = console()
    with contextlib.nullcontext() if out.is_terminal else out.capture() as captured:
        for part in parts:
            out.print(part)
    if captured:
        typer.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def status(overviews: Iterable[Overview], now: datetime) -> RenderableType:
    """Every model with a line per arm."""
    parts: list[RenderableType] = []
    for overview in overviews:
        parts += [_heading(overview, now), Padding(_arms(overview), (0, 0, 1, 2), expand=False)]
    nothing = "no model is released yet: put MODEL/VERSION/model.onnx where serve looks, or `cutover register` one"
    return Group(*parts) if parts else Text(nothing)


def _heading(overview: Overview, now: datetime) -> Text:
    release = overview.release
    heading = Text.assemble((words.line(release.model), "bold"), f"  revision {release.revision}  etag {release.etag}")
    if release.HasField("update_time"):
        heading.append(f"  changed {words.age(timestamp(release.update_time), now)}")
    if release.HasField("rollback_policy"):
        back = release.rollback_policy
        heading.append(f"  rollback to {words.describe(words.to_policy(back), back.override_count)}")
    if release.paused:
        heading.append("  paused", "yellow")
    if release.policy.rules:
        heading.append(f"  {words.counted(len(release.policy.rules), 'rule')}")
    if release.policy.override_count:
        heading.append(f"  {words.counted(release.policy.override_count, 'override')}")
    for said in words.requests(overview.policy):
        heading.append(f"  {said}")
    return heading


def _arms(overview: Overview) -> Table:
    table = _table("arm", ">version", "share", "state", ">requests", ">errors", ">p50", ">p99")
    shown = rows(overview)
    with_shadows = any(row.arm == "shadow" for row in shown)
    for column in ("agree", "max difference", "dropped") if with_shadows else ():
        table.add_column(column.upper(), justify="right", no_wrap=True)
    for row in shown:
        cells: list[RenderableType] = [row.arm, str(row.version), row.share, state(row.found)]
        cells += _numbers(row)
        if with_shadows:
            cells += _agreement(row)
        table.add_row(*cells)
    return table


def _numbers(row: ArmRow) -> list[RenderableType]:
    did = row.did
    seen = requests(did)
    failed = Text(words.count(errors(did)), "red" if errors(did) else "")
    if not did.latency.count:
        return [words.count(seen), failed, "-", "-"]
    return [words.count(seen), failed, words.milliseconds(did.latency.p50_ms), words.milliseconds(did.latency.p99_ms)]


def _agreement(row: ArmRow) -> list[RenderableType]:
    if row.arm != "shadow":
        return ["", "", ""]
    shadow = row.did.shadow
    largest = words.difference(shadow.max_absolute_difference) if shadow.compared else "-"
    return [words.share(shadow.agreed, shadow.compared), largest, words.count(shadow.dropped)]


def state(version: pb.Version) -> Text:
    """Whether a version can answer, and its workers."""
    said = pb.Version.State.Name(version.state).lower()
    if version.instances:
        said += f" {version.instances_ready}/{version.instances}"
    if version.restarts:
        said += f", {words.counted(version.restarts, 'restart')}"
    return Text(said, _STATES.get(version.state, ""))


def versions(response: pb.ListVersionsResponse) -> RenderableType:
    """Versions found, then what is wrong in the models directory but with a version that says so itself."""
    table = _table("model", ">version", "state", "roles", "digest", "error")
    for version in response.versions:
        roles = ", ".join(version.roles) or "-"
        name, digest = words.line(version.model), version.digest[:DIGEST] or "-"
        table.add_row(name, str(version.version), state(version), roles, digest, words.line(version.error))
    told = {words.line(version.error) for version in response.versions}
    left = [said for problem in response.problems if (said := words.line(problem)) not in told]
    problems = [Text(f"problem: {said}", "yellow") for said in left]
    empty = Text("no version found: put MODEL/VERSION/model.onnx into the models directory")
    return Group(table if response.versions else empty, *problems)


def statistics(found: pb.ListStatisticsResponse) -> RenderableType:
    """What every version did under every arm, also under arms it no longer has; then the proxies."""
    table = _table("model", ">version", "arm", ">p50", ">p90", ">p99", ">max", ">mean", ">queue p99", "answers")
    for did in found.statistics:
        latency = did.latency
        times = (latency.p50_ms, latency.p90_ms, latency.p99_ms, latency.max_ms, latency.mean_ms, did.queue.p99_ms)
        table.add_row(
            *(words.line(did.model) or "-", str(did.version) if did.version else "-", did.arm or "-"),
            *(words.milliseconds(value) if latency.count else "-" for value in times),
            _answers(did),
        )
    return Group(table, Text(words.proxies(found.proxies), "dim")) if found.proxies else table


def gateways(found: pb.ListGatewaysResponse) -> RenderableType:
    """The gateways on the store, and what each serves."""
    table = _table("gateway", "state", ">serves", ">heard", "cut off")
    for one in found.gateways:
        state = Text("silent", "bold red") if one.silent else Text("lives" + (", answers" if one.answering else ""))
        stops = f"stops after {one.lease_ms / 1000:g} s" if one.lease_ms else "serves on"
        heard = f"{words.milliseconds(one.heard_ms)} ago"
        table.add_row(words.line(one.gateway), state, f"change {one.applied_sequence}", heard, stops)
    return table if found.gateways else Text("this gateway shares its store with nobody")


def overrides(found: Mapping[str, str]) -> RenderableType:
    """Units that go to an arm whatever their bucket."""
    table = _table("unit", "arm")
    for unit, arm in found.items():
        table.add_row(words.line(unit), arm)
    return table if found else Text("no unit is overridden")


def _answers(did: pb.Statistics) -> str:
    if not did.HasField("shadow"):
        return ", ".join(f"{words.count(number)} {code}" for code, number in sorted(did.requests.items())) or "-"
    shadow = did.shadow
    agree = words.share(shadow.agreed, shadow.compared)
    return (
        f"{words.count(shadow.compared)} rows compared, {agree} agree, max difference "
        f"{words.difference(shadow.max_absolute_difference)}, {shadow.dropped} dropped, {shadow.failed} failed, "
        f"{shadow.incomparable} incomparable"
    )


def revisions(found: Iterable[pb.Release]) -> RenderableType:
    """What a release was."""
    table = _table(">revision", ">sequence", "time", "after")
    for release in found:
        time = timestamp(release.update_time).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(str(release.revision), str(release.sequence), time, words.release(release))
    return table


def audit(events: Iterable[pb.AuditEvent]) -> RenderableType:
    """Who changed what and why, newest first."""
    table = _table(">#", "time", "actor", "verb", "model", ">revision", "after", "reason")
    for event in events:
        time = timestamp(event.time).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        cells = (event.actor, event.verb, event.model, str(event.revision), _after(event), event.reason)
        table.add_row(str(event.sequence), time, *(words.line(cell) for cell in cells))
    return table


def tokens(found: Iterable[pb.Token], now: datetime) -> RenderableType:
    """Who may do what, and until when."""
    table = _table("token", "roles", "holds until", "made by", "made")
    for one in found:
        roles = words.roles({model: pb.Role.Name(role) for model, role in one.roles.items()})
        made = f"{timestamp(one.create_time).astimezone():%Y-%m-%d %H:%M}"
        table.add_row(one.name.removeprefix("tokens/"), roles, _until(one, now), words.line(one.created_by), made)
    return table


class _Given(msgspec.Struct):
    """What an event says of a token."""

    id: str
    roles: dict[str, str]


def _until(one: pb.Token, now: datetime) -> str:
    if one.HasField("revoke_time"):
        return f"revoked {timestamp(one.revoke_time).astimezone():%Y-%m-%d %H:%M}"
    if not one.HasField("expire_time"):
        return "it is revoked"
    ends = timestamp(one.expire_time)
    return f"{'' if now < ends else 'expired '}{ends.astimezone():%Y-%m-%d %H:%M}"


def _after(event: pb.AuditEvent) -> str:
    if not event.after:
        return "-"
    try:
        if event.kind == ACCESS:
            given = msgspec.json.decode(event.after, type=_Given)
            return f"{given.id}: {words.roles(given.roles)}"
        after = msgspec.json.decode(event.after, type=Release)
        said = words.describe(after.policy, override_count(event.after))
        return f"{said}, paused" if after.paused else said
    except msgspec.MsgspecError:
        return "?"  # written by a gateway of another kind; -o json shows it whole


def _table(*columns: str) -> Table:
    """A table without lines; `>` before a column's name aligns it right."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        name = column.removeprefix(">")
        wraps = name in {"error", "reason", "answers", "after"}
        table.add_column(name.upper(), justify="right" if column != name else "left", no_wrap=not wraps)
    return table


def utc_now() -> datetime:
    """The clock, read in one place."""
    return datetime.now(UTC)


def assignments(found: Iterable[Assigned], salt: str, holdout_salt: str) -> RenderableType:
    """Where units go, and the salts that say so."""
    table = _table("unit", ">bucket", "arm", ">version", "reason")
    for one in found:
        table.add_row(words.line(one.unit), str(one.bucket), one.arm, str(one.version), one.reason)
    salts = f"salt {salt or '(none)'}" + (f", of the holdout {holdout_salt}" if holdout_salt else "")
    return Group(table, Text(salts, "dim"))
