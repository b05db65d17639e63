"""Watching releases: the newest state of each, never a backlog."""

import asyncio
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from gateway.routing.snapshot import Release


class Watch:
    """Yields the state of releases, then every later state, in the order of their sequences.

    Use as a context manager and iterate with `async for`.

    Holds at most one release per model: a watcher that is slower than the changes sees the latest state and misses
    those in between, and whoever makes changes never waits for it. One task may iterate.
    """

    def __init__(
        self,
        model: str | None,
        current: Iterable[Release],
        on_close: Callable[["Watch"], None],
        after_sequence: int = 0,
    ) -> None:
        """`model` None: all models. What is not newer than `after_sequence` is left out."""
        self._model = model
        self._after = after_sequence
        self._pending: dict[str, Release] = {}
        self._wake = asyncio.Event()
        self._closed = False
        self._on_close = on_close
        for release in current:
            self.put(release)

    def put(self, release: Release) -> None:
        """Takes a new state; replaces one that was not read yet."""
        if self._model in (None, release.model) and (release.sequence > self._after or not self._after):
            self._pending[release.model] = release
            self._wake.set()

    def close(self) -> None:
        """Ends the iteration after what is pending."""
        self._closed = True
        self._wake.set()
        self._on_close(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Release:
        while not self._pending:
            if self._closed:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        # The oldest first: whoever has seen a sequence has seen everything before it.
        oldest = min(self._pending.values(), key=lambda release: release.sequence)
        return self._pending.pop(oldest.model)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
