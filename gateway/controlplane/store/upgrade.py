"""From the tables that an SQLite file has to those of `schema`, inside a transaction that its caller has begun.

PostgreSQL has migrations of its own.
"""

from typing import Final

import msgspec
from sqlalchemy import insert, inspect, literal, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.controlplane.audit import CHANGE
from gateway.controlplane.store import schema, sql

EMPTY: Final = 0
"""The version of a file without tables."""
_MADE_ANEW: Final = ("releases", "audit")
"""Tables of version 1 that have other columns or constraints since."""


async def version(connection: AsyncConnection) -> int:
    """The schema version that the file was written with."""
    tables = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
    if schema.schema.name not in tables:
        return EMPTY
    return (await connection.execute(select(schema.schema.c.version))).scalar_one_or_none() or EMPTY


async def upgrade(connection: AsyncConnection, found: int) -> None:
    """Makes the tables of SCHEMA_VERSION out of those of the version found, which is not newer."""
    if found == 1:
        await _from_1(connection)
    elif found == EMPTY:
        await connection.run_sync(schema.metadata.create_all)
        await connection.execute(insert(schema.schema).values(version=schema.SCHEMA_VERSION))


async def _from_1(connection: AsyncConnection) -> None:
    """Events get their kind, releases the sequence of their last event; what they are now is their first revision kept.

    SQLite cannot drop a constraint, so tables are made anew.
    """
    await connection.execute(text("DROP INDEX audit_by_model"))
    for name in _MADE_ANEW:
        await connection.execute(text(f"ALTER TABLE {name} RENAME TO {name}_1"))
    await connection.run_sync(schema.metadata.create_all)
    columns = [column.name for column in schema.audit.columns if column.name != "kind"]
    events = select(*(text(f'"{name}"') for name in columns), literal(CHANGE)).select_from(text("audit_1"))
    await connection.execute(insert(schema.audit).from_select([*columns, "kind"], events))
    newest = (
        "SELECT body, (SELECT max(sequence) FROM audit_1 WHERE audit_1.model = releases_1.model) AS sequence "
        "FROM releases_1"
    )
    for body, sequence in (await connection.execute(text(newest))).all():
        release = msgspec.structs.replace(sql.release_of("a release", body), sequence=sequence or 0)
        values = {"model": release.model, "revision": release.revision, "sequence": release.sequence}
        for table in (schema.releases, schema.revisions):
            await connection.execute(insert(table).values({**values, "body": sql.body_of(release)}))
    for name in _MADE_ANEW:
        await connection.execute(text(f"DROP TABLE {name}_1"))
    await connection.execute(update(schema.schema).values(version=2))
