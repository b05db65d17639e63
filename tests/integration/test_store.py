"""One suite for every store. What only one of them can meet: test_sqlite_store.py, test_postgres_store.py."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from gateway.controlplane import audit
from gateway.controlplane.commands import Register, SetCanary, SetOverrides
from gateway.controlplane.release import apply, unborn
from gateway.controlplane.store import Request, Store, Token, memory, sql, whole
from gateway.controlplane.store.memory import MemoryStore
from gateway.controlplane.store.postgres import PostgresStore
from gateway.controlplane.store.sqlite import SqliteStore
from gateway.errors import InvalidRequest, Refused, Stale
from gateway.routing.snapshot import Release
from tests.integration.changes import access, chain, commit, fill


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    made: Store
    match request.param:
        case "memory":
            made = MemoryStore()
        case "sqlite":
            made = SqliteStore(tmp_path / "state" / "cutover.db")
        case _:
            made = PostgresStore(request.getfixturevalue("emptied"))
    await made.open()
    yield made
    await made.close()


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


async def test_overrides_come_and_go_and_are_told_of(store: Store) -> None:
    release = await fill(store)
    for command in (SetOverrides({"u": "stable", "v": "canary-2"}), SetOverrides({}, ("u",)), SetOverrides({}, ("v",))):
        release = await commit(store, release, command)
        await store.close()
        await store.open()
        assert await store.releases() == {"iris": release}


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


async def test_first_releases_are_kept_together_or_not_at_all(store: Store) -> None:
    await fill(store)

    def births(*models: str) -> list[tuple[Release, audit.Draft]]:
        made = [apply(unborn(model), Register(1), now_ms=1) for model in models]
        return [(after, audit.draft(fact, actor="ada", reason="", request_id="")) for after, (fact,) in made]

    placed = await store.enrol(births("a", "b", "c"))
    assert [(release.model, release.revision, release.sequence) for release in placed] == [
        ("a", 1, 5),
        ("b", 1, 6),
        ("c", 1, 7),
    ]
    assert [await store.revision(release.model, 1) for release in placed] == placed
    before = await store.releases()
    assert set(before) == {"a", "b", "c", "iris"}
    with pytest.raises(Stale, match="already"):
        await store.enrol(births("d", "iris", "e"))
    assert await store.releases() == before
    events = await chain(store)
    assert (len(events), audit.verify(events)) == (7, None)
    assert await store.enrol([]) == []


async def test_a_cancelled_caller_does_not_break_the_store(store: Store) -> None:
    release = await fill(store)
    waiting = [asyncio.get_running_loop().create_task(chain(store)) for _ in range(5)]
    waiting.append(asyncio.get_running_loop().create_task(commit(store, release, SetCanary(3, 400))))  # type: ignore[arg-type]  # the results do not matter
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await store.close()  # when what has begun is at its end
    await store.open()
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
    after, (fact,) = apply(msgspec.structs.replace(release, revision=69), SetCanary(3, 400), now_ms=1)
    leapt = msgspec.structs.replace(after, sequence=900)
    event = audit.draft(fact, actor="ada", reason="", request_id="")
    assert await store.commit(release.revision, leapt, event, None) == leapt
    await store.close()
    await store.open()
    assert (await commit(store, leapt, SetCanary(3, 500))).sequence == 901
    assert audit.verify(await chain(store)) is None


async def test_close_may_come_twice(store: Store) -> None:
    await store.close()
    await store.close()
