"""One suite for every store, and what only a store on disk can meet."""

import asyncio
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy.engine import Connection

from gateway.controlplane import audit
from gateway.controlplane.commands import Command, Register, SetCanary, SetShadow
from gateway.controlplane.release import apply, unborn
from gateway.controlplane.store import Request, Store, Token, memory, sql, whole
from gateway.controlplane.store.memory import MemoryStore
from gateway.controlplane.store.sqlite import SqliteStore
from gateway.errors import InvalidRequest, Refused, Stale, StartupError, StoreFailed
from gateway.routing.snapshot import Policy, Release, Shadow
from tests.integration.version_1 import version_1

CHANGES: tuple[Command, ...] = (Register(1), SetShadow(2, 0.25), SetCanary(2, 700), SetCanary(3, 300))


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    made: Store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "state" / "cutover.db")
    await made.open()
    yield made
    await made.close()


async def commit(store: Store, release: Release, command: Command, request: Request | None = None) -> Release:
    after, (fact,) = apply(release, command, now_ms=1_000 + release.revision)
    request_id = request.request_id if request else ""
    event = audit.draft(fact, actor="ada", reason="Ünïcødé 😊", request_id=request_id)
    placed = await store.commit(release.revision, after, event, request)
    assert placed == msgspec.structs.replace(after, sequence=placed.sequence)
    return placed


async def fill(store: Store, model: str = "iris") -> Release:
    release = unborn(model)
    for command in CHANGES:
        release = await commit(store, release, command, Request(f"{model}-{release.revision}", "print"))
    return release


async def chain(store: Store) -> list[audit.AuditEvent]:
    return list(reversed(await store.events(None, 10_000, None)))


async def test_an_empty_store_has_nothing(store: Store) -> None:
    assert await store.releases() == {}
    assert await store.events(None, 10, None) == []
    assert await store.recall("never") is None


async def test_what_is_committed_can_be_read_whole(store: Store) -> None:
    iris, wine = await fill(store), await fill(store, "wine")
    assert await store.releases() == {"iris": iris, "wine": wine}
    recalled = await store.recall("iris-3")
    assert recalled == ("print", iris)


async def test_events_form_a_chain_over_all_models(store: Store) -> None:
    await fill(store)
    await fill(store, "wine")
    events = await chain(store)
    assert [event.sequence for event in events] == list(range(1, 9))
    assert audit.verify(events) is None
    assert events[0].before == ""
    assert events[1].before == events[0].after
    assert events[0].reason == "Ünïcødé 😊"


async def test_events_come_newest_first_in_pages_and_by_model(store: Store) -> None:
    await fill(store)
    await fill(store, "wine")
    assert [event.sequence for event in await store.events(None, 3, None)] == [8, 7, 6]
    assert [event.sequence for event in await store.events(None, 3, 6)] == [5, 4, 3]
    assert [event.sequence for event in await store.events("iris", 3, None)] == [4, 3, 2]
    assert [event.sequence for event in await store.events("iris", 3, 2)] == [1]
    assert await store.events("iris", 3, 1) == []
    assert await store.events("nobody", 3, None) == []


@pytest.mark.parametrize("revision", [0, 3, 5])
async def test_a_commit_on_another_revision_is_stale_and_changes_nothing(store: Store, revision: int) -> None:
    release = await fill(store)
    after, (fact,) = apply(release, SetCanary(3, 400), now_ms=1)
    event = audit.draft(fact, actor="ada", reason="", request_id="late")
    with pytest.raises(Stale, match="revision"):
        await store.commit(revision, after, event, Request("late", "print"))
    assert await store.releases() == {"iris": release}
    assert len(await chain(store)) == 4
    assert await store.recall("late") is None


