"""Tokens in an SQL database, inside a transaction that its caller has begun."""

import msgspec
from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.controlplane.audit import AuditEvent, Draft
from gateway.controlplane.store import Token, schema, sql


async def read(connection: AsyncConnection) -> list[Token]:
    """All, by id."""
    rows = await connection.execute(select(schema.tokens).order_by(schema.tokens.c.id))
    return [Token(**{**row, "roles": msgspec.json.decode(row["roles"])}) for row in rows.mappings()]


async def put(connection: AsyncConnection, token: Token, event: Draft) -> AuditEvent:
    """Writes one, with its event; the caller commits."""
    await connection.execute(delete(schema.tokens).where(schema.tokens.c.id == token.id))
    await connection.execute(insert(schema.tokens).values(row_of(token)))
    return await sql.write_note(connection, event)


async def drop(connection: AsyncConnection, token_id: str, event: Draft) -> bool:
    """Removes one, with its event; False: there is none."""
    gone = await connection.execute(delete(schema.tokens).where(schema.tokens.c.id == token_id))
    if gone.rowcount:
        await sql.write_note(connection, event)
    return bool(gone.rowcount)


def row_of(token: Token) -> dict[str, object]:
    """As it is stored."""
    return {**msgspec.structs.asdict(token), "roles": msgspec.json.encode(token.roles, order="sorted").decode()}
