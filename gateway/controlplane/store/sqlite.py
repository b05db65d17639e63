"""The default store: one SQLite file in the state directory.

WAL with `synchronous=FULL`: an acknowledged commit has been synced to disk. One connection holds the file exclusively:
no second gateway shares it by accident, and SQLite's WAL reset race (two connections, before 3.51.3) cannot happen.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, event
from sqlalchemy.engine import Connection
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry

from gateway.controlplane.audit import AuditEvent, Draft
from gateway.controlplane.store import Recalled, Request, Store, Token, backup, schema, sql, tokens, upgrade, whole
from gateway.errors import StartupError, StoreFailed
from gateway.routing.snapshot import Release

T = TypeVar("T")
Work = Callable[[AsyncConnection], Awaitable[T]]

_PRAGMAS = (
    "locking_mode=EXCLUSIVE",  # first: a WAL opened exclusively needs no shared memory, so network disks work too
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
)


class SqliteStore:
    """See `Store`. `busy_timeout_s`: how long to wait for another process to let go of the file."""

    def __init__(self, path: Path, *, busy_timeout_s: float = 5.0) -> None:
        self._path = path
        self._busy_timeout_s = busy_timeout_s
        self._engine: AsyncEngine | None = None
        self._identity = (0, 0)
        self._lock = asyncio.Lock()
        self._running: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        """Makes the directory, the file and the tables as needed."""
        _make_directory(self._path.parent)
        self._engine = _engine(self._path, self._busy_timeout_s)
        try:
            await self._transaction(self._create)
            await self.releases()
            self._identity = _identity(self._path)
        except StoreFailed as error:
            await self.close()
            raise StartupError(f"{error}; {_remedy(str(error))}") from error
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Waits for what is under way, then closes the file."""
        if self._running:
            await asyncio.wait(self._running)
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.dispose()

    async def releases(self) -> dict[str, Release]:
        """See `Store.releases`."""
        return await self._transaction(sql.read_releases)

    async def commit(self, expected_revision: int, release: Release, event: Draft, request: Request | None) -> Release:
        """See `Store.commit`."""
        self._check_identity()
        return await self._transaction(lambda db: sql.write_commit(db, expected_revision, release, event, request))

    async def since(self, sequence: int) -> list[Release]:
        """See `Store.since`."""
        return await self._transaction(lambda db: sql.read_since(db, sequence))

    async def revision(self, model: str, revision: int) -> Release | None:
        """See `Store.revision`."""
        return await self._transaction(lambda db: sql.read_revision(db, model, revision))

    async def revisions(self, model: str, limit: int, before_revision: int | None) -> list[Release]:
        """See `Store.revisions`."""
        return await self._transaction(lambda db: sql.read_revisions(db, model, limit, before_revision))

    async def note(self, event: Draft) -> AuditEvent:
        """See `Store.note`."""
        self._check_identity()
        return await self._transaction(lambda db: sql.write_note(db, event))

    async def recall(self, request_id: str) -> Recalled | None:
        """See `Store.recall`."""
        return await self._transaction(lambda db: sql.read_recalled(db, request_id))

    async def events(self, model: str | None, limit: int, before_sequence: int | None) -> list[AuditEvent]:
        """See `Store.events`."""
        return await self._transaction(lambda db: sql.read_events(db, model, limit, before_sequence))

    async def tokens(self) -> list[Token]:
        """See `Store.tokens`."""
        return await self._transaction(tokens.read)

    async def put_token(self, token: Token, event: Draft) -> AuditEvent:
        """See `Store.put_token`."""
        self._check_identity()
        return await self._transaction(lambda db: tokens.put(db, token, event))

    async def drop_token(self, token_id: str, event: Draft) -> bool:
        """See `Store.drop_token`."""
        self._check_identity()
        return await self._transaction(lambda db: tokens.drop(db, token_id, event))

    def dump(self) -> AsyncIterator[bytes]:
        """See `Store.dump`."""
        return backup.written(whole.records(self._transaction))

    async def load(self, lines: Iterable[bytes]) -> None:
        """See `Store.load`."""
        self._check_identity()
        await self._transaction(lambda db: whole.write(db, backup.read(lines)))

    def _check_identity(self) -> None:
        """Writing on into a file that was deleted or replaced would acknowledge what no restart could find again."""
        if _identity(self._path) != self._identity:
            raise StoreFailed(f"store {self._path} was replaced or removed while in use: restart the gateway")

    async def _create(self, connection: AsyncConnection) -> None:
        found = await upgrade.version(connection)
        if found > schema.SCHEMA_VERSION:
            raise StartupError(
                f"store {self._path} was written by a newer Cutover (schema {found}, this one knows "
                f"{schema.SCHEMA_VERSION}): start that version, or name another directory with --state"
            )
        await upgrade.upgrade(connection, found)

    async def _transaction(self, work: Work[T]) -> T:
        """Runs the work in one transaction, to its end even if the caller is cancelled meanwhile."""
        task = asyncio.get_running_loop().create_task(self._alone(work))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _alone(self, work: Work[T]) -> T:
        async with self._lock:
            if self._engine is None:
                raise StoreFailed(f"store {self._path} is closed")
            try:
                async with self._engine.begin() as connection:
                    return await work(connection)
            except DBAPIError as error:
                raise StoreFailed(f"store {self._path}: {error.orig}") from error


def _engine(path: Path, busy_timeout_s: float) -> AsyncEngine:
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(path)),
        poolclass=AsyncAdaptedQueuePool,
        pool_size=1,
        max_overflow=0,
        connect_args={"timeout": busy_timeout_s},
    )
    event.listen(engine.sync_engine, "connect", _connected)
    event.listen(engine.sync_engine, "begin", _begin)
    return engine


def _connected(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    try:
        # The driver would begin transactions late (at the first write) and not at all before DDL: `_begin` does it.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in _PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()
    except BaseException:
        connection.close()
        raise


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StartupError(
            f"state directory {directory} cannot be made ({error.strerror}): name one that can be written with --state"
        ) from error


def _identity(path: Path) -> tuple[int, int]:
    """Device and inode of the file; zeros when there is none."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino


def _remedy(error: str) -> str:
    if "locked" in error:
        return "another gateway uses it: stop that one, or name another directory with --state"
    if any(word in error for word in ("not a database", "malformed", "cannot be read", "no such column")):
        return "restore it from a backup, or move it away to start with no releases"
    return "name a directory that can be written, on a disk that has room, with --state"


_: type[Store] = SqliteStore
