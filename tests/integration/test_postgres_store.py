"""What only a store on a server can meet: several gateways, and a server that goes, is silent or lets nobody in."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.controlplane import audit
from gateway.controlplane.commands import SetCanary
from gateway.controlplane.release import apply
from gateway.controlplane.store import driver, schema, sql
from gateway.controlplane.store import postgres as module
from gateway.controlplane.store.members import Report
from gateway.controlplane.store.postgres import LOCK, WAITERS, PostgresStore
from gateway.controlplane.store.postgresmembers import PostgresMembers
from gateway.controlplane.store.sqlite import SqliteStore
from gateway.errors import Stale, StartupError, StoreFailed
from tests.integration.changes import chain, commit, fill
from tests.postgres import Server
from tests.wire import Wire


@pytest.fixture
async def store(emptied: str) -> AsyncIterator[PostgresStore]:
    made = PostgresStore(emptied)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def wire(postgres: Server) -> AsyncIterator[Wire]:
    async with Wire(postgres.port) as made:
        yield made


@pytest.fixture
async def far(emptied: str, postgres: Server, wire: Wire) -> AsyncIterator[PostgresStore]:
    """A store at the other end of a wire."""
    made = PostgresStore(emptied.replace(str(postgres.port), str(wire.port)))
    await made.open()
    yield made
    await made.close()


def differences(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(connection)
    return [each for each in compare_metadata(context, schema.metadata) if each[1].name != schema.schema.name]


async def test_the_steps_lead_to_the_tables_of_the_schema(store: PostgresStore) -> None:
    assert await store.run(lambda db: db.run_sync(differences)) == []


async def test_gateways_that_start_together_make_the_tables_once(database: str) -> None:
    stores = [PostgresStore(database) for _ in range(4)]
    await asyncio.gather(*(store.open() for store in stores))
    models = await asyncio.gather(*(fill(store, f"model-{number}") for number, store in enumerate(stores)))
    for store in stores:
        assert await store.releases() == {release.model: release for release in models}
        events = await chain(store)
        assert len(events) == 16
        assert audit.verify(events) is None
        await store.close()


async def test_of_two_gateways_that_change_the_same_revision_one_is_late(store: PostgresStore, emptied: str) -> None:
    release = await fill(store)
    other = PostgresStore(emptied)
    await other.open()
    made = await asyncio.gather(
        commit(store, release, SetCanary(3, 400)), commit(other, release, SetCanary(3, 500)), return_exceptions=True
    )
    assert sorted(type(each).__name__ for each in made) == ["Release", "Stale"]
    assert any(isinstance(each, Stale) for each in made)
    assert len(await chain(store)) == 5
    await other.close()


async def test_a_newer_schema_stops_the_start(database: str) -> None:
    store = PostgresStore(database)
    await store.open()
    await store.run(lambda db: db.execute(text("UPDATE alembic_version SET version_num = '99'")))
    await store.close()
    with pytest.raises(StartupError, match=r"newer Cutover \(schema 99, this one knows 2\).*store.url"):
        await store.open()


async def test_why_a_start_fails_is_told_with_the_remedy(postgres: Server, database: str, tmp_path: Path) -> None:
    user = postgres.create_user("s3cret")
    (tmp_path / "wrong").write_text("no")
    there = database.replace("postgres@", f"{user}@")
    for url, file, said in (
        (there, tmp_path / "wrong", "password authentication failed.*give the password by store.password_file"),
        (there, tmp_path / "none", "password cannot be read .*: correct store.password_file"),
        (database + "0", None, "does not exist; create the database, or correct store.url"),
        ("postgresql://127.0.0.1:1/x", None, "start PostgreSQL, or correct store.url"),
    ):
        with pytest.raises(StartupError, match=said) as raised:
            await PostgresStore(url, file).open()
        assert "\n" not in str(raised.value)
        assert user not in str(raised.value).partition(": ")[0]


async def test_the_password_is_read_from_its_file_again_for_every_connection(
    postgres: Server, database: str, tmp_path: Path
) -> None:
    user = postgres.create_user("s3cret")
    (tmp_path / "password").write_text("s3cret\n")
    store = PostgresStore(database.replace("postgres@", f"{user}@"), tmp_path / "password")
    await store.open()
    postgres.psql(f"ALTER ROLE {user} PASSWORD 'other'")
    (tmp_path / "password").write_text("other")
    await store.close()
    await store.open()
    assert await store.releases() == {}
    await store.close()


async def test_a_server_can_be_reached_by_its_unix_socket(postgres: Server, emptied: str) -> None:
    name = emptied.rpartition("/")[2]
    store = PostgresStore(f"postgresql:///{name}?host={postgres.folder}&port={postgres.port}&user=postgres")
    await store.open()
    release = await fill(store)
    assert await store.releases() == {"iris": release}
    await store.close()


async def test_what_is_acknowledged_is_on_disk_whatever_the_server_does_by_default(
    postgres: Server, database: str
) -> None:
    name = database.rpartition("/")[2]
    postgres.psql(f"ALTER DATABASE {name} SET synchronous_commit = off")
    store = PostgresStore(database)
    await store.open()
    shown = await store.run(lambda db: db.execute(text("SHOW synchronous_commit")))
    assert shown.scalar_one() == "on"
    await store.close()


async def test_a_restart_of_the_server_fails_no_change_after_it(own_postgres: Server) -> None:
    store = PostgresStore(own_postgres.url())
    await store.open()
    release = await fill(store)
    await asyncio.to_thread(own_postgres.kill)
    with pytest.raises(StoreFailed, match=r"postgresql://127\.0\.0\.1:"):
        await store.releases()
    await asyncio.to_thread(own_postgres.start)
    release = await commit(store, release, SetCanary(3, 400))
    assert await store.releases() == {"iris": release}
    assert audit.verify(await chain(store)) is None
    await store.close()


async def test_a_cut_connection_fails_what_was_under_way(far: PostgresStore, wire: Wire) -> None:
    release = await fill(far)

    async def cut(connection: AsyncConnection) -> None:
        wire.cut()
        await connection.execute(text("SELECT 1"))

    with pytest.raises(StoreFailed):
        await far.run(cut)
    release = await commit(far, release, SetCanary(3, 400))
    wire.cut(refuse=True)
    with pytest.raises(StoreFailed):
        await commit(far, release, SetCanary(3, 500))
    wire.restore()
    assert await far.releases() == {"iris": release}


async def test_a_silent_server_is_given_up(far: PostgresStore, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "CONNECT_S", 0.2)
    monkeypatch.setattr(driver, "STATEMENT_S", 0.2)
    await far.close()
    await far.open()
    release = await fill(far)
    wire.silence()
    with pytest.raises(StoreFailed, match="does not answer"):
        await commit(far, release, SetCanary(3, 400))
    with pytest.raises(StoreFailed, match="does not answer"):
        await far.releases()
    wire.restore()
    found = (await far.releases())["iris"]
    assert found.revision in (4, 5), "it may have been kept"
    await commit(far, found, SetCanary(3, 600))
    assert audit.verify(await chain(far)) is None


@pytest.mark.parametrize(("breakage", "kept"), [("silent", False), ("deaf", True), ("cut", False)])
async def test_a_commit_without_an_answer_was_made_or_was_not(
    far: PostgresStore, wire: Wire, monkeypatch: pytest.MonkeyPatch, breakage: str, kept: bool
) -> None:
    """Whichever it was: what is read afterwards stays."""
    monkeypatch.setattr(driver, "STATEMENT_S", 0.2)
    monkeypatch.setitem(driver.SETTINGS, "idle_in_transaction_session_timeout", "100")
    await far.close()
    await far.open()
    release = await fill(far)
    after, (fact,) = apply(release, SetCanary(3, 400), now_ms=1)
    event = audit.draft(fact, actor="ada", reason="", request_id="")

    async def change(connection: AsyncConnection) -> None:
        await sql.write_commit(connection, release.revision, after, event, None)
        if breakage == "cut":
            wire.cut()
        else:
            wire.silence(answers_only=breakage == "deaf")

    with pytest.raises(StoreFailed):
        await far.run(change, alone=True)
    wire.restore()
    found = (await far.releases())["iris"]
    assert found.revision == release.revision + kept
    assert len(await chain(far)) == found.revision
    assert (await commit(far, found, SetCanary(3, 600))).sequence == found.sequence + 1


async def test_a_gateway_that_stands_still_in_a_change_is_put_out(
    emptied: str, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(driver.SETTINGS, "idle_in_transaction_session_timeout", "50")
    still = PostgresStore(emptied)
    await still.open()
    locked, go_on = asyncio.Event(), asyncio.Event()

    async def stand(_: AsyncConnection) -> None:
        locked.set()
        await go_on.wait()

    standing = asyncio.get_running_loop().create_task(still.run(stand, alone=True))
    await locked.wait()
    await fill(store)
    go_on.set()
    with pytest.raises(StoreFailed):
        await standing
    await still.close()


async def test_who_waits_too_long_for_its_turn_is_told_that_nothing_was_kept(
    emptied: str, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = await fill(store)
    monkeypatch.setitem(driver.SETTINGS, "lock_timeout", "50")
    other = PostgresStore(emptied)
    await other.open()

    async def meanwhile(_: AsyncConnection) -> None:
        with pytest.raises(StoreFailed, match="lock timeout"):
            await commit(other, release, SetCanary(3, 400))

    await store.run(meanwhile, alone=True)
    assert await store.releases() == {"iris": release}
    await other.close()


async def test_who_stands_still_in_a_change_keeps_no_gateway_from_renewing_its_row(
    store: PostgresStore, emptied: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    still = PostgresStore(emptied)
    await still.open()
    members = PostgresMembers(store)
    await members.join("b", "1", Report())
    monkeypatch.setattr(module, "STATEMENT_S", 0.2)
    waiting: list[asyncio.Task[Any]] = []

    async def meanwhile(_: AsyncConnection) -> None:
        waiting.extend(asyncio.get_running_loop().create_task(store.recall(f"id-{one}")) for one in range(8))
        await asyncio.wait(waiting[WAITERS:])
        assert all("too many changes wait" in str(one.exception()) for one in waiting[WAITERS:])
        assert await members.beat("b", "1", Report())

    await still.run(meanwhile, alone=True)
    assert await asyncio.gather(*waiting[:WAITERS]) == [None] * WAITERS
    await still.close()


async def test_a_whole_copy_moves_from_a_file_to_a_server_and_back(store: PostgresStore, tmp_path: Path) -> None:
    source, target = SqliteStore(tmp_path / "a.db"), SqliteStore(tmp_path / "b.db")
    for each in (source, target):
        await each.open()
    await fill(source)
    await store.load([line async for line in source.dump()])
    await target.load([line async for line in store.dump()])
    assert [line async for line in target.dump()] == [line async for line in source.dump()]
    for each in (source, target):
        await each.close()


def test_the_lock_is_a_number_of_the_database() -> None:
    assert 0 < LOCK < 2**63
