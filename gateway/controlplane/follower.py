"""Keeps one gateway in step with the others on its store.

Again and again: take over what is new, renew the own row and say in it what is served, and let the proxies answer until
the new lease is over. Whoever is counted out, because its row stood still for longer than that, loses the row in the
same step: it finds that out when it would renew it, and answers nobody until it has caught up.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol
from uuid import uuid4

import structlog

from gateway.controlplane.members import BEAT_S, Pledge
from gateway.controlplane.peers import Hints, Peers
from gateway.controlplane.releases import Releases
from gateway.controlplane.store.members import Members, Preparation, Report
from gateway.controlplane.tasks import Tasks
from gateway.errors import NotReady, RequestError, StoreFailed

log = structlog.get_logger()

BEATS_OF_A_LEASE: Final = 4.0
LEAVE_S: Final = 2.0
"""How long the end of a gateway may wait for the store."""


class Answering(Protocol):
    """This gateway's proxies (`gateway.controlplane.proxies.Proxies`)."""

    def lease(self, valid_until_s: float | None) -> None: ...
    def survey(self) -> Awaitable[None]: ...


class Preparing(Protocol):
    """This gateway's workers (`gateway.controlplane.ports.Fleet`)."""

    async def prepare(self, model: str, version: int, *, shadow: bool) -> None: ...


