"""Watches hold the newest state only."""

import asyncio

import pytest

from gateway.controlplane.watch import Watch
from gateway.routing.snapshot import Policy, Release


def release(model: str, revision: int) -> Release:
    return Release(model, revision, Policy(stable=1))


def watch(model: str | None = None, *current: Release) -> Watch:
    return Watch(model, current, lambda _: None)


async def test_the_current_state_comes_first() -> None:
    made = watch(None, release("iris", 1), release("wine", 4))
    assert [await anext(made), await anext(made)] == [release("iris", 1), release("wine", 4)]


async def test_a_waiting_watcher_gets_the_change() -> None:
    made = watch()
    waiting = asyncio.get_running_loop().create_task(anext(made))
    await asyncio.sleep(0)
    made.put(release("iris", 2))
    assert await waiting == release("iris", 2)


async def test_a_slow_watcher_gets_the_latest_state_once() -> None:
    made = watch()
    for revision in range(1, 1_000):
        made.put(release("iris", revision))
    made.put(release("wine", 1))
    assert [await anext(made), await anext(made)] == [release("iris", 999), release("wine", 1)]


async def test_other_models_are_not_seen() -> None:
    made = watch("wine")
    made.put(release("iris", 1))
    made.put(release("wine", 1))
    assert await anext(made) == release("wine", 1)


async def test_a_closed_watch_ends_after_what_is_pending() -> None:
    closed: list[Watch] = []
    with Watch(None, [release("iris", 1)], closed.append) as made:
        pass
    assert closed == [made]
    assert [found async for found in made] == [release("iris", 1)]
    with pytest.raises(StopAsyncIteration):
        await anext(made)


def changed(model: str, sequence: int) -> Release:
    return Release(model, 1, Policy(stable=1), sequence=sequence)


async def test_states_come_in_the_order_of_their_sequences() -> None:
    made = watch(None, changed("iris", 5), changed("wine", 6), changed("digits", 2))
    made.put(changed("iris", 7))
    assert [(await anext(made)).sequence for _ in range(3)] == [2, 6, 7]


async def test_what_was_seen_before_is_left_out() -> None:
    made = Watch(None, [changed("iris", 5), changed("wine", 6)], lambda _: None, after_sequence=5)
    made.put(changed("digits", 4))
    made.put(changed("iris", 7))
    assert [(await anext(made)).sequence for _ in range(2)] == [6, 7]


async def test_closing_wakes_a_waiting_watcher() -> None:
    made = watch()

    async def read() -> list[Release]:
        return [found async for found in made]

    waiting = asyncio.get_running_loop().create_task(read())
    await asyncio.sleep(0)
    made.close()
    assert await waiting == []
