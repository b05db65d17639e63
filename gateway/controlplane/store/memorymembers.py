"""Members in one process: several gateways of a test share one object."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import msgspec

from gateway.controlplane.audit import Draft
from gateway.controlplane.store import Store
from gateway.controlplane.store.members import Member, Members, Preparation, Report

Question = tuple[str, str]
"""Id of the preparation, gateway."""


class MemoryMembers:
    """See `Members`."""

    def __init__(self, store: Store | None = None, clock_s: Callable[[], float] = time.time) -> None:
        """`store` keeps the events of fencing; `clock_s` stands for the database's clock."""
        self._store = store
        self._clock_s = clock_s
        self._members: dict[str, Member] = {}
        self._asked: dict[Question, Preparation] = {}
        self._answers: dict[Question, str | None] = {}
        self._hear: list[Callable[[], None]] = []

    async def join(self, gateway: str, incarnation: str, report: Report) -> None:
        """See `Members.join`."""
        self._put(gateway, incarnation, report)
        self._tell()

    async def beat(self, gateway: str, incarnation: str, report: Report, *, tell: bool = False) -> bool:
        """See `Members.beat`."""
        if self._known(gateway, incarnation) is None:
            return False
        self._put(gateway, incarnation, report)
        if tell:
            self._tell()
        return True

    async def leave(self, gateway: str, incarnation: str) -> None:
        """See `Members.leave`."""
        if self._known(gateway, incarnation) is not None:
            self._remove(gateway)

    async def members(self) -> list[Member]:
        """See `Members.members`."""
        now_s = self._clock_s()
        return [
            msgspec.structs.replace(member, age_s=now_s - member.heartbeat.timestamp())
            for _, member in sorted(self._members.items())
        ]

    async def fence(
        self, gateway: str, incarnation: str, *, heartbeat: datetime | None = None, event: Draft | None = None
    ) -> bool:
        """See `Members.fence`."""
        member = self._known(gateway, incarnation)
        if member is None or heartbeat not in (None, member.heartbeat):
            return False
        if self._store is not None and event is not None:
            await self._store.note(event)
        self._remove(gateway)
        return True

    async def ask(self, preparation: Preparation, gateways: Sequence[str]) -> None:
        """See `Members.ask`."""
        for gateway in gateways:
            self._asked[preparation.id, gateway] = preparation
            self._answers[preparation.id, gateway] = None
        self._tell()

    async def asked(self, gateway: str) -> list[Preparation]:
        """See `Members.asked`."""
        return [
            preparation for key, preparation in self._asked.items() if key[1] == gateway and self._answers[key] is None
        ]

    async def answer(self, preparation_id: str, gateway: str, answer: str) -> None:
        """See `Members.answer`."""
        if (preparation_id, gateway) in self._asked:
            self._answers[preparation_id, gateway] = answer
            self._tell()

    async def answers(self, preparation_id: str) -> dict[str, str | None]:
        """See `Members.answers`."""
        return {gateway: answer for (asked, gateway), answer in self._answers.items() if asked == preparation_id}

    async def withdraw(self, preparation_id: str) -> None:
        """See `Members.withdraw`."""
        for key in [key for key in self._asked if key[0] == preparation_id]:
            del self._asked[key], self._answers[key]

    def subscribe(self, heard: Callable[[], None]) -> Callable[[], None]:
        """See `Members.subscribe`."""
        self._hear.append(heard)
        return lambda: self._hear.remove(heard)

    def _known(self, gateway: str, incarnation: str) -> Member | None:
        member = self._members.get(gateway)
        return member if member is not None and member.incarnation == incarnation else None

    def _put(self, gateway: str, incarnation: str, report: Report) -> None:
        heartbeat = datetime.fromtimestamp(self._clock_s(), UTC)
        self._members[gateway] = Member(gateway, incarnation, heartbeat, 0.0, report)

    def _remove(self, gateway: str) -> None:
        del self._members[gateway]
        self._tell()

    def _tell(self) -> None:
        for heard in tuple(self._hear):
            heard()


_: type[Members] = MemoryMembers
