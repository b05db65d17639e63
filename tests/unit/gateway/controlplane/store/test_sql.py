"""The statements, on a database in memory."""

from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from gateway.controlplane import audit
from gateway.controlplane.commands import Register, SetCanary
from gateway.controlplane.release import Fact, apply, unborn
from gateway.controlplane.store import Recalled, Request, schema, sql
from gateway.errors import Stale, StoreFailed

FIRST, (REGISTERED,) = apply(unborn("iris"), Register(1), 1)
SECOND, (RAMPED,) = apply(FIRST, SetCanary(2, 100), 2)


def event(fact: Fact, request_id: str = "") -> audit.Draft:
    return audit.draft(fact, actor="ada", reason="", request_id=request_id)


@pytest.fixture
async def connection() -> AsyncIterator[AsyncConnection]:
    engine = create_async_engine("sqlite+aiosqlite://")
    async with engine.begin() as made:
        await made.run_sync(schema.metadata.create_all)
        yield made
    await engine.dispose()


async def test_a_commit_writes_release_event_and_request(connection: AsyncConnection) -> None:
    first = await sql.write_commit(connection, 0, FIRST, event(REGISTERED), None)
    second = await sql.write_commit(connection, 1, SECOND, event(RAMPED, "id"), Request("id", "print"))
    assert (first, second) == (replace(FIRST, sequence=1), replace(SECOND, sequence=2))
    assert await sql.read_releases(connection) == {"iris": second}
    assert await sql.read_since(connection, 1) == [second]
    assert [await sql.read_revision(connection, "iris", number) for number in range(4)] == [None, first, second, None]
    assert [found.revision for found in await sql.read_events(connection, None, 10, None)] == [2, 1]
    assert [found.revision for found in await sql.read_events(connection, "iris", 1, 2)] == [1]
    assert await sql.read_recalled(connection, "id") == Recalled("print", second)
    assert await sql.read_recalled(connection, "other") is None


async def test_a_commit_needs_the_expected_revision(connection: AsyncConnection) -> None:
    await sql.write_commit(connection, 0, FIRST, event(REGISTERED), None)
    with pytest.raises(Stale, match="does not have revision 0 of iris"):
        await sql.write_commit(connection, 0, FIRST, event(REGISTERED), None)
    with pytest.raises(Stale, match="does not have revision 7 of iris"):
        await sql.write_commit(connection, 7, SECOND, event(RAMPED), None)


async def test_a_release_that_cannot_be_read_is_named(connection: AsyncConnection) -> None:
    await connection.execute(insert(schema.releases).values(model="iris", revision=1, sequence=1, body="{"))
    with pytest.raises(StoreFailed, match="stored release of iris cannot be read"):
        await sql.read_releases(connection)


async def test_a_note_takes_no_place_among_the_changes(connection: AsyncConnection) -> None:
    await sql.write_commit(connection, 0, FIRST, event(REGISTERED), None)
    for _ in range(2):
        noted = await sql.write_note(connection, replace(event(REGISTERED), kind=audit.REFUSAL))
    assert noted.sequence == 3
    assert (await sql.write_commit(connection, 1, SECOND, event(RAMPED), None)).sequence == 2
    assert audit.verify(reversed(await sql.read_events(connection, None, 10, None))) is None


async def test_what_is_stored_can_be_read_back(connection: AsyncConnection) -> None:
    release = replace(SECOND, sequence=9, paused=True)
    assert sql.release_of("iris", sql.body_of(release)) == release
