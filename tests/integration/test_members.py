"""One suite for both kinds of members, and what only rows in a database can meet."""

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

from gateway.controlplane import audit
from gateway.controlplane.ports import Applied
from gateway.controlplane.store import Store
from gateway.controlplane.store.members import Members, Pool, Preparation, Report
from gateway.controlplane.store.memory import MemoryStore
from gateway.controlplane.store.memorymembers import MemoryMembers
from gateway.controlplane.store.postgres import PostgresStore
from gateway.controlplane.store.postgresmembers import PostgresMembers
from gateway.errors import StoreFailed
from tests.postgres import Server

IRIS, WINE = Pool("iris", 2), Pool("wine", 3, shadow=True)
FENCED = audit.Draft(*(7, "ada", "fence", "", 0, "it is dead", "", "", ""), kind=audit.ACCESS)


class Both(NamedTuple):
    store: Store
    members: Members


@pytest.fixture(params=["memory", "postgres"])
async def both(request: pytest.FixtureRequest) -> AsyncIterator[Both]:
    if request.param == "memory":
        memory = MemoryStore()
        yield Both(memory, MemoryMembers(memory))
    else:
        store = PostgresStore(request.getfixturevalue("emptied"))
        await store.open()
        yield Both(store, PostgresMembers(store))
        await store.close()


async def test_a_member_is_what_it_reports(both: Both) -> None:
    _, members = both
    await members.join("b", "b1", Report())
    await members.join("a", "a1", Report(lease_ms=3_000))
    report = Report(7, (IRIS, WINE), (Applied(1, 2.5), Applied(2, 0.0, fenced=True)), 3_000)
    assert await members.beat("a", "a1", report)
    first, second = await members.members()
    assert (first.id, first.incarnation, first.report) == ("a", "a1", report)
    assert (second.id, second.incarnation, second.report) == ("b", "b1", Report())
    assert 0.0 <= first.age_s <= second.age_s < 60.0
    assert first.heartbeat > second.heartbeat


async def test_who_joins_again_takes_the_place_of_before(both: Both) -> None:
    _, members = both
    await members.join("a", "a1", Report(7))
    await members.join("a", "a2", Report())
    assert not await members.beat("a", "a1", Report(8))
    await members.leave("a", "a1")
    (only,) = await members.members()
    assert (only.incarnation, only.report.applied_sequence) == ("a2", 0)
    await members.leave("a", "a2")
    assert await members.members() == []


async def test_who_is_fenced_learns_of_it(both: Both) -> None:
    store, members = both
    await members.join("a", "a1", Report())
    assert not await members.fence("a", "a0", event=FENCED)
    assert await members.fence("a", "a1", event=FENCED)
    assert not await members.fence("a", "a1", event=FENCED)
    assert not await members.beat("a", "a1", Report())
    events = await store.events(None, 10, None)
    assert [event.reason for event in events] == ["it is dead"]
    assert audit.verify(events) is None


async def test_who_has_renewed_its_lease_is_not_fenced_for_the_old_one(both: Both) -> None:
    _, members = both
    await members.join("a", "a1", Report(lease_ms=3_000))
    (before,) = await members.members()
    await members.beat("a", "a1", Report(lease_ms=3_000))
    assert not await members.fence("a", "a1", heartbeat=before.heartbeat)
    (now,) = await members.members()
    assert await members.fence("a", "a1", heartbeat=now.heartbeat)


async def test_questions_are_asked_answered_and_withdrawn(both: Both) -> None:
    _, members = both
    await members.ask(Preparation("q1", (IRIS, WINE)), ["a", "b"])
    await members.ask(Preparation("q2", ()), ["a"])
    await members.ask(Preparation("q3", (IRIS,)), [])
    assert await members.asked("a") == [Preparation("q1", (IRIS, WINE)), Preparation("q2", ())]
    assert await members.answers("q1") == {"a": None, "b": None}
    await members.answer("q1", "a", "")
    await members.answer("q1", "b", "no such file")
    await members.answer("q9", "b", "")
    assert await members.answers("q1") == {"a": "", "b": "no such file"}
    assert [question.id for question in await members.asked("a")] == ["q2"]
    await members.withdraw("q1")
    assert await members.answers("q1") == {}
    assert await members.asked("b") == []


async def test_whoever_listens_hears_of_what_concerns_others(both: Both) -> None:
    store, members = both
    heard = asyncio.Event()
    end = members.subscribe(heard.set)
    if isinstance(store, PostgresStore):
        await heard.wait()  # it listens
    question = Preparation("q", (IRIS,))
    for doing in (
        lambda: members.join("a", "a1", Report()),
        lambda: members.beat("a", "a1", Report(1), tell=True),
        lambda: members.ask(question, ["a"]),
        lambda: members.answer("q", "a", ""),
        lambda: members.fence("a", "a1"),
    ):
        heard.clear()
        await doing()
        await heard.wait()
    end()


@pytest.fixture
async def postgres_store(own_postgres: Server) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(own_postgres.url())
    await store.open()
    yield store
    await store.close()


async def test_hints_come_again_after_the_server_was_away(
    own_postgres: Server, postgres_store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.controlplane.store.hints.RETRY_S", 0.01)
    members = PostgresMembers(postgres_store)
    heard = asyncio.Event()
    members.subscribe(heard.set)
    await heard.wait()
    own_postgres.kill()
    with pytest.raises(StoreFailed):
        await members.members()
    heard.clear()
    await asyncio.to_thread(own_postgres.start)
    await heard.wait()
    heard.clear()
    await members.join("a", "a1", Report())
    await heard.wait()
