"""Asking every proxy to report now, and knowing when all have: numbers are fresh, and what was sent is taken in."""

import asyncio

from gateway.controlplane.linkserver import ProxyLink
from gateway.controlplane.tasks import Bell
from gateway.errors import NotReady
from gateway.routing import link


class Surveys:
    """Surveys of the proxies that are linked; a proxy that ends meanwhile is not waited for."""

    def __init__(self, timeout_s: float) -> None:
        """`timeout_s`: how long a proxy may take."""
        self._timeout_s = timeout_s
        self._number = 0
        self._indexes: dict[ProxyLink, int] = {}
        self._answered: dict[ProxyLink, int] = {}
        """The newest survey each has answered."""
        self._bell = Bell()
        self._current: asyncio.Task[None] | None = None
        self._upcoming: asyncio.Task[None] | None = None
        """A survey that has not begun: whoever asks for one before it does takes part."""

    def joined(self, source: ProxyLink, index: int) -> None:
        """A proxy that may serve from now on."""
        self._indexes[source] = index
        self._answered[source] = 0

    def left(self, source: ProxyLink) -> None:
        """Its link has ended."""
        self._indexes.pop(source, None)
        self._answered.pop(source, None)
        self._bell.ring()

    def answered(self, source: ProxyLink, number: int) -> None:
        """A report came; `number` 0: by itself."""
        if number and source in self._answered:
            self._answered[source] = max(self._answered[source], number)
            self._bell.ring()

    async def ask(self) -> None:
        """Returns when every proxy has reported what it had counted up to now. Raises NotReady when one is late.

        Those who ask while a survey is under way share the next: however many ask, proxies answer one at a time.
        """
        if self._upcoming is None:
            following = self._follow(self._current)
            self._upcoming = asyncio.get_running_loop().create_task(following, name="survey")
            self._upcoming.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(self._upcoming)

    async def _follow(self, earlier: asyncio.Task[None] | None) -> None:
        if earlier is not None:
            await asyncio.wait([earlier])
        self._current, self._upcoming = self._upcoming, None
        self._number += 1
        asked = list(self._indexes)
        for source in asked:
            source.send(link.encode(link.Survey(self._number)))
        try:
            await asyncio.wait_for(self._bell.until(lambda: not self._late(asked)), self._timeout_s)
        except TimeoutError:
            late = ", ".join(str(self._indexes[source]) for source in self._late(asked))
            raise NotReady(f"proxy {late} does not report in time; try again") from None

    def _late(self, asked: list[ProxyLink]) -> list[ProxyLink]:
        return [source for source in asked if self._answered.get(source, self._number) < self._number]
