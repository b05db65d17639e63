"""The gateways that share a store, and what they ask of one another. `Members` is the interface.

A member is its row: whoever finds it must wait for it, or remove it. A member that finds itself removed may have been
counted as gone: it serves nobody until it has joined again and caught up. All times are by the database's clock, so
that the clocks of gateways need not agree.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from gateway.controlplane.audit import Draft
from gateway.controlplane.ports import Applied


class Pool(msgspec.Struct, frozen=True, array_like=True, order=True):
    """A version that is to be ready, or is."""

    model: str
    version: int
    shadow: bool = False


class Report(msgspec.Struct, frozen=True):
    """What a member says of itself with every heartbeat."""

    applied_sequence: int = 0
    """Every change up to this one is served by all its proxies."""
    warm: tuple[Pool, ...] = ()
    """The pools that are ready."""
    proxies: tuple[Applied, ...] = ()
    """How its proxies came to serve the newest change."""
    lease_ms: int = 0
    """It answers nobody from so long after it sent its newest heartbeat; 0: it promises nothing."""


class Member(msgspec.Struct, frozen=True):
    """A gateway as the others see it."""

    id: str
    incarnation: str
    """Another one for every join."""
    heartbeat: datetime
    """When its newest report was taken, by the database's clock: compare it, and nothing else, with that of before."""
    age_s: float
    """How long ago that was."""
    report: Report


class Preparation(msgspec.Struct, frozen=True):
    """What a member is asked to have ready before a change is committed."""

    id: str
    wanted: tuple[Pool, ...]


class Members(Protocol):
    """Who is there, how far they are, and what they are asked. Every method but `subscribe` may raise StoreFailed."""

    async def join(self, gateway: str, incarnation: str, report: Report) -> None:
        """Enters a gateway, in place of an earlier one of the same id.

        Read the releases after it, not before: a change that is committed later waits for this gateway.
        """

    async def beat(self, gateway: str, incarnation: str, report: Report, *, tell: bool = False) -> bool:
        """Renews the row; with `tell`, the others hear of it (an acknowledgement). False: it was removed."""

    async def leave(self, gateway: str, incarnation: str) -> None:
        """Removes the row, if it is still that one's: in order, when its proxies answer nobody any more."""

    async def members(self) -> list[Member]:
        """All, by id."""

    async def fence(
        self, gateway: str, incarnation: str, *, heartbeat: datetime | None = None, event: Draft | None = None
    ) -> bool:
        """Removes a member for others; it learns of that at its next heartbeat. Keeps the event with it.

        With `heartbeat`, only if it has not renewed since: then its lease can be waited out. False: it has gone,
        joined anew or renewed; nothing was changed.
        """

    async def ask(self, preparation: Preparation, gateways: Sequence[str]) -> None:
        """Asks each of them to have the pools ready. What was asked long ago and never withdrawn is dropped."""

    async def asked(self, gateway: str) -> list[Preparation]:
        """What this gateway has not answered yet, oldest first."""

    async def answer(self, preparation_id: str, gateway: str, answer: str) -> None:
        """Says that the pools are ready (empty), or why they cannot be."""

    async def answers(self, preparation_id: str) -> dict[str, str | None]:
        """By gateway: None while it works on it, empty when all is ready, else why it cannot be."""

    async def withdraw(self, preparation_id: str) -> None:
        """Asks no longer."""

    def subscribe(self, heard: Callable[[], None]) -> Callable[[], None]:
        """Calls `heard` when something may be new: releases, acknowledgements, questions, answers, members.

        A hint, in the running loop: it may come late, twice, or never. Returns what ends it.
        """
