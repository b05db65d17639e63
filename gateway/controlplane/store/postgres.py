"""The store of many gateways: a PostgreSQL database. Needs the extra `postgres`, and is imported only if there is one.

Who writes holds an advisory lock, so that changes have one order and the audit chain one end. What a statement said
when the connection broke is not known: StoreFailed, and the caller reads again.
"""

import asyncio
from pathlib import Path
from typing import Any, Final

import asyncpg
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from gateway.controlplane.store import Store, migrate, sql
from gateway.controlplane.store.driver import STATEMENT_S, Driver, said
from gateway.controlplane.store.hints import CHANNEL, Hints
from gateway.controlplane.store.sqlstore import SqlStore, T, Work
from gateway.errors import StartupError, StoreFailed

LOCK: Final = int.from_bytes(b"cutover", "big")
"""Of the database: other programs in it take other numbers."""
CONNECTIONS: Final = 5
WAITERS: Final = 3
"""So many of them may wait for the lock: whoever holds it and stands still must not keep a gateway from saying that it
lives.
"""
BROKEN: Final = (SQLAlchemyError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError)


class PostgresStore(SqlStore):
    """See `Store`."""

    def __init__(self, url: str, password_file: Path | None = None) -> None:
        """`url` as in `driver`."""
        super().__init__()
        self.driver: Final = Driver(url, password_file)
        self.hints: Final = Hints(self.driver)
        self._engine: AsyncEngine | None = None
        self._turns = asyncio.Semaphore(WAITERS)

    async def open(self) -> None:
        """Makes the tables as needed. May be tried again."""
        self.driver.check()
        self._engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self.driver.connect,
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_timeout=STATEMENT_S,
            pool_pre_ping=True,  # after a restart of the server no change fails for the connections of before
        )
        try:
            await self.run(lambda db: db.run_sync(migrate.migrate, str(self.driver)), alone=True)
            await self.run(sql.check_releases)
        except StoreFailed as error:
            await self.close()
            raise StartupError(f"{error}; {_remedy(error)}") from error
        except BaseException:
            await self.close()
            raise
        self.hints.resume()

    async def close(self) -> None:
        """Waits for what is under way, then lets go of the connections."""
        await self._finish()
        await self.hints.close()
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.dispose()

    async def run(self, work: Work[T], *, alone: bool = False, tell: bool = False) -> T:
        """Runs the work in one transaction, to its end.

        `alone`: nobody else who says so is in one meanwhile; `tell`: others get a hint when it is committed.
        """
        return await self._to_the_end(self._run(work, "READ COMMITTED", alone, tell))

    async def _transact(self, work: Work[T]) -> T:
        """See `SqlStore`."""
        return await self._to_the_end(self._run(work, "REPEATABLE READ", False, False))

    async def _write(self, work: Work[T]) -> T:
        """See `SqlStore`."""
        return await self.run(work, alone=True, tell=True)

    async def _certain(self, work: Work[T]) -> T:
        """See `SqlStore`: a commit that the server is still busy with comes first."""
        return await self.run(work, alone=True)

    async def _run(self, work: Work[T], isolation: str, alone: bool, tell: bool) -> T:
        if not alone:
            return await self._connected(work, isolation, alone, tell)
        try:
            async with asyncio.timeout(STATEMENT_S):
                await self._turns.acquire()
        except TimeoutError:
            raise StoreFailed(f"store {self.driver}: too many changes wait for their turn") from None
        try:
            return await self._connected(work, isolation, alone, tell)
        finally:
            self._turns.release()

    async def _connected(self, work: Work[T], isolation: str, alone: bool, tell: bool) -> T:
        if self._engine is None:
            raise StoreFailed(f"store {self.driver} is closed")
        try:
            async with self._engine.execution_options(isolation_level=isolation).connect() as connection:
                wire: Any = (await connection.get_raw_connection()).driver_connection
                try:
                    return await _transaction(connection, work, alone, tell)
                except OSError:  # a silent server: asking it to roll back would only wait once more
                    wire.terminate()
                    if not connection.invalidated:
                        await connection.invalidate()
                    raise
        except BROKEN as error:
            raise StoreFailed(f"store {self.driver}: {said(_root(error))}") from error


async def _transaction(connection: AsyncConnection, work: Work[T], alone: bool, tell: bool) -> T:
    """What it raises leaves the transaction open: closing the connection ends that."""
    await connection.begin()
    if alone:
        await connection.execute(select(func.pg_advisory_xact_lock(LOCK)))
    result = await work(connection)
    if tell:
        await connection.execute(select(func.pg_notify(CHANNEL, "")))
    await connection.commit()
    return result


def _root(error: BaseException) -> BaseException:
    """What the driver or the system said first."""
    found = error
    while error.__cause__ is not None:
        error = error.__cause__
        if isinstance(error, BROKEN):
            found = error
    return found


def _remedy(error: BaseException) -> str:
    match _root(error.__cause__ or error):
        case asyncpg.InvalidAuthorizationSpecificationError() | asyncpg.InvalidPasswordError():
            return "give the password by store.password_file, PGPASSWORD or ~/.pgpass, and the user in store.url"
        case asyncpg.InvalidCatalogNameError():
            return "create the database, or correct store.url"
        case asyncpg.InsufficientPrivilegeError():
            return "let the user of store.url create tables in the database"
        case StoreFailed():
            return "restore the database from a backup, or name another one with store.url"
    return "start PostgreSQL, or correct store.url"


_: type[Store] = PostgresStore
