"""Answers that end when their caller may not have them any more."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from gateway.controlplane.access.streams import answered, checked

SELDOM_S = 60.0


class Refused(Exception):
    pass


class Source:
    """Gives numbers until None, raises errors, and then waits; notes what is seen of that, and its end."""

    def __init__(self, *given: int | Exception | None) -> None:
        self._given = given
        self.seen: list[int] = []
        self.ended = False
        self.checks = 0
        self.refuses_after = 1_000
        self.checked = asyncio.Event()

    async def answers(self) -> AsyncGenerator[int]:
        try:
            for one in self._given:
                if one is None:
                    return
                if isinstance(one, Exception):
                    raise one
                yield one
            await asyncio.Event().wait()
        finally:
            self.ended = True

    async def check(self) -> None:
        self.checks += 1
        self.checked.set()
        if self.checks > self.refuses_after:
            raise Refused

    async def collect(self, every_s: float) -> None:
        async with aclosing(self.answers()) as answers, aclosing(checked(answers, self.check, every_s)) as good:
            async for number in good:
                self.seen.append(number)


async def test_all_answers_come_in_their_order() -> None:
    source = Source(1, 2, 3, None)
    await source.collect(SELDOM_S)
    assert (source.seen, source.ended) == ([1, 2, 3], True)


async def test_an_answer_is_not_given_after_a_check_that_failed() -> None:
    source = Source(1, 2)
    source.refuses_after = 1
    with pytest.raises(Refused):
        await source.collect(SELDOM_S)
    assert (source.seen, source.ended) == ([1], True)


async def test_a_stream_without_answers_is_checked_too() -> None:
    source = Source()
    source.refuses_after = 2
    with pytest.raises(Refused):
        await source.collect(0.001)
    assert (source.checks, source.ended) == (3, True)


async def test_who_leaves_ends_what_is_coming() -> None:
    source = Source()
    collecting = asyncio.get_running_loop().create_task(source.collect(0.001))
    await source.checked.wait()
    collecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await collecting
    assert source.ended


async def test_an_error_of_the_source_is_told() -> None:
    source = Source(1, Refused())
    with pytest.raises(Refused):
        await source.collect(SELDOM_S)
    assert (source.seen, source.ended) == ([1], True)


async def test_an_answer_is_waited_for_as_long_as_it_may_be_had() -> None:
    checks = asyncio.Queue[None]()

    async def answer() -> int:
        for _ in range(3):
            await checks.get()
        return 7

    assert await answered(answer(), lambda: checks.put(None), 0.0) == 7


async def test_an_answer_that_may_not_be_had_any_more_is_cancelled() -> None:
    ended = asyncio.Event()

    async def answer() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def check() -> None:
        raise Refused

    with pytest.raises(Refused):
        await answered(answer(), check, 0.0)
    assert ended.is_set()


async def test_what_an_answer_raises_is_raised() -> None:
    async def answer() -> None:
        raise Refused

    with pytest.raises(Refused):
        await answered(answer(), lambda: asyncio.sleep(0), SELDOM_S)