async def test_only_the_newest_request_ids_are_remembered(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the order of changes, whatever the clock says: those of `wine` are of the same time as those of `iris`."""
    for module in (memory, sql):
        monkeypatch.setattr(module, "REMEMBERED", 5)
    wine = await fill(store, "wine")
    await fill(store)
    recalled = [await store.recall(f"{model}-{number}") for model in ("wine", "iris") for number in range(4)]
    assert [one is not None for one in recalled] == [False] * 3 + [True] * 5
    wine = await commit(store, wine, SetCanary(3, 400))
    await commit(store, wine, SetCanary(3, 500), Request("wine-0", "print"))
    recalled = [await store.recall(request_id) for request_id in ("wine-3", "iris-0", "iris-1", "iris-3", "wine-0")]
    assert [one is not None for one in recalled] == [False, False, True, True, True]
    assert len(await chain(store)) == 10, "the audit log keeps all"


async def test_a_request_id_is_carried_out_once(store: Store) -> None:
    release = await fill(store)
    with pytest.raises(Stale, match="iris-0 was carried out already"):
        await commit(store, release, SetCanary(3, 400), Request("iris-0", "print"))
    assert await store.releases() == {"iris": release}
    assert len(await chain(store)) == 4


async def test_commits_at_the_same_time_are_kept_one_after_another(store: Store) -> None:
    await asyncio.gather(*(fill(store, f"model-{number}") for number in range(5)))
    events = await chain(store)
    assert len(events) == 20
    assert audit.verify(events) is None


async def test_a_cancelled_caller_does_not_break_the_store(store: Store) -> None:
    release = await fill(store)
    waiting = [asyncio.get_running_loop().create_task(chain(store)) for _ in range(5)]
    waiting.append(asyncio.get_running_loop().create_task(commit(store, release, SetCanary(3, 400))))  # type: ignore[arg-type]  # the results do not matter
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    events = await chain(store)
    assert audit.verify(events) is None
    assert (await store.releases())["iris"].revision == len(events)


async def test_changes_of_all_models_have_one_order(store: Store) -> None:
    iris, wine = await fill(store), await fill(store, "wine")
    assert (iris.sequence, wine.sequence) == (4, 8)
    assert await store.since(0) == [iris, wine]
    iris = await commit(store, iris, SetCanary(3, 400))
    assert await store.since(4) == [wine, iris]
    assert await store.since(8) == [iris]
    assert await store.since(9) == []


async def test_every_revision_can_be_read_as_it_was(store: Store) -> None:
    newest = await fill(store)
    found = [await store.revision("iris", number) for number in range(1, 5)]
    assert [release and (release.revision, release.sequence) for release in found] == [(n, n) for n in range(1, 5)]
    assert found[3] == newest
    assert await store.revision("iris", 5) is None
    assert await store.revision("wine", 1) is None


async def test_revisions_are_listed_newest_first(store: Store) -> None:
    newest = await fill(store)
    await fill(store, "wine")
    found = await store.revisions("iris", 3, None)
    assert [(release.model, release.revision) for release in found] == [("iris", 4), ("iris", 3), ("iris", 2)]
    assert found[0] == newest
    assert [release.revision for release in await store.revisions("iris", 3, 2)] == [1]
    assert await store.revisions("digits", 3, None) == []


async def test_notes_are_links_of_the_chain_and_no_changes(store: Store) -> None:
    release = await fill(store)
    refusal = audit.Draft(*(7, "eve", "flip", "iris", 4, "PERMISSION_DENIED", "", "", ""), kind=audit.REFUSAL)
    noted = [await store.note(refusal) for _ in range(3)]
    assert [event.sequence for event in noted] == [5, 6, 7]
    assert (await store.events("iris", 1, None)) == [noted[2]]
    assert await store.releases() == {"iris": release}
    assert (await commit(store, release, SetCanary(3, 400))).sequence == 5
    events = await chain(store)
    assert [event.kind for event in events] == ["change"] * 4 + ["refusal"] * 3 + ["change"]
    assert audit.verify(events) is None


async def test_notes_do_not_make_the_store_forget_requests(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (memory, sql):
        monkeypatch.setattr(module, "REMEMBERED", 5)
    release = await fill(store)
    for _ in range(6):
        await store.note(audit.Draft(*(7, "eve", "flip", "iris", 4, "", "", "", ""), kind=audit.REFUSAL))
    await commit(store, release, SetCanary(3, 400), Request("later", "print"))
    assert [await store.recall(f"iris-{number}") is not None for number in range(4)] == [True] * 4


def access(verb: str) -> audit.Draft:
    return audit.Draft(*(7, "ada", verb, "", 0, "", "", "", ""), kind=audit.ACCESS)


async def test_tokens_come_and_go_with_their_events(store: Store) -> None:
    ada = Token("a", "00", {"*": "owner"}, "root", 1)
    eve = Token("e", "11", {"iris": "viewer", "wine": "operator"}, "ada", 2, 9)
    for token in (eve, ada):
        assert (await store.put_token(token, access("create"))).kind == audit.ACCESS
    assert await store.tokens() == [ada, eve]
    revoked = msgspec.structs.replace(eve, revoked_ms=5)
    await store.put_token(revoked, access("revoke"))
    assert await store.tokens() == [ada, revoked]
    assert await store.drop_token("a", access("drop"))
    assert not await store.drop_token("a", access("drop"))
    assert await store.tokens() == [revoked]
    assert [event.verb for event in await chain(store)] == ["create", "create", "revoke", "drop"]
    assert audit.verify(await chain(store)) is None


async def filled_for_a_backup(store: Store) -> Release:
    wine = await fill(store, "wine")
    iris = await fill(store)
    await store.put_token(Token("a", "00", {"*": "owner"}, "root", 1), access("create"))
    await commit(store, wine, SetCanary(3, 400))
    return iris


async def test_what_was_dumped_can_be_loaded(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "PAGE", 3)
    iris = await filled_for_a_backup(store)
    lines = [line async for line in store.dump()]
    others: tuple[Store, ...] = (MemoryStore(), SqliteStore(tmp_path / "other.db"))
    for other in others:
        await other.open()
        await other.load(lines)
        assert await other.releases() == await store.releases()
        assert await other.revision("iris", 2) == await store.revision("iris", 2)
        assert await chain(other) == await chain(store)
        assert await other.tokens() == await store.tokens()
        assert await other.recall("iris-3") == ("print", iris)
        assert (await commit(other, iris, SetCanary(3, 500))).sequence == 10
        with pytest.raises(Refused, match="not empty"):
            await other.load(lines)
        await other.close()


async def test_what_is_not_a_whole_backup_changes_nothing(store: Store) -> None:
    source = MemoryStore()
    iris = await filled_for_a_backup(source)
    lines = [line async for line in source.dump()]
    for broken in ([], lines[:-1], lines[1:], lines[:3] + lines[4:], [*lines, lines[1]], [*lines[:5], b"{}\n"]):
        with pytest.raises(InvalidRequest, match="backup"):
            await store.load(broken)
        assert await store.releases() == {}
        assert await store.events(None, 10, None) == []
    await store.load(lines)
    assert (await store.releases())["iris"] == iris


async def test_a_dump_is_of_one_moment(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "PAGE", 3)
    release = await fill(store)
    dump = store.dump()
    lines = [await anext(dump), await anext(dump)]
    await commit(store, release, SetCanary(3, 400))
    lines += [line async for line in dump]
    other = MemoryStore()
    await other.load(lines)
    assert await other.releases() == {"iris": release}
    assert len(await chain(other)) == 4


async def test_the_order_of_changes_may_leap(store: Store) -> None:
    release = await fill(store)
    after, (fact,) = apply(release, SetCanary(3, 400), now_ms=1)
    leapt = msgspec.structs.replace(after, revision=70, sequence=900)
    event = msgspec.structs.replace(audit.draft(fact, actor="ada", reason="", request_id=""), revision=70)
    assert await store.commit(release.revision, leapt, event, None) == leapt
    assert (await commit(store, leapt, SetCanary(3, 500))).sequence == 901
    assert audit.verify(await chain(store)) is None


async def test_close_may_come_twice(store: Store) -> None:
    await store.close()
    await store.close()


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


def kill_in_the_middle(path: Path, commits: int) -> int:
    """The last acknowledged revision of a process that was killed after that many commits of its own."""
    command = [sys.executable, "-m", "tests.integration.store_victim", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as victim:
        assert victim.stdout is not None
        said = [int(victim.stdout.readline()) for _ in range(commits)]
        victim.send_signal(signal.SIGKILL)
        return max(said + [int(line) for line in victim.stdout])


@pytest.mark.parametrize("commits", [1, 7, 30])
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
