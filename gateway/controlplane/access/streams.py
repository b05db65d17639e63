"""Answers that take long, whose caller is looked at again and again: what held at first may have been revoked since."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def checked(
    answers: AsyncIterator[T], check: Callable[[], Awaitable[object]], every_s: float
) -> AsyncGenerator[T]:
    """The answers. `check` is made before each of them, and every so often while none comes; what it raises ends all.

    Use with `aclosing`; `answers` stay their owner's business.
    """
    coming: asyncio.Task[T] | None = None
    try:
        while True:
            coming = coming or asyncio.get_running_loop().create_task(_next(answers))
            await asyncio.wait((coming,), timeout=every_s)
            await check()
            if coming.done():
                came, coming = coming, None
                try:
                    answer = came.result()
                except StopAsyncIteration:
                    return
                yield answer
    finally:
        if coming is not None:
            coming.cancel()
            await asyncio.wait((coming,))


async def answered(answer: Coroutine[Any, Any, T], check: Callable[[], Awaitable[object]], every_s: float) -> T:
    """The answer. `check` is made every so often until it is there; what it raises cancels the answer."""
    coming = asyncio.get_running_loop().create_task(answer)
    try:
        while not (await asyncio.wait((coming,), timeout=every_s))[0]:
            await check()
        return coming.result()
    finally:
        if not coming.done():
            coming.cancel()
            await asyncio.wait((coming,))


async def _next(answers: AsyncIterator[T]) -> T:
    return await anext(answers)
