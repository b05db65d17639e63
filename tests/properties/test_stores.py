"""Stores answer alike, whatever they are asked: memory is the model, SQLite and PostgreSQL are held against it."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.controlplane import audit
from gateway.controlplane.commands import Command, Flip, Promote, Register, Rollback, SetCanary, SetOverrides, SetShadow
from gateway.controlplane.release import apply, unborn
from gateway.controlplane.store import Request, Store, Token
from gateway.controlplane.store.memory import MemoryStore
from gateway.controlplane.store.postgres import PostgresStore
from gateway.controlplane.store.sqlite import SqliteStore
from gateway.errors import Refused, RequestError
from tests.postgres import Server

MODELS = st.sampled_from(["iris", "wine", "Ünïcødé 😊", "a'b\"c%_\\"])
REQUESTS = st.none() | st.sampled_from(["r1", "r2", "r3"])
COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.just(Register(1)),
    st.builds(SetCanary, st.integers(2, 4), st.integers(0, 10_000)),
    st.builds(SetShadow, st.integers(2, 4), st.just(0.5)),
    st.builds(SetOverrides, st.dictionaries(st.text(max_size=3), st.just("stable"), max_size=2), st.just(())),
    st.builds(Promote, st.integers(2, 4)),
    st.just(Flip()),
    st.just(Rollback()),
)
Ask = Callable[[Store], Awaitable[object]]


def change(model: str, command: Command, request_id: str | None, late: bool) -> Ask:
    async def ask(store: Store) -> object:
        before = (await store.releases()).get(model, unborn(model))
        try:
            after, facts = apply(before, command, 1)
        except Refused as error:
            return str(error)
        if not facts:
            return None
        event = audit.draft(facts[0], actor="ada", reason=model, request_id=request_id or "")
        request = Request(request_id, "print") if request_id else None
        return await store.commit(before.revision - late, after, event, request)

    return ask


def note(model: str, kind: str) -> Ask:
    return lambda store: store.note(audit.Draft(*(7, "eve", "flip", model, 1, "", "", "", ""), kind=kind))


def put_token(name: str, role: str) -> Ask:
    event = audit.Draft(*(7, "ada", "put", "", 0, name, "", "", ""), kind=audit.ACCESS)
    return lambda store: store.put_token(Token(name, "00", {"*": role}, "ada", 1), event)


def drop_token(name: str) -> Ask:
    event = audit.Draft(*(7, "ada", "drop", "", 0, name, "", "", ""), kind=audit.ACCESS)
    return lambda store: store.drop_token(name, event)


ASKS: st.SearchStrategy[list[Ask]] = st.lists(
    st.one_of(
        st.builds(change, MODELS, COMMANDS, REQUESTS, st.just(False)),
        st.builds(change, MODELS, COMMANDS, REQUESTS, st.booleans()),
        st.builds(note, MODELS, st.sampled_from([audit.REFUSAL, audit.ACCESS])),
        st.builds(put_token, st.sampled_from("abc"), st.sampled_from(["viewer", "owner"])),
        st.builds(drop_token, st.sampled_from("abc")),
    ),
    max_size=25,
)


async def answers(store: Store, asks: list[Ask]) -> list[Any]:
    """Everything the store says: to each request, and of itself in the end."""
    told: list[Any] = []
    for ask in asks:
        try:
            told.append(await ask(store))
        except RequestError as error:
            told.append(type(error))
    releases = await store.releases()
    told += [releases, await store.since(0), await store.since(3), await store.tokens()]
    told += [
        await store.events(named, limit, before) for named in (None, "iris") for limit, before in ((99, None), (3, 7))
    ]
    told += [await store.recall(name) for name in ("r1", "r2", "r3")]
    for model, release in sorted(releases.items()):
        told += [await store.revision(model, number) for number in range(release.revision + 2)]
    lines = [msgspec.json.decode(line) async for line in store.dump()]
    told.append(sorted(str(_timeless(line)) for line in lines[1:-1]))
    return told


def _timeless(line: dict[str, Any]) -> dict[str, Any]:
    """Memory does not know when a request was answered."""
    return {name: value for name, value in line.items() if name != "time_ms"}


async def alike(asks: list[Ask], store: Store) -> None:
    model = MemoryStore()
    await store.open()
    try:
        assert await answers(store, asks) == await answers(model, asks)
        assert audit.verify(reversed(await store.events(None, 1_000, None))) is None
    finally:
        await store.close()


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asks=ASKS)
async def test_sqlite_answers_as_memory_does(tmp_path: Path, asks: list[Ask]) -> None:
    (tmp_path / "cutover.db").unlink(missing_ok=True)
    await alike(asks, SqliteStore(tmp_path / "cutover.db"))


@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asks=ASKS)
async def test_postgresql_answers_as_memory_does(postgres: Server, asks: list[Ask]) -> None:
    database = postgres.create_database()
    await alike(asks, PostgresStore(database))
    postgres.drop_database(database)
