"""All that an SQL database holds, as records of a backup."""

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from sqlalchemy import Table, func, insert, select, tuple_
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.controlplane.audit import AuditEvent
from gateway.controlplane.store import Token, backup, schema, sql, tokens
from gateway.errors import InvalidRequest, Refused
from gateway.routing.snapshot import Release

T = TypeVar("T")
Work = Callable[[AsyncConnection], Awaitable[T]]
Row = dict[str, Any]
PAGE: Final = 500
"""Rows of one transaction: changes need not wait for the whole dump."""


class _Start(NamedTuple):
    """What can change, as it was at one moment; what is only added to, by how far it went then."""

    records: list[backup.Record]
    revisions: int
    events: int


async def records(transaction: Callable[[Work[Any]], Awaitable[Any]]) -> AsyncIterator[backup.Record]:
    """All, as of the first transaction, in which nobody else may write."""
    start: _Start = await transaction(_start)
    for record in start.records:
        yield record
    key = ("", 0)
    while page := await transaction(partial(_revisions, after=key, until=start.revisions)):
        for release in page:
            yield backup.Revision(release)
        key = (release.model, release.revision)
    sequence = 0
    while events := await transaction(partial(_events, after=sequence, until=start.events)):
        for event in events:
            yield backup.Event(event)
        sequence = event.sequence


async def write(connection: AsyncConnection, records: Iterable[backup.Record]) -> None:
    """Puts them into an empty database; the caller commits. Raises Refused and InvalidRequest."""
    for table in (schema.audit, schema.revisions, schema.tokens):
        if (await connection.execute(select(func.count()).select_from(table))).scalar_one():
            raise Refused("the store is not empty: restore into a new one")
    newest: dict[str, Release] = {}
    rows: dict[Table, list[Row]] = defaultdict(list)
    try:
        for record in records:
            table, row = _row(record)
            rows[table].append(row)
            if len(rows[table]) == PAGE:
                await connection.execute(insert(table), rows.pop(table))
            if isinstance(record, backup.Revision):
                known = newest.setdefault(record.release.model, record.release)
                newest[known.model] = max(known, record.release, key=lambda release: release.revision)
        rows[schema.releases] = [sql.row_of(release) for release in newest.values()]
        for table, rest in rows.items():
            if rest:
                await connection.execute(insert(table), rest)
    except IntegrityError as error:
        raise InvalidRequest(f"the backup names something twice: {error.orig}") from error


async def _start(connection: AsyncConnection) -> _Start:
    found: list[backup.Record] = [*await tokens.read(connection)]
    table = schema.requests.c
    query = select(table.request_id, table.fingerprint, table.time_ms, table.body).order_by(table.request_id)
    for request_id, fingerprint, time_ms, body in await connection.execute(query):
        release = sql.release_of(f"request {request_id}", body)
        found.append(backup.Answered(request_id, fingerprint, time_ms, release))
    last = [
        (await connection.execute(select(func.max(kept.c.sequence)))).scalar_one() or 0
        for kept in (schema.revisions, schema.audit)
    ]
    return _Start(found, *last)


async def _revisions(connection: AsyncConnection, after: tuple[str, int], until: int) -> list[Release]:
    table = schema.revisions.c
    within = (tuple_(table.model, table.revision) > after) & (table.sequence <= until)
    query = select(table.model, table.body).where(within).order_by(table.model, table.revision).limit(PAGE)
    return [sql.release_of(f"a revision of {model}", body) for model, body in await connection.execute(query)]


async def _events(connection: AsyncConnection, after: int, until: int) -> list[AuditEvent]:
    table = schema.audit.c
    within = (table.sequence > after) & (table.sequence <= until)
    query = select(schema.audit).where(within).order_by(table.sequence).limit(PAGE)
    return [AuditEvent(**row) for row in (await connection.execute(query)).mappings()]


def _row(record: backup.Record) -> tuple[Table, Row]:
    """Where it belongs, and how it is stored."""
    match record:
        case Token():
            return schema.tokens, tokens.row_of(record)
        case backup.Answered():
            fields = {name: getattr(record, name) for name in ("request_id", "fingerprint", "time_ms")}
            return schema.requests, {**fields, "body": sql.body_of(record.release)}
        case backup.Revision():
            return schema.revisions, sql.row_of(record.release)
        case backup.Event():
            return schema.audit, msgspec.structs.asdict(record.event)
