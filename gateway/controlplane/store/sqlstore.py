"""What the stores in SQL databases share: everything but the way to a transaction."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.controlplane.audit import AuditEvent, Draft
from gateway.controlplane.store import Recalled, Request, Token, backup, sql, tokens, whole
from gateway.routing.snapshot import Release

T = TypeVar("T")
Work = Callable[[AsyncConnection], Awaitable[T]]


class SqlStore(ABC):
    """See `Store`."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    @abstractmethod
    async def _transact(self, work: Work[T]) -> T:
        """Runs the work in a transaction that sees one moment of the store. Raises StoreFailed."""

    @abstractmethod
    async def _write(self, work: Work[T]) -> T:
        """Runs the work in a transaction while nobody else writes; durable on return. Raises StoreFailed."""

    @abstractmethod
    async def _certain(self, work: Work[T]) -> T:
        """As `_transact`, and whatever became of writes that failed, it stays as it is found. Raises StoreFailed."""

    async def releases(self) -> dict[str, Release]:
        """See `Store.releases`."""
        return await self._certain(sql.read_releases)

    async def since(self, sequence: int) -> list[Release]:
        """See `Store.since`."""
        return await self._transact(lambda db: sql.read_since(db, sequence))

    async def revision(self, model: str, revision: int) -> Release | None:
        """See `Store.revision`."""
        return await self._transact(lambda db: sql.read_revision(db, model, revision))

    async def revisions(self, model: str, limit: int, before_revision: int | None) -> list[Release]:
        """See `Store.revisions`."""
        return await self._transact(lambda db: sql.read_revisions(db, model, limit, before_revision))

    async def commit(self, expected_revision: int, release: Release, event: Draft, request: Request | None) -> Release:
        """See `Store.commit`."""
        return await self._write(lambda db: sql.write_commit(db, expected_revision, release, event, request))

    async def enrol(self, births: Sequence[tuple[Release, Draft]]) -> list[Release]:
        """See `Store.enrol`."""
        return await self._write(lambda db: sql.write_births(db, births))

    async def note(self, event: Draft) -> AuditEvent:
        """See `Store.note`."""
        return await self._write(lambda db: sql.write_note(db, event))

    async def recall(self, request_id: str) -> Recalled | None:
        """See `Store.recall`."""
        return await self._certain(lambda db: sql.read_recalled(db, request_id))

    async def events(self, model: str | None, limit: int, before_sequence: int | None) -> list[AuditEvent]:
        """See `Store.events`."""
        return await self._transact(lambda db: sql.read_events(db, model, limit, before_sequence))

    async def tokens(self) -> list[Token]:
        """See `Store.tokens`."""
        return await self._transact(tokens.read)

    async def put_token(self, token: Token, event: Draft) -> AuditEvent:
        """See `Store.put_token`."""
        return await self._write(lambda db: tokens.put(db, token, event))

    async def drop_token(self, token_id: str, event: Draft) -> bool:
        """See `Store.drop_token`."""
        return await self._write(lambda db: tokens.drop(db, token_id, event))

    def dump(self) -> AsyncIterator[bytes]:
        """See `Store.dump`."""
        return backup.written(whole.records(self._transact))

    async def load(self, lines: Iterable[bytes]) -> None:
        """See `Store.load`."""
        await self._write(lambda db: whole.write(db, backup.read(lines)))

    async def _to_the_end(self, work: Coroutine[Any, Any, T]) -> T:
        """What has begun is carried out, even if the caller is cancelled meanwhile."""
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _finish(self) -> None:
        """Returns when nothing is under way."""
        if self._running:
            await asyncio.wait(self._running)
