"""Hears when another gateway has changed something in PostgreSQL: NOTIFY, which is no more than a hint."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import asyncpg
import structlog

from gateway.controlplane.store.driver import Driver, said

CHANNEL: Final = "cutover"
CHECK_S: Final = 5.0
"""How often a silent connection is asked whether it is still there."""
RETRY_S: Final = 1.0

log = structlog.get_logger()


class Hints:
    """A connection that listens, while anybody subscribes; made again when it breaks."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._hear: list[Callable[[], None]] = []
        self._listening: asyncio.Task[None] | None = None

    def subscribe(self, heard: Callable[[], None]) -> Callable[[], None]:
        """See `Members.subscribe`."""
        self._hear.append(heard)
        self.resume()
        return lambda: self._hear.remove(heard)

    def resume(self) -> None:
        """Listens again after `close`, if anybody subscribes."""
        if self._hear and self._listening is None:
            self._listening = asyncio.get_running_loop().create_task(self._listen())

    async def close(self) -> None:
        """Hears nothing until `resume`."""
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.cancel()
            await asyncio.wait([listening])

    async def _listen(self) -> None:
        while True:
            try:
                await self._session()
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                log.debug("hints are missing", store=str(self._driver), cause=said(error))
            await asyncio.sleep(RETRY_S)

    async def _session(self) -> None:
        """Returns or raises when the connection is no more."""
        connection = await self._driver.connect()
        try:
            ended = asyncio.Event()
            connection.add_termination_listener(lambda _: ended.set())
            await connection.add_listener(CHANNEL, self._heard)
            self._tell()  # what happened before it listened
            while not ended.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), CHECK_S)
                    return
                await connection.fetchval("SELECT 1")
        finally:
            connection.terminate()

    def _heard(self, *_: Any) -> None:
        self._tell()

    def _tell(self) -> None:
        for heard in tuple(self._hear):
            heard()
