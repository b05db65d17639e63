"""What only a store in a file can meet."""

import asyncio
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.controlplane import audit
from gateway.controlplane.commands import SetCanary
from gateway.controlplane.store.sqlite import SqliteStore
from gateway.errors import StartupError, StoreFailed
from gateway.routing.snapshot import Policy, Release, Shadow
from tests.integration.changes import chain, commit, fill
from tests.integration.disk import put
from tests.integration.version_1 import version_1


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(tmp_path / "cutover.db", busy_timeout_s=0.01)
    await made.open()
    yield made
    await made.close()


async def test_a_reopened_store_has_everything(sqlite: SqliteStore, tmp_path: Path) -> None:
    release = await fill(sqlite)
    await sqlite.close()
    await sqlite.open()
    assert await sqlite.releases() == {"iris": release}
    await commit(sqlite, release, SetCanary(3, 400))
    assert audit.verify(await chain(sqlite)) is None


async def test_commits_are_synced_and_the_file_is_held_alone(sqlite: SqliteStore) -> None:
    assert sqlite._engine is not None
    async with sqlite._engine.connect() as connection:
        found = {}
        for pragma in ("journal_mode", "synchronous", "locking_mode", "foreign_keys"):
            found[pragma] = (await connection.exec_driver_sql(f"PRAGMA {pragma}")).scalar_one()
    assert found == {"journal_mode": "wal", "synchronous": 2, "locking_mode": "exclusive", "foreign_keys": 1}


