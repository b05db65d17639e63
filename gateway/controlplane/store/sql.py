"""What a store asks of an SQL database, inside a transaction that its caller has begun. The same for every database."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import Insert, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.controlplane.audit import CHANGE, GENESIS, AuditEvent, Draft, link, tells_of
from gateway.controlplane.canonical import canonical
from gateway.controlplane.store import REMEMBERED, Recalled, Request, schema
from gateway.errors import Stale, StoreFailed
from gateway.routing.snapshot import Release


async def read_releases(connection: AsyncConnection) -> dict[str, Release]:
    """All releases by model."""
    table = schema.releases.c
    rows = await connection.execute(select(table.model, table.body).order_by(table.model))
    return {model: release_of(model, body) for model, body in rows}


async def check_releases(connection: AsyncConnection) -> None:
    """Raises StoreFailed unless each release is what the audit log says it is: it was written twice."""
    releases, audit = schema.releases.c, schema.audit.c
    change = (audit.model == releases.model) & (audit.revision == releases.revision) & (audit.kind == CHANGE)
    query = select(releases.model, releases.body, audit.after).join_from(
        schema.releases, schema.audit, change, isouter=True
    )
    for model, body, after in await connection.execute(query):
        release = release_of(model, body)
        try:
            alike = after is not None and tells_of(after, release)
        except (msgspec.MsgspecError, KeyError, AttributeError):
            alike = False
        if not alike:
            raise StoreFailed(f"the stored release of {model} cannot be read: the audit log tells of another one")


async def read_since(connection: AsyncConnection, sequence: int) -> list[Release]:
    """The releases that were changed after a sequence, in the order of their last changes."""
    table = schema.releases.c
    query = select(table.model, table.body).where(table.sequence > sequence).order_by(table.sequence)
    return [release_of(model, body) for model, body in await connection.execute(query)]


async def read_revision(connection: AsyncConnection, model: str, revision: int) -> Release | None:
    """A release as it was."""
    table = schema.revisions.c
    query = select(table.body).where((table.model == model) & (table.revision == revision))
    body = (await connection.execute(query)).scalar_one_or_none()
    return None if body is None else release_of(f"{model} at revision {revision}", body)


async def read_revisions(
    connection: AsyncConnection, model: str, limit: int, before_revision: int | None
) -> list[Release]:
    """A release as it was at its revisions, newest first."""
    table = schema.revisions.c
    query = select(table.revision, table.body).where(table.model == model)
    if before_revision is not None:
        query = query.where(table.revision < before_revision)
    rows = await connection.execute(query.order_by(table.revision.desc()).limit(limit))
    return [release_of(f"{model} at revision {revision}", body) for revision, body in rows]


async def read_recalled(connection: AsyncConnection, request_id: str) -> Recalled | None:
    """What the request id was used for."""
    table = schema.requests.c
    rows = await connection.execute(select(table.fingerprint, table.body).where(table.request_id == request_id))
    row = rows.one_or_none()
    return None if row is None else Recalled(row.fingerprint, release_of(f"request {request_id}", row.body))


async def read_events(
    connection: AsyncConnection, model: str | None, limit: int, before_sequence: int | None
) -> list[AuditEvent]:
    """Audit events, newest first."""
    table = schema.audit.c
    query = select(schema.audit).order_by(table.sequence.desc()).limit(limit)
    if model is not None:
        query = query.where(table.model == model)
    if before_sequence is not None:
        query = query.where(table.sequence < before_sequence)
    return [AuditEvent(**row) for row in (await connection.execute(query)).mappings()]


async def write_commit(
    connection: AsyncConnection, expected_revision: int, release: Release, event: Draft, request: Request | None
) -> Release:
    """Writes the release, its event and the request; the caller commits. Raises Stale, then the caller rolls back."""
    newest = (await connection.execute(select(func.max(schema.releases.c.sequence)))).scalar_one()
    placed = msgspec.structs.replace(release, sequence=max((newest or 0) + 1, release.sequence))
    await _write_release(connection, expected_revision, placed)
    await write_note(connection, event)
    if request is not None:
        await _write_request(connection, placed, event.time_ms, request)
        await _forget_requests(connection)
    return placed


async def write_births(connection: AsyncConnection, births: Sequence[tuple[Release, Draft]]) -> list[Release]:
    """Writes first releases and their events with a statement for each table, however many there are.

    The caller commits. Raises Stale, then the caller rolls back.
    """
    if not births:
        return []
    newest = (await connection.execute(select(func.max(schema.releases.c.sequence)))).scalar_one() or 0
    placed = [
        msgspec.structs.replace(release, sequence=newest + number) for number, (release, _) in enumerate(births, 1)
    ]
    rows = [row_of(release) for release in placed]
    try:
        await connection.execute(insert(schema.releases), rows)
    except IntegrityError:
        raise Stale("the store has a release of one of the new models already: read it again") from None
    await connection.execute(insert(schema.revisions), rows)
    await _write_events(connection, [event for _, event in births])
    return placed


async def write_note(connection: AsyncConnection, event: Draft) -> AuditEvent:
    """Adds an event to the chain."""
    (linked,) = await _write_events(connection, [event])
    return linked


async def _write_events(connection: AsyncConnection, events: Sequence[Draft]) -> list[AuditEvent]:
    newest = select(schema.audit.c.sequence, schema.audit.c.hash).order_by(schema.audit.c.sequence.desc()).limit(1)
    row = (await connection.execute(newest)).one_or_none()
    before, sequence = (GENESIS, 0) if row is None else (row.hash, row.sequence)
    linked: list[AuditEvent] = []
    for event in events:
        linked.append(link(linked[-1].hash if linked else before, sequence + len(linked) + 1, event))
    await connection.execute(insert(schema.audit), [msgspec.structs.asdict(one) for one in linked])
    return linked


def body_of(release: Release) -> str:
    """A release as it is stored."""
    return msgspec.json.encode(canonical(release) | {"sequence": release.sequence}).decode()


def row_of(release: Release) -> dict[str, object]:
    """Of `releases` and of `revisions`."""
    fields = {"model": release.model, "revision": release.revision, "sequence": release.sequence}
    return {**fields, "body": body_of(release)}


async def _write_release(connection: AsyncConnection, expected_revision: int, release: Release) -> None:
    table = schema.releases
    values = row_of(release)
    if expected_revision:
        current = (table.c.model == release.model) & (table.c.revision == expected_revision)
        fits = (await connection.execute(update(table).where(current).values(values))).rowcount == 1
    else:
        fits = await _inserted(connection, insert(table).values(values))
    if not fits:
        raise Stale(f"the store does not have revision {expected_revision} of {release.model} any more: read it again")
    await connection.execute(insert(schema.revisions).values(values))


async def _write_request(connection: AsyncConnection, release: Release, time_ms: int, request: Request) -> None:
    values = {**request._asdict(), "time_ms": time_ms, "body": body_of(release)}
    if not await _inserted(connection, insert(schema.requests).values(values)):
        raise Stale(f"request id {request.request_id} was carried out already: send it again to get its answer")


async def _forget_requests(connection: AsyncConnection) -> None:
    """By the order of changes, which no clock can turn round."""
    table = schema.audit.c
    changes = select(table.request_id).where(table.kind == CHANGE)
    newest = changes.order_by(table.sequence.desc()).limit(REMEMBERED)
    await connection.execute(delete(schema.requests).where(schema.requests.c.request_id.not_in(newest)))


async def _inserted(connection: AsyncConnection, statement: Insert) -> bool:
    try:
        await connection.execute(statement)
    except IntegrityError:
        return False
    return True


def release_of(what: str, body: str) -> Release:
    """A release that `body_of` wrote. Raises StoreFailed, with `what` it is."""
    try:
        return msgspec.json.decode(body, type=Release)
    except msgspec.MsgspecError as error:
        raise StoreFailed(f"the stored release of {what} cannot be read: {error}") from error
