"""The statements about tokens, on a database in memory."""

from sqlalchemy.ext.asyncio import create_async_engine

from gateway.controlplane import audit
from gateway.controlplane.store import Token, schema, sql, tokens


async def test_tokens_are_written_with_their_events() -> None:
    event = audit.Draft(*(7, "ada", "create", "", 0, "", "", "", ""), kind=audit.ACCESS)
    token = Token("a", "00", {"wine": "viewer", "iris": "owner"}, "root", 1, 2, 3)
    engine = create_async_engine("sqlite+aiosqlite://")
    async with engine.begin() as connection:
        await connection.run_sync(schema.metadata.create_all)
        await tokens.put(connection, token, event)
        assert await tokens.read(connection) == [token]
        assert not await tokens.drop(connection, "b", event)
        assert await tokens.drop(connection, "a", event)
        assert await tokens.read(connection) == []
        assert len(await sql.read_events(connection, None, 10, None)) == 2
    await engine.dispose()
