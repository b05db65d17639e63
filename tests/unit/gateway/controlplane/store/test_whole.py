"""All of a database in memory as records, and back; a dump amid changes: tests/integration/test_store.py."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from gateway.controlplane import audit
from gateway.controlplane.commands import Command, Register, SetCanary
from gateway.controlplane.release import apply, unborn
from gateway.controlplane.store import Request, backup, schema, sql, whole
from gateway.errors import InvalidRequest, Refused


@pytest.fixture
async def connection() -> AsyncIterator[AsyncConnection]:
    engine = create_async_engine("sqlite+aiosqlite://")
    async with engine.begin() as made:
        await made.run_sync(schema.metadata.create_all)
        yield made
    await engine.dispose()


async def records(connection: AsyncConnection) -> list[backup.Record]:
    async def transact(work: Callable[[AsyncConnection], Awaitable[Any]]) -> Any:
        return await work(connection)

    return [record async for record in whole.records(transact)]


async def fill(connection: AsyncConnection) -> None:
    for model in ("iris", "wine"):
        release = unborn(model)
        commands: list[Command] = [Register(1), *(SetCanary(2, share) for share in range(1, 12))]
        for command in commands:
            release, (fact,) = apply(release, command, 1)
            event = audit.draft(fact, actor="ada", reason="", request_id=f"{model}-{release.revision}")
            request = Request(event.request_id, "print")
            await sql.write_commit(connection, release.revision - 1, release, event, request)


async def test_everything_is_read_in_pages_and_written(
    connection: AsyncConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole, "PAGE", 5)
    await fill(connection)
    found, releases = await records(connection), await sql.read_releases(connection)
    kinds = [type(record) for record in found]
    assert [kinds.count(kind) for kind in (backup.Answered, backup.Revision, backup.Event)] == [24, 24, 24]
    with pytest.raises(Refused, match="not empty"):
        await whole.write(connection, found)
    for table in schema.metadata.sorted_tables:
        await connection.execute(table.delete())
    assert await records(connection) == []
    await whole.write(connection, reversed(found))
    assert await sql.read_releases(connection) == releases
    assert await records(connection) == found


async def test_what_is_there_twice_is_refused(connection: AsyncConnection) -> None:
    await fill(connection)
    found = await records(connection)
    for table in schema.metadata.sorted_tables:
        await connection.execute(table.delete())
    with pytest.raises(InvalidRequest, match="the backup names something twice"):
        await whole.write(connection, [*found, found[-1]])
