"""Which version a database has; a whole file of version 1: tests/integration/test_store.py."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from gateway.controlplane.store import schema
from gateway.controlplane.store.upgrade import EMPTY, upgrade, version


async def test_an_empty_database_gets_the_newest_tables() -> None:
    engine = create_async_engine("sqlite+aiosqlite://")
    async with engine.begin() as connection:
        assert await version(connection) == EMPTY
        await upgrade(connection, EMPTY)
        assert await version(connection) == schema.SCHEMA_VERSION
        await upgrade(connection, schema.SCHEMA_VERSION)
        assert (await connection.execute(text("SELECT count(*) FROM schema_version"))).scalar_one() == 1
    await engine.dispose()