class Follower:
    """One gateway's place among the others. `lease_s`: 0: it serves on without the store."""

    def __init__(
        self,
        members: Members,
        peers: Peers,
        releases: Releases,
        fleet: Preparing,
        proxies: Answering,
        lease_s: float = 0.0,
    ) -> None:
        self._members = members
        self._peers = peers
        self._releases = releases
        self._fleet = fleet
        self._proxies = proxies
        self._pledge = Pledge(lease_s)
        self._clock_s: Callable[[], float] = time.monotonic
        self._incarnation = ""
        self._incarnations: set[str] = set()
        """All that this gateway has had: a join may be carried out late."""
        self._told = 0
        """What the row says that is served."""
        self._beat_s = min(BEAT_S, lease_s / BEATS_OF_A_LEASE) if lease_s else BEAT_S
        self._due_s = -math.inf
        """When the row is to be renewed."""
        self._only_ours_answer = False
        """No process of an earlier life does."""
        self._refusing = False
        """Its proxies answer nobody until it has a row again, and has caught up."""
        self._in_step = True
        self._preparing: set[str] = set()
        self._hints = Hints(members)
        self._tasks = Tasks()

    async def join(self, *, orphans: bool) -> None:
        """Enters this gateway, and takes over what was changed up to now; before its proxies answer anybody.

        `orphans`: proxies of an earlier life still answer, until `only_ours_answer`. Raises StoreFailed and NotReady.
        """
        self._only_ours_answer = not orphans
        await self._enter()
        await self._releases.catch_up()
        self._tasks.start(self._follow(), "following the other gateways")

    def stay_apart(self) -> None:
        """Begins although there is no store: it enters once there is one. Until then, proxies that only answer while
        they have a lease answer nobody.
        """
        if self._pledge.lease_s:
            self._refuse()
        self._in_step = False
        self._tasks.start(self._follow(), "following the other gateways")

    def only_ours_answer(self) -> None:
        """From now on no process of an earlier life of this gateway does: it can be said what is served."""
        self._only_ours_answer = True
        self._hints.ring()

    async def close(self) -> None:
        """Leaves, once its proxies answer nobody any more; those of an earlier life may: then its row stays."""
        await self._tasks.close()
        self._hints.end()
        await self._peers.close()
        if self._incarnation and self._only_ours_answer:
            with contextlib.suppress(StoreFailed, TimeoutError):
                async with asyncio.timeout(LEAVE_S):
                    await self._members.leave(self._peers.own, self._incarnation)

    async def _enter(self) -> None:
        self._incarnation = uuid4().hex
        self._incarnations.add(self._incarnation)
        self._told, self._due_s = 0, -math.inf
        self._pledge = Pledge(self._pledge.lease_s)
        await self._members.join(self._peers.own, self._incarnation, Report())

    async def _follow(self) -> None:
        while True:
            heard = self._hints.heard
            try:
                await self._round()
                self._say("in step with the store", in_step=True)
            except RequestError as error:
                self._say("out of step with the store", in_step=False, cause=str(error))
                await asyncio.sleep(self._beat_s)
            except Exception:  # whatever one round met must not end all following
                log.exception("following the other gateways failed; trying again")
                await asyncio.sleep(self._beat_s)
            if not self._owes_word:
                await self._hints.after(heard, max(0.0, self._due_s - self._clock_s()))

    def _say(self, what: str, *, in_step: bool, cause: str = "") -> None:
        """Once, when it changes."""
        if in_step != self._in_step:
            self._in_step = in_step
            (log.info if in_step else log.error)(what, **({"cause": cause} if cause else {}))

    async def _round(self) -> None:
        await self._releases.catch_up()
        if self._owes_word or self._clock_s() >= self._due_s:
            await self._beat()
        for question in await self._members.asked(self._peers.own):
            self._answer(question)

    async def _beat(self) -> None:
        """Renews the row and looks who else is there; or finds that it is gone."""
        sent_s = self._clock_s()
        report = Report(
            applied_sequence=self._releases.served if self._only_ours_answer else 0,
            proxies=self._releases.served_by,
            lease_ms=round(self._pledge.promised_s * 1000),
        )
        news = report.applied_sequence > self._told
        if not await self._members.beat(self._peers.own, self._incarnation, report, tell=news):
            await self._come_back()
            return
        self._told = report.applied_sequence
        others = await self._peers.look()
        if self._refusing:
            await self._releases.catch_up()
            self._refusing = False
            self._proxies.lease(sent_s + self._pledge.lease_s if self._pledge.lease_s else None)
        if self._only_ours_answer:
            await self._renew(sent_s, report.lease_ms / 1000, peers=bool(others))
        self._due_s = sent_s + self._beat_s

    @property
    def _owes_word(self) -> bool:
        """The others wait to hear that something is served."""
        return self._only_ours_answer and self._releases.served > self._told

    async def _renew(self, sent_s: float, written_s: float, *, peers: bool) -> None:
        """Lets the proxies answer for another while, counted from before the row was renewed."""
        pledge = self._pledge.renewed(written_s, peers=peers)
        if pledge.lease_s:
            self._proxies.lease(sent_s + pledge.lease_s if pledge.held else None)
        if pledge.held and not self._pledge.held:
            await self._proxies.survey()
        self._pledge = pledge

    async def _come_back(self) -> None:
        """The others have counted this gateway out, and changes may have been made without it."""
        self._refuse()
        for member, silent in await self._peers.everybody():
            if member.id == self._peers.own and member.incarnation not in self._incarnations and not silent:
                raise NotReady(f"another gateway is called {member.id}: give each its own name (store.gateway)")
        if self._incarnation:
            log.error("this gateway was fenced by another; it answers again once it has caught up")
        await self._enter()

    def _refuse(self) -> None:
        self._refusing = True
        self._proxies.lease(self._clock_s())

    def _answer(self, question: Preparation) -> None:
        if question.id not in self._preparing:
            self._preparing.add(question.id)
            self._tasks.start(self._prepare(question), f"preparation {question.id}")

    async def _prepare(self, question: Preparation) -> None:
        """What cannot be said because the store does not answer is asked again later."""
        answer = ""
        try:
            for pool in question.wanted:
                await self._fleet.prepare(pool.model, pool.version, shadow=pool.shadow)
        except RequestError as error:
            answer = str(error)
        finally:
            self._preparing.discard(question.id)
        with contextlib.suppress(StoreFailed):
            await self._members.answer(question.id, self._peers.own, answer)
