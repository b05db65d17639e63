"""Long answers, whose caller is looked at again and again: what held when they began may have been revoked since."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import TypeVar

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


async def _next(answers: AsyncIterator[T]) -> T:
    return await anext(answers)
