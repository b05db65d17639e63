"""Members as rows in PostgreSQL."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, DateTime, Delete, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.controlplane.audit import Draft
from gateway.controlplane.ports import Applied
from gateway.controlplane.store import schema, sql
from gateway.controlplane.store.members import Member, Members, Pool, Preparation, Report
from gateway.controlplane.store.postgres import PostgresStore

FORGOTTEN: Final = timedelta(hours=1)
"""How old a question becomes whose asker has gone."""
_gateways, _preparations = schema.gateways.c, schema.preparations.c


class PostgresMembers:
    """See `Members`."""

    def __init__(self, store: PostgresStore) -> None:
        """`store` must be open, and is closed by its owner."""
        self._store = store

    async def join(self, gateway: str, incarnation: str, report: Report) -> None:
        """See `Members.join`."""
        values = _row(report) | {"incarnation": incarnation}
        added = insert(schema.gateways).values(id=gateway, **values)
        statement = added.on_conflict_do_update(index_elements=["id"], set_=values)
        # Alone: a change that is being committed either finds the row, or is found by whoever reads after the join.
        await self._store.run(lambda db: db.execute(statement), alone=True, tell=True)

    async def beat(self, gateway: str, incarnation: str, report: Report, *, tell: bool = False) -> bool:
        """See `Members.beat`."""
        statement = update(schema.gateways).where(_is(gateway, incarnation)).values(_row(report))
        return (await self._store.run(lambda db: db.execute(statement), tell=tell)).rowcount == 1

    async def leave(self, gateway: str, incarnation: str) -> None:
        """See `Members.leave`."""
        statement = delete(schema.gateways).where(_is(gateway, incarnation))
        await self._store.run(lambda db: db.execute(statement), tell=True)

    async def members(self) -> list[Member]:
        """See `Members.members`."""
        age_s = func.extract("epoch", _now() - _gateways.heartbeat).label("age_s")
        query = select(schema.gateways, age_s).order_by(_gateways.id)
        return [_member(**row) for row in (await self._store.run(lambda db: db.execute(query))).mappings()]

    async def fence(
        self, gateway: str, incarnation: str, *, heartbeat: datetime | None = None, event: Draft | None = None
    ) -> bool:
        """See `Members.fence`."""
        statement = delete(schema.gateways).where(_is(gateway, incarnation))
        if heartbeat is not None:
            statement = statement.where(_gateways.heartbeat == heartbeat)
        return await self._store.run(lambda db: _fence(db, statement, event), alone=event is not None, tell=True)

    async def ask(self, preparation: Preparation, gateways: Sequence[str]) -> None:
        """See `Members.ask`."""
        wanted = msgspec.json.encode(preparation.wanted).decode()
        rows = [{"id": preparation.id, "gateway": gateway, "wanted": wanted, "asked": _now()} for gateway in gateways]
        old = delete(schema.preparations).where(_preparations.asked < _now() - FORGOTTEN)

        async def work(db: AsyncConnection) -> None:
            await db.execute(old)
            if rows:
                await db.execute(insert(schema.preparations).values(rows))

        await self._store.run(work, tell=True)

    async def asked(self, gateway: str) -> list[Preparation]:
        """See `Members.asked`."""
        open_ = (_preparations.gateway == gateway) & _preparations.answer.is_(None)
        query = select(_preparations.id, _preparations.wanted).where(open_).order_by(_preparations.asked)
        rows = await self._store.run(lambda db: db.execute(query))
        return [Preparation(key, msgspec.json.decode(wanted, type=tuple[Pool, ...])) for key, wanted in rows]

    async def answer(self, preparation_id: str, gateway: str, answer: str) -> None:
        """See `Members.answer`."""
        asked = (_preparations.id == preparation_id) & (_preparations.gateway == gateway)
        statement = update(schema.preparations).where(asked).values(answer=answer)
        await self._store.run(lambda db: db.execute(statement), tell=True)

    async def answers(self, preparation_id: str) -> dict[str, str | None]:
        """See `Members.answers`."""
        query = select(_preparations.gateway, _preparations.answer).where(_preparations.id == preparation_id)
        return {row.gateway: row.answer for row in await self._store.run(lambda db: db.execute(query))}

    async def withdraw(self, preparation_id: str) -> None:
        """See `Members.withdraw`."""
        statement = delete(schema.preparations).where(_preparations.id == preparation_id)
        await self._store.run(lambda db: db.execute(statement))

    def subscribe(self, heard: Callable[[], None]) -> Callable[[], None]:
        """See `Members.subscribe`."""
        return self._store.hints.subscribe(heard)


def _now() -> ColumnElement[datetime]:
    """Of the statement, not of the transaction, which may have waited for its turn."""
    return func.clock_timestamp(type_=DateTime(timezone=True))


def _is(gateway: str, incarnation: str) -> ColumnElement[bool]:
    return (_gateways.id == gateway) & (_gateways.incarnation == incarnation)


def _row(report: Report) -> dict[str, Any]:
    return {
        "heartbeat": _now(),
        "lease_ms": report.lease_ms,
        "applied_sequence": report.applied_sequence,
        "warm": msgspec.json.encode(report.warm).decode(),
        "proxies": msgspec.json.encode(report.proxies).decode(),
    }


def _member(**row: Any) -> Member:
    warm = msgspec.json.decode(row["warm"], type=tuple[Pool, ...])
    proxies = msgspec.json.decode(row["proxies"], type=tuple[Applied, ...])
    report = Report(row["applied_sequence"], warm, proxies, row["lease_ms"])
    return Member(row["id"], row["incarnation"], row["heartbeat"], float(row["age_s"]), report)


async def _fence(db: AsyncConnection, statement: Delete, event: Draft | None) -> bool:
    gone = (await db.execute(statement)).rowcount == 1
    if gone and event is not None:
        await sql.write_note(db, event)
    return gone


_: type[Members] = PostgresMembers
