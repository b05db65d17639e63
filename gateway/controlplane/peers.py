"""The other gateways on the store: asked to have versions ready, waited for after a change, removed when silent.

What this gateway knows of them is what it has read last (`members`), every second and whenever the store hints at news.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final
from uuid import uuid4

import structlog

from gateway.controlplane.audit import ACCESS, Draft
from gateway.controlplane.members import DRIFT, Sighting, lapsed, owing, sight
from gateway.controlplane.ports import Applied
from gateway.controlplane.store.members import Member, Members, Pool, Preparation
from gateway.controlplane.tasks import Bell, Tasks
from gateway.errors import InvalidRequest, NotFound, NotReady, Refusal, Refused, StoreFailed

log = structlog.get_logger()

FENCE: Final = "fence-gateway"
"""The verb in the audit log."""
POLL_S: Final = 0.1
"""A hint may be lost: whoever waits looks this often."""
PATIENCE_S: Final = 5.0
"""How long a gateway that lives may take to serve a change: its late proxies are replaced in less."""
WHOLE: Final = -1
"""In place of the number of a proxy: all of its gateway."""


class Hints:
    """Counts hints of the store, so that one between a look and the wait after it is not missed."""

    def __init__(self, members: Members) -> None:
        self._bell = Bell()
        self.heard = 0
        self.end: Callable[[], None] = members.subscribe(self.ring)

    def ring(self) -> None:
        """There may be something new."""
        self.heard += 1
        self._bell.ring()

    async def after(self, heard: int, limit_s: float) -> None:
        """Returns when there is a hint later than the one with that number, or the time is over."""
        # Not `wait_for`: before Python 3.12 it loses a cancellation that comes together with the hint.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._bell.until(lambda: self.heard != heard)


class Peers:
    """Every gateway but this one. `clock_ms`: milliseconds since the epoch, for the audit log."""

    def __init__(
        self,
        members: Members,
        own: str,
        clock_ms: Callable[[], int],
        clock_s: Callable[[], float] = time.monotonic,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.own = own
        """The id of this gateway."""
        self._members = members
        self._clock_ms = clock_ms
        self._clock_s = clock_s
        self._patience_s = patience_s
        self._hints = Hints(members)
        self._tasks = Tasks()
        self._looking = asyncio.Lock()
        self._sightings: dict[str, Sighting] = {}
        self._confirmed = 0
        """Everybody serves this change, whoever joins later included: whoever joins reads after that."""

    async def close(self) -> None:
        """Ends the hints, and what is done in the background."""
        self._hints.end()
        await self._tasks.close()

    async def look(self) -> dict[str, Sighting]:
        """Reads who is there, by id. Raises StoreFailed."""
        everybody = await self._look()
        return {gateway: one for gateway, one in everybody.items() if gateway != self.own}

    async def everybody(self) -> list[tuple[Member, bool]]:
        """Every gateway on the store, this one included, by id; and whether it is silent."""
        found, now_s = await self._look(), self._clock_s()
        return [(one.member, one.silent(now_s)) for _, one in sorted(found.items())]

    async def _look(self) -> dict[str, Sighting]:
        async with self._looking:  # so that no older answer is taken for a newer one
            rows = await self._members.members()
            self._sightings = sight(self._sightings, rows, self._clock_s())
            return self._sightings

    def counts(self) -> dict[str, int]:
        """How many gateways are live, and how many silent, as they were seen last; this one included."""
        now_s = self._clock_s()
        silent = sum(one.silent(now_s) for gateway, one in self._sightings.items() if gateway != self.own)
        return {"live": len(self._sightings) - silent, "silent": silent}

    async def prepare(self, pools: Sequence[Pool]) -> None:
        """Returns when every other gateway that is not silent has the pools ready. Raises Refused and StoreFailed."""
        now_s = self._clock_s()
        others = [gateway for gateway, one in (await self.look()).items() if not one.silent(now_s)]
        if not pools or not others:
            return
        preparation = Preparation(uuid4().hex, tuple(pools))
        await self._members.ask(preparation, others)
        try:
            await self._until_answered(preparation.id)
        finally:
            self._tasks.start(self._withdraw(preparation.id), "withdrawing a question")

    async def _until_answered(self, preparation_id: str) -> None:
        while True:
            heard = self._hints.heard
            answers = await self._members.answers(preparation_id)
            for gateway, answer in sorted(answers.items()):
                if answer:
                    raise Refused(f"gateway {gateway}: {answer}", Refusal.CANNOT_BE_LOADED)
            waited = {gateway for gateway, answer in answers.items() if answer is None}
            if waited:
                there, now_s = await self.look(), self._clock_s()
                waited = {gateway for gateway in waited & there.keys() if not there[gateway].silent(now_s)}
            if not waited:
                return
            await self._hints.after(heard, POLL_S)

    async def _withdraw(self, preparation_id: str) -> None:
        """If it fails, the question is forgotten in time."""
        with contextlib.suppress(StoreFailed):
            await self._members.withdraw(preparation_id)

    async def confirm(self, sequence: int, since_s: float) -> tuple[Applied, ...]:
        """Returns when no other gateway answers by what was before this change: who serves it, and how long after
        `since_s` this gateway knew. What was confirmed before has nobody to be named.

        Raises NotReady when one neither confirms it nor can be counted out.
        """
        if sequence <= self._confirmed:
            return ()
        applied: dict[str, tuple[Applied, ...]] = {}
        begun_s = self._clock_s()
        while True:
            heard = self._hints.heard
            until_s, why = begun_s + self._patience_s, ""
            try:
                late = await self._still_owing(sequence, since_s, applied)
            except StoreFailed as error:
                why = f"whether the other gateways serve it is not known: {error}"
            else:
                if not late:
                    self._confirmed = max(self._confirmed, sequence)
                    return tuple(one for gateway in sorted(applied) for one in applied[gateway])
                until_s += max(one.member.report.lease_ms for one in late) / 1000 * (1 + DRIFT)
                why = self._unconfirmed(late)
            if self._clock_s() >= until_s:
                raise NotReady(why)
            await self._hints.after(heard, POLL_S)

    async def _still_owing(
        self, sequence: int, since_s: float, applied: dict[str, tuple[Applied, ...]]
    ) -> list[Sighting]:
        """Looks once; enters into `applied` who has confirmed or was removed. Raises StoreFailed."""
        there = await self.look()
        late = owing(there.values(), sequence)
        for gateway in there.keys() - {one.member.id for one in late} - applied.keys():
            applied[gateway] = tuple(
                Applied(one.proxy, self._since_ms(since_s), one.fenced, gateway)
                for one in there[gateway].member.report.proxies
            )
        removed = [one for one in lapsed(late, self._clock_s()) if await self._remove(one)]
        for one in removed:
            applied[one.member.id] = (Applied(WHOLE, self._since_ms(since_s), fenced=True, gateway=one.member.id),)
        return [one for one in late if one not in removed]

    async def _remove(self, one: Sighting) -> bool:
        """Removes a gateway whose proxies have stopped by themselves; false if it has come back meanwhile."""
        member = one.member
        reason = f"silent for longer than its lease of {member.report.lease_ms / 1000:g} s"
        event = self._fencing(member.id, reason, f"gateway {self.own}")
        removed = await self._members.fence(member.id, member.incarnation, heartbeat=member.heartbeat, event=event)
        if removed:
            log.error("gateway fenced", gateway=member.id, why=reason)
        return removed

    async def fence(self, gateway: str, reason: str, actor: str) -> None:
        """An operator's word that a gateway is dead: its proxies, too. Raises NotFound, Refused and InvalidRequest."""
        if not reason:
            raise InvalidRequest("a reason is needed: how is it known that the gateway and its proxies are dead?")
        if gateway == self.own:
            raise Refused(f"this is gateway {gateway}, which lives", Refusal.GATEWAY_LIVES)
        there = await self.look()
        if gateway not in there:
            raise NotFound(f"there is no gateway {gateway}; others: {', '.join(sorted(there)) or 'none'}")
        one, now_s = there[gateway], self._clock_s()
        member = one.member
        event = self._fencing(gateway, reason, actor)
        if not one.silent(now_s) or not await self._members.fence(
            gateway, member.incarnation, heartbeat=member.heartbeat, event=event
        ):
            heard_s = now_s - one.since_s
            raise Refused(f"gateway {gateway} lives: it was heard {heard_s:.1f} s ago; stop it", Refusal.GATEWAY_LIVES)
        log.error("gateway fenced", gateway=gateway, why=reason, actor=actor)

    def _fencing(self, gateway: str, reason: str, actor: str) -> Draft:
        return Draft(
            time_ms=self._clock_ms(),
            actor=actor,
            verb=FENCE,
            model="",
            revision=0,
            reason=f"{gateway}: {reason}",
            request_id="",
            before="",
            after="",
            kind=ACCESS,
        )

    def _unconfirmed(self, late: Iterable[Sighting]) -> str:
        """Who has not, and what to do."""
        now_s = self._clock_s()
        silent = {one.member.id: one.silent(now_s) for one in late}
        said = [f"{name} has not confirmed it" + (" and is silent" if silent[name] else "") for name in sorted(silent)]
        remedy = "; if it is dead, say so with cutover gateways fence" if any(silent.values()) else ""
        return f"gateway {', gateway '.join(said)}{remedy}"

    def _since_ms(self, since_s: float) -> float:
        return round((self._clock_s() - since_s) * 1000, 3)