async def test_transactions_begin_immediately(sqlite: SqliteStore) -> None:
    said: list[str] = []
    assert sqlite._engine is not None

    def listen(_connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        said.append(statement.split(maxsplit=1)[0])

    sqlalchemy_event.listen(sqlite._engine.sync_engine, "before_cursor_execute", listen)
    await fill(sqlite)
    assert said[0] == "BEGIN"
    assert said.count("BEGIN") == 4


async def test_what_a_change_costs_does_not_grow_with_the_refusals_in_the_audit_log(sqlite: SqliteStore) -> None:
    said: list[tuple[str, tuple[Any, ...]]] = []
    assert sqlite._engine is not None

    def listen(_connection: Connection, _cursor: object, statement: str, values: tuple[Any, ...], *_: object) -> None:
        said.append((statement, values))

    sqlalchemy_event.listen(sqlite._engine.sync_engine, "before_cursor_execute", listen)
    await fill(sqlite)
    forgetting = next(one for one in said if one[0].startswith("DELETE"))

    async def plan(connection: AsyncConnection) -> str:
        return str((await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {forgetting[0]}", forgetting[1])).all())

    assert "SEARCH audit USING INDEX audit_by_kind" in await sqlite._transact(plan)


async def test_two_gateways_cannot_share_a_file(sqlite: SqliteStore, tmp_path: Path) -> None:
    second = SqliteStore(tmp_path / "cutover.db", busy_timeout_s=0.01)
    with pytest.raises(StartupError, match=r"cutover.db: database is locked; another gateway uses it.*--state"):
        await second.open()
    await second.close()


async def test_a_full_disk_fails_the_commit_and_nothing_else(sqlite: SqliteStore) -> None:
    release = await fill(sqlite)
    assert sqlite._engine is not None
    async with sqlite._engine.connect() as connection:
        pages = (await connection.exec_driver_sql("PRAGMA page_count")).scalar_one()
        await connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    failed = None
    while failed is None:
        try:
            release = await commit(sqlite, release, SetCanary(3, 1 + release.revision))
        except StoreFailed as error:
            failed = str(error)
    assert "full" in failed
    assert await sqlite.releases() == {"iris": release}
    async with sqlite._engine.connect() as connection:
        await connection.exec_driver_sql("PRAGMA max_page_count=100000")
    await commit(sqlite, release, SetCanary(3, 9_000))
    assert audit.verify(await chain(sqlite)) is None


async def test_a_file_replaced_while_in_use_takes_no_more_commits(sqlite: SqliteStore, tmp_path: Path) -> None:
    release = await fill(sqlite)
    shutil.copy(tmp_path / "cutover.db", tmp_path / "backup")
    (tmp_path / "backup").replace(tmp_path / "cutover.db")
    with pytest.raises(StoreFailed, match="replaced or removed while in use: restart"):
        await commit(sqlite, release, SetCanary(3, 400))


async def test_a_closed_store_says_so(sqlite: SqliteStore) -> None:
    await sqlite.close()
    with pytest.raises(StoreFailed, match="closed"):
        await sqlite.releases()


async def refused(path: Path, match: str) -> None:
    store = SqliteStore(path, busy_timeout_s=0.01)
    with pytest.raises(StartupError, match=match) as caught:
        await store.open()
    assert "\n" not in str(caught.value)
    await until_threads_have_ended()


async def until_threads_have_ended() -> None:
    # aiosqlite's thread of a connection that failed ends by itself, but wants this loop for its last word.
    for thread in threading.enumerate():
        if "_connection_worker_thread" in thread.name:
            await asyncio.to_thread(thread.join)


async def test_a_file_that_is_no_database_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "cutover.db").write_text("dear diary " * 1_000)
    await refused(tmp_path / "cutover.db", r"cutover.db: file is not a database; restore it from a backup")


async def test_a_truncated_database_stops_the_start(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "cutover.db")
    await store.open()
    await fill(store)
    await store.close()
    with (tmp_path / "cutover.db").open("rb+") as file:
        file.truncate(9_000)
    await refused(tmp_path / "cutover.db", r"malformed; restore it from a backup")


async def test_a_directory_instead_of_the_file_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "cutover.db").mkdir()
    await refused(
        tmp_path / "cutover.db", r"unable to open database file; name a directory that can be written.*--state"
    )


async def test_a_file_instead_of_the_directory_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    await refused(tmp_path / "state" / "cutover.db", r"state directory .*state cannot be made \(File exists\).*--state")


async def test_a_file_of_version_1_is_brought_up_to_date(tmp_path: Path) -> None:
    events = version_1(tmp_path / "cutover.db")
    for _ in range(2):  # and opened again
        store = SqliteStore(tmp_path / "cutover.db")
        await store.open()
        policy = Policy(1, shadows=(Shadow(2, 0.25),))
        iris, wine = (Release(model, 2, policy, None, 7, sequence=n) for model, n in (("iris", 2), ("wine", 4)))
        assert await store.releases() == {"iris": iris, "wine": wine}
        assert await store.since(2) == [wine]
        assert [await store.revision("iris", number) for number in (1, 2)] == [None, iris]
        assert await chain(store) == events
        recalled = await store.recall("wine-2")
        assert recalled is not None
        assert recalled.release.policy == policy
        await store.close()
    await store.open()
    assert (await commit(store, iris, SetCanary(3, 400))).sequence == 5
    assert audit.verify(await chain(store)) is None
    await store.close()


async def test_an_upgrade_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    version_1(tmp_path / "cutover.db")
    file = sqlite3.connect(tmp_path / "cutover.db")
    with file:
        file.execute("UPDATE releases SET body = '{' WHERE model = 'wine'")
    before = list(file.iterdump())
    file.close()
    await refused(tmp_path / "cutover.db", "stored release of .* cannot be read.*restore it from a backup")
    file = sqlite3.connect(tmp_path / "cutover.db")
    assert list(file.iterdump()) == before
    file.close()


async def test_a_newer_schema_stops_the_start(sqlite: SqliteStore, tmp_path: Path) -> None:
    await sqlite.close()
    with sqlite3.connect(tmp_path / "cutover.db") as connection:
        connection.execute("UPDATE schema_version SET version = 99")
    connection.close()
    await refused(tmp_path / "cutover.db", r"newer Cutover \(schema 99, this one knows 2\)")


async def test_an_unreadable_release_stops_the_start(sqlite: SqliteStore, tmp_path: Path) -> None:
    await fill(sqlite)
    await sqlite.close()
    with sqlite3.connect(tmp_path / "cutover.db") as connection:
        connection.execute("""UPDATE releases SET body = '{"model": 7}'""")
    connection.close()
    await refused(tmp_path / "cutover.db", r"stored release of iris cannot be read.*restore it from a backup")


async def test_a_release_that_was_changed_behind_the_audit_log_stops_the_start(
    sqlite: SqliteStore, tmp_path: Path
) -> None:
    await fill(sqlite)
    await sqlite.close()
    with sqlite3.connect(tmp_path / "cutover.db") as connection:
        connection.execute("UPDATE releases SET body = replace(body, '700', '701')")
    connection.close()
    await refused(tmp_path / "cutover.db", "stored release of iris cannot be read: the audit log tells of another one")


@pytest.mark.parametrize("seed", range(3))
async def test_a_damaged_file_stops_the_start_or_has_every_release_as_it_was(
    sqlite: SqliteStore, tmp_path: Path, seed: int
) -> None:
    """Of any byte that is another one: nothing else is served than what was acknowledged."""
    chance = random.Random(seed)  # noqa: S311 - the same each time
    release = await fill(sqlite)
    await sqlite.close()
    whole = (tmp_path / "cutover.db").read_bytes()
    for _ in range(20):
        damaged = bytearray(whole)
        for at in (chance.randrange(len(whole)) for _ in range(8)):
            damaged[at] ^= 1 << chance.randrange(8)
        put({"cutover.db": damaged}, tmp_path)
        try:
            await sqlite.open()
        except StartupError:
            await until_threads_have_ended()
        else:
            assert await sqlite.releases() == {"iris": release}
            await sqlite.close()


def kill_in_the_middle(path: Path, commits: int) -> int:
    """The last acknowledged revision of a process that was killed after that many commits of its own."""
    command = [sys.executable, "-m", "tests.integration.store_victim", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as victim:
        assert victim.stdout is not None
        said = [int(victim.stdout.readline()) for _ in range(commits)]
        victim.send_signal(signal.SIGKILL)
        return max(said + [int(line) for line in victim.stdout])


@pytest.mark.parametrize("commits", [7, pytest.param(30, marks=pytest.mark.slow)])
async def test_kill_loses_nothing_that_was_acknowledged(tmp_path: Path, commits: int) -> None:
    for _ in range(2):
        acknowledged = kill_in_the_middle(tmp_path / "cutover.db", commits)
        store = SqliteStore(tmp_path / "cutover.db")
        await store.open()
        release, events = (await store.releases())["iris"], await chain(store)
        # One more commit than was acknowledged may have been kept: the process died before it could say so.
        assert acknowledged <= release.revision <= acknowledged + 1
        assert len(events) == release.revision
        assert audit.verify(events) is None
        recalled = await store.recall(f"request-{acknowledged}")
        assert recalled is not None
        assert recalled.release.revision == acknowledged
        await store.close()
