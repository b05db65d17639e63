"""The default store: one SQLite file in the state directory.

WAL with `synchronous=FULL`: an acknowledged commit has been synced to disk. One connection holds the file exclusively:
no second gateway shares it by accident, and SQLite's WAL reset race (two connections, before 3.51.3) cannot happen.
"""

import asyncio
from pathlib import Path
from typing import Final

from sqlalchemy import URL, event
from sqlalchemy.engine import Connection
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry

from gateway.controlplane.store import Store, schema, sql, upgrade
from gateway.controlplane.store.sqlstore import SqlStore, T, Work
from gateway.errors import StartupError, StoreFailed
from gateway.routing.snapshot import Release

CHECKED_PAGES: Final = 16_384
"""Up to this size (64 MiB) a file is looked through at every start: that takes 10 ms for each MiB."""
_PRAGMAS = (
    "locking_mode=EXCLUSIVE",  # first: a WAL opened exclusively needs no shared memory, so network disks work too
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
)


class SqliteStore(SqlStore):
    """See `Store`. `busy_timeout_s`: how long to wait for another process to let go of the file."""

    def __init__(self, path: Path, *, busy_timeout_s: float = 5.0) -> None:
        super().__init__()
        self._path = path
        self._busy_timeout_s = busy_timeout_s
        self._engine: AsyncEngine | None = None
        self._identity = (0, 0)
        self._lock = asyncio.Lock()
        self._doubtful = False
        """Something failed, and what it wrote may be in the file."""

    async def open(self) -> None:
        """Makes the directory, the file and the tables as needed."""
        _make_directory(self._path.parent)
        self._engine = _engine(self._path, self._busy_timeout_s)
        try:
            await self._transact(self._create)
            await self._transact(self._check)
            self._identity = _identity(self._path)
        except StoreFailed as error:
            await self.close()
            raise StartupError(f"{error}; {_remedy(str(error))}") from error
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Waits for what is under way, then closes the file."""
        await self._finish()
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.dispose()

    async def _transact(self, work: Work[T]) -> T:
        """See `SqlStore`: one connection, so that nobody else writes anyway."""
        return await self._to_the_end(self._alone(work))

    async def since(self, sequence: int) -> list[Release]:
        """See `Store.since`. What is asked again and again notices that the file has gone.

        It is also asked what has become of a commit that failed.
        """
        self._check_identity()
        return await self._certain(lambda db: sql.read_since(db, sequence))

    async def _write(self, work: Work[T]) -> T:
        """See `SqlStore`."""
        self._check_identity()
        return await self._transact(work)

    async def _certain(self, work: Work[T]) -> T:
        """See `SqlStore`."""
        return await self._to_the_end(self._alone(work, certain=True))

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

    async def _check(self, connection: AsyncConnection) -> None:
        """Raises StoreFailed when something in the file is not as it was written."""
        pages = (await connection.exec_driver_sql("PRAGMA page_count")).scalar_one()
        if pages <= CHECKED_PAGES:
            found = (await connection.exec_driver_sql("PRAGMA integrity_check(1)")).scalar_one()
            if found != "ok":
                raise StoreFailed(f"store {self._path}: malformed: {found}")
        await sql.check_releases(connection)

    async def _alone(self, work: Work[T], *, certain: bool = False) -> T:
        async with self._lock:
            if self._engine is None:
                raise StoreFailed(f"store {self._path} is closed")
            try:
                if certain and self._doubtful:
                    await _write_over(self._engine)
                    self._doubtful = False
                async with self._engine.begin() as connection:
                    return await work(connection)
            except DBAPIError as error:
                self._doubtful = True
                raise StoreFailed(f"store {self._path}: {error.orig}") from error


async def _write_over(engine: AsyncEngine) -> None:
    """A commit that could not be synced is taken back, but lies in the file, and the next start would find it.

    Any other commit takes its place.
    """
    async with engine.begin() as connection:
        number = (await connection.exec_driver_sql("PRAGMA user_version")).scalar_one()
        await connection.exec_driver_sql(f"PRAGMA user_version={(number + 1) % 2**31}")


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
