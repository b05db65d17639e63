import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gateway.controlplane import audit, guarded
from gateway.controlplane.commands import Command, Register, SetCanary
from gateway.controlplane.guarded import GuardedStore
from gateway.controlplane.release import apply, unborn
from gateway.controlplane.served import Served
from gateway.controlplane.store import Token
from gateway.controlplane.store.memory import MemoryStore
from gateway.errors import StartupError, StoreFailed
from gateway.routing.snapshot import Release


class Shaky(MemoryStore):
    """Can be away: when it is opened, and when it is asked."""

    away = False

    async def open(self) -> None:
        if self.away:
            raise StartupError("store /s is away; bring it back") from StoreFailed("away")

    async def since(self, sequence: int) -> list[Release]:
        self._check()
        return await super().since(sequence)

    async def commit(self, *change: object) -> Release:
        self._check()
        return await super().commit(*change)  # type: ignore[arg-type] # passed on as they came

    def _check(self) -> None:
        if self.away:
            raise StoreFailed("store /s: the server does not answer")


def change(release: Release, command: Command) -> tuple[Release, audit.Draft]:
    after, (fact,) = apply(release, command, now_ms=1)
    return after, audit.draft(fact, actor="ada", reason="", request_id="")


async def commit(store: MemoryStore | GuardedStore, release: Release, command: Command) -> Release:
    after, event = change(release, command)
    return await store.commit(release.revision, after, event, None)


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return Served(tmp_path / "served.jsonl")


@pytest.fixture
async def inner() -> Shaky:
    """With one release, at revision 2."""
    made = Shaky()
    await commit(made, await commit(made, unborn("iris"), Register(1)), SetCanary(2, 100))
    return made


async def test_it_passes_everything_on(inner: Shaky, served: Served) -> None:
    store = GuardedStore(inner, served)
    await store.open()
    iris = (await store.releases())["iris"]
    assert await store.since(1) == [iris]
    assert await store.revision("iris", 2) == iris
    assert (await store.revisions("iris", 5, None))[0] == iris
    assert (await commit(store, iris, SetCanary(2, 200))).revision == 3
    assert await store.recall("never") is None
    assert len(await store.events(None, 10, None)) == 3
    (wine,) = await store.enrol([change(unborn("wine"), Register(1))])
    assert wine.sequence == 4
    token = Token("t", "00", {"*": "viewer"}, "ada", 1)
    event = change(unborn("x"), Register(1))[1]
    await store.put_token(token, event)
    assert await store.tokens() == [token]
    assert await store.drop_token("t", event)
    await store.note(event)
    lines = [line async for line in store.dump()]
    copy = GuardedStore(MemoryStore(), served)
    await copy.open()
    await copy.load(lines)
    assert await copy.releases() == await store.releases()
    assert (store.up, store.problems()) == (True, [])
    await store.close()


async def test_a_store_that_is_away_at_the_start_is_opened_later(inner: Shaky, served: Served) -> None:
    inner.away = True
    with pytest.raises(StartupError, match="bring it back"):
        await GuardedStore(inner, served).open()
    await served.keep((await inner.releases()).values())
    store = GuardedStore(inner, served)
    await store.open()
    assert store.problems() == ["store /s is away; bring it back"]
    asked: list[Callable[[], Awaitable[object]]] = [
        store.releases,
        store.tokens,
        lambda: store.events(None, 1, None),
        lambda: anext(store.dump()),
    ]
    for ask in asked:
        with pytest.raises(StoreFailed, match="bring it back"):
            await ask()
    inner.away = False
    await store.look()
    assert store.up
    assert (await store.releases())["iris"].revision == 2


async def test_what_is_wrong_with_a_setting_ends_the_start_whatever_was_served(inner: Shaky, served: Served) -> None:
    class Newer(Shaky):
        async def open(self) -> None:
            raise StartupError("store /s was written by a newer Cutover")

    await served.keep((await inner.releases()).values())
    with pytest.raises(StartupError, match="newer Cutover"):
        await GuardedStore(Newer(), served).open()


async def test_a_store_that_goes_away_is_noticed_without_being_asked(
    inner: Shaky, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarded, "LOOK_S", 0.001)
    await served.keep((await inner.releases()).values())
    store = GuardedStore(inner, served)
    await store.open()
    store.watch()
    inner.away = True
    await until(lambda: not store.up)
    assert store.problems() == ["store /s: the server does not answer"]
    inner.away = False
    await until(lambda: store.up)
    await store.close()


async def test_a_change_that_fails_says_so_until_the_next_look(inner: Shaky, served: Served) -> None:
    store = GuardedStore(inner, served)
    await store.open()
    inner.away = True
    iris = (await inner.releases())["iris"]
    with pytest.raises(StoreFailed, match="does not answer"):
        await commit(store, iris, SetCanary(2, 200))
    assert not store.up
    inner.away = False
    await commit(store, iris, SetCanary(2, 200))
    assert store.up


async def older_store(inner: Shaky, served: Served) -> Release:
    """`served` is ahead of `inner` by a change; returns what `inner` has."""
    iris = (await inner.releases())["iris"]
    newer = Shaky()
    await newer.load([line async for line in inner.dump()])
    await served.keep([await commit(newer, iris, SetCanary(2, 300))])
    return iris


async def test_nothing_is_taken_from_or_given_to_an_older_store(inner: Shaky, served: Served) -> None:
    iris = await older_store(inner, served)
    store = GuardedStore(inner, served)
    await store.open()
    assert "older than what was served: it has revision 2 of iris" in store.problem
    asked: list[Callable[[], Awaitable[object]]] = [
        store.releases,
        lambda: store.since(0),
        store.tokens,
        lambda: commit(store, iris, SetCanary(2, 400)),
        lambda: store.enrol([change(unborn("wine"), Register(1))]),
        lambda: store.note(change(unborn("x"), Register(1))[1]),
    ]
    for ask in asked:
        with pytest.raises(StoreFailed, match="cutover restore --accept"):
            await ask()
    assert len(await store.events(None, 10, None)) == 2, "what it says can be read"
    assert len(await inner.events(None, 10, None)) == 2
    await store.look()
    assert not store.up
    await commit(inner, await commit(inner, iris, SetCanary(2, 300)), SetCanary(2, 400))
    await store.look()
    assert store.up, "whoever has put it right need not start the gateway again"


async def test_a_store_that_is_put_back_while_it_is_used_is_noticed(inner: Shaky, served: Served) -> None:
    store = GuardedStore(inner, served)
    await store.open()
    iris = await older_store(inner, served)
    with pytest.raises(StoreFailed, match="it has made another change 3"):
        await commit(store, iris, SetCanary(2, 400))
    assert not store.up
    other = GuardedStore(inner, served)
    await other.open()
    await other.look()
    assert not other.up


async def test_a_store_that_is_older_at_a_look(inner: Shaky, served: Served) -> None:
    store = GuardedStore(inner, served)
    await store.open()
    await older_store(inner, served)
    await store.look()
    assert "older" in store.problem


async def test_changes_that_others_made_in_an_older_store_do_not_hide_that_it_is_older(
    inner: Shaky, served: Served
) -> None:
    store = GuardedStore(inner, served)
    await store.open()
    await older_store(inner, served)
    wine = await commit(inner, unborn("wine"), Register(1))
    wine = await commit(inner, wine, SetCanary(2, 100))
    assert wine.sequence > served.sequence
    await store.look()
    assert "it has revision 2 of iris" in store.problem


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - the store rings no bell
        await asyncio.sleep(0)
