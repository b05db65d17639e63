"""Keeps what is known of who may do what, as new as the store has it, and writes refusals down."""

import asyncio
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec
import structlog

from gateway.controlplane.access import identity, tokens
from gateway.controlplane.access.identity import Caller, Rights
from gateway.controlplane.access.refusals import Refusal, Refusals
from gateway.controlplane.access.roles import Roles
from gateway.controlplane.audit import Draft
from gateway.controlplane.store import Store, Token
from gateway.controlplane.tasks import Tasks
from gateway.errors import AlreadyExists, StoreFailed
from gateway.transport.call import Peer

FRESH_S: Final = 1.0
"""How long what was read is good: a token that another gateway on the store has revoked opens nothing afterwards."""
LOOK_S: Final = 5.0
"""How often to look whether a minute of refusals is over."""

log = structlog.get_logger()


class Access(msgspec.Struct, frozen=True):
    """Who may do what by configuration.

    `open_port`: there is a port, for this machine only, that asks for no certificate; `socket`: there is one.
    """

    grants: dict[str, Roles] = {}
    open_port: bool = True
    socket: bool = False


class Keeper:
    """The tokens of a store, and the refusals of those who have none that is good enough."""

    def __init__(self, store: Store, access: Access, clock_ms: Callable[[], int], copy: Path | None = None) -> None:
        """`copy`: where the tokens are kept besides, for times without the store. `clock_ms`: of the epoch."""
        self._store = store
        self._access = access
        self._clock_ms = clock_ms
        self._copy = copy
        self._tokens: dict[str, Token] | None = None
        """None: not known."""
        self._read_s = 0.0
        self._lock = asyncio.Lock()
        self._refusals = Refusals()
        self._tasks = Tasks()

    async def start(self) -> None:
        """Reads the tokens; without a store those that were there last."""
        try:
            await self._read()
        except StoreFailed as error:
            self._tokens = self._recalled()
            log.warning("tokens are not read from the store", cause=str(error), known=self._tokens is not None)
        if self._tokens is not None and self._rights().open:
            self._say_open()
        self._tasks.start(self._end_minutes(), "refusals")

    def _say_open(self) -> None:
        if self._access.open_port or self._access.socket:
            log.info("whoever reaches the admin API on this machine is owner: there is neither a token nor a grant")
        else:
            log.warning(
                "nobody can use the admin API: make a token with `cutover token create --state`, or grant a role"
            )

    async def close(self) -> None:
        """Writes down what is still to be said of refusals."""
        await self._tasks.close()
        await self._note(self._refusals.rest())

    async def caller(self, authorization: str | None, peer: Peer) -> Caller:
        """Who calls. Raises Unauthenticated; while tokens are not known, StoreFailed to all who do not have grants."""
        await self._refresh()
        if self._tokens is None and (authorization is not None or not self._access.grants):
            raise StoreFailed("the store does not answer, so nobody knows who may do what")
        return identity.caller(authorization, peer, self._rights(), self._clock_ms())

    async def refused(self, caller: str, verb: str, model: str, why: str) -> None:
        """Writes a refusal down, unless the caller's last minute has one already: then it is counted."""
        event = self._refusals.refused(Refusal(self._clock_ms(), caller, verb, model, why))
        if event is not None:
            await self._note([event])

    async def tokens(self) -> dict[str, Token]:
        """All tokens by id, as they are now. Raises StoreFailed."""
        async with self._lock:
            return await self._read()

    async def add(self, token: Token, event: Draft) -> None:
        """Keeps a new token, which holds here at once. Raises AlreadyExists or StoreFailed."""
        async with self._lock:
            if token.id in await self._read():
                raise AlreadyExists(f"there is, or was, a token {token.id}; take another name")
            await self._store.put_token(token, event)
            await self._read()

    async def replace(self, token: Token, event: Draft) -> None:
        """Keeps a token in place of the one with its id, here at once. Raises StoreFailed."""
        async with self._lock:
            await self._store.put_token(token, event)
            await self._read()

    @property
    def grants(self) -> dict[str, Roles]:
        """Roles by the identity that a certificate gives, and of the Unix socket."""
        return self._access.grants

    def _rights(self) -> Rights:
        return Rights(self._tokens or {}, self._access.grants, self._access.open_port)

    async def _refresh(self) -> None:
        """Where the store does not answer, what was known holds on."""
        async with self._lock:
            if self._tokens is not None and asyncio.get_running_loop().time() - self._read_s < FRESH_S:
                return
            try:
                await self._read()
            except StoreFailed:
                self._read_s = asyncio.get_running_loop().time()

    async def _read(self) -> dict[str, Token]:
        kept = {token.id: token for token in await self._store.tokens()}
        self._read_s = asyncio.get_running_loop().time()
        known = self._recalled() if self._tokens is None else self._tokens
        found = tokens.never_again(known or {}, kept, self._clock_ms())
        if found != self._tokens:
            if forgotten := sorted(token_id for token_id in found if found[token_id] != kept.get(token_id)):
                log.warning("the store has forgotten the end of tokens, which stay ended", tokens=forgotten)
            self._tokens = found
            self._remember(found)
        return found

    def _remember(self, found: dict[str, Token]) -> None:
        """Hashes only, but nobody else's business."""
        if self._copy is None:
            return
        scratch = self._copy.with_name(self._copy.name + ".new")
        try:
            scratch.unlink(missing_ok=True)
            with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123 - only os.open sets a mode
                file.write(msgspec.json.encode(list(found.values())))
            scratch.replace(self._copy)
        except OSError as error:
            log.warning("tokens cannot be kept for times without the store", file=str(self._copy), error=str(error))

    def _recalled(self) -> dict[str, Token] | None:
        try:
            found = msgspec.json.decode(self._copy.read_bytes() if self._copy else b"", type=list[Token])
        except (OSError, msgspec.DecodeError):
            return None
        return {token.id: token for token in found}

    async def _end_minutes(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await self._note(self._refusals.due(self._clock_ms()))

    async def _note(self, events: Iterable[Draft]) -> None:
        """To the log, too: the store may be what is missing."""
        for event in events:
            log.warning(
                "admin call refused", caller=event.actor, call=event.verb, model=event.model, cause=event.reason
            )
            try:
                await self._store.note(event)
            except StoreFailed as error:
                log.warning("the refusal is not in the audit log", cause=str(error))
