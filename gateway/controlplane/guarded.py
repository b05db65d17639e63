"""The store of a gateway that serves on without it: it may be gone, or may have been put back to an older state.

While it is, nothing new is taken over from it and nothing is written to it, so that a release never goes back by
itself: changes are refused with the reason. What it still says (the audit log) can be read.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Final, TypeVar

import structlog

from gateway.controlplane.audit import AuditEvent, Draft
from gateway.controlplane.served import Served, older
from gateway.controlplane.store import Recalled, Request, Store, Token
from gateway.controlplane.tasks import Tasks
from gateway.errors import StartupError, StoreFailed
from gateway.routing.snapshot import Release

T = TypeVar("T")

log = structlog.get_logger()

LOOK_S: Final = 5.0
"""How often to look whether the store is there, when nobody asks it anything."""
REMEDY: Final = (
    "put the newer store back, or take this one with `cutover restore --accept` while the gateway is stopped; "
    "until then what was served is served on, and changes are refused"
)


class GuardedStore:
    """See `Store`, which it wraps."""

    def __init__(self, store: Store, served: Served) -> None:
        self.problem = ""
        """Why nothing can be changed just now; "": it can."""
        self._store = store
        self._served = served
        self._opened = False
        self._older = False
        self._tasks = Tasks()

    @property
    def up(self) -> bool:
        """It answers, and it is the one that was served from."""
        return not self.problem

    def problems(self) -> list[str]:
        """For those who list what is wrong."""
        return [self.problem] if self.problem else []

    async def open(self) -> None:
        """Opens the store if it is there. Raises StartupError when it is not, and nothing was served yet either."""
        try:
            await self._open()
        except StartupError as error:
            if not self._served.releases or not isinstance(error.__cause__, StoreFailed):
                raise
            self._failed(str(error))
        except StoreFailed as error:
            self._failed(str(error))

    def watch(self) -> None:
        """Looks after the store from now on."""
        self._tasks.start(self._watch(), "store")

    async def close(self) -> None:
        """See `Store.close`."""
        await self._tasks.close()
        await self._store.close()

    async def _open(self) -> None:
        await self._store.open()
        self._opened = True
        await self._compare()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
            except Exception:  # whatever one look met must not end all looking
                log.exception("looking at the store failed; trying again")

    async def look(self) -> None:
        """Finds out whether the store is there, and is not older than what was served."""
        try:
            if not self._opened:
                await self._open()
            elif self._older or not await self._has_newest():
                await self._compare()
            else:
                self._works()
        except (StartupError, StoreFailed) as error:
            self._failed(str(error))

    async def _has_newest(self) -> bool:
        """Whether the newest change that was served is there, or a later one of its model, for which not everything has
        to be read. Others may have made changes in an older store since, up to the same number.
        """
        newest = self._served.newest
        if newest is None:
            return True
        later = await self._store.since(newest.sequence - 1)
        return any(one.model == newest.model and not older({one.model: one}, {one.model: newest}) for one in later)

    async def _compare(self) -> None:
        why = older(await self._store.releases(), self._served.releases)
        self._older = bool(why)
        if why:
            self._failed(f"the store is older than what was served: {why}; {REMEDY}")
        else:
            self._works()

    def _failed(self, problem: str) -> None:
        if problem != self.problem:
            log.error("the store cannot be used; what was served is served on", cause=problem)
        self.problem = problem

    def _works(self) -> None:
        if self.problem:
            log.info("the store can be used again")
        self.problem = ""

    async def _ask(self, ask: Callable[[], Awaitable[T]], *, trusting: bool = True) -> T:
        """`trusting`: not of a store that is older than what was served."""
        if not self._opened or (trusting and self._older):
            raise StoreFailed(self.problem)
        try:
            return await ask()
        except StoreFailed as error:
            self._failed(str(error))
            raise

    async def _placed(self, commit: Callable[[], Awaitable[Sequence[Release]]]) -> Sequence[Release]:
        """Carries out a commit. The store gives rising sequences, unless it was put back since the last look."""
        placed = await self._ask(commit)
        if placed and placed[0].sequence <= self._served.sequence:
            self._older = True
            self._failed(f"the store is older than what was served: it has made another change {placed[0].sequence}")
            raise StoreFailed(f"{self.problem}; {REMEDY}")
        self._works()
        return placed

    async def releases(self) -> dict[str, Release]:
        """See `Store.releases`."""
        return await self._ask(self._store.releases)

    async def since(self, sequence: int) -> list[Release]:
        """See `Store.since`."""
        return await self._ask(lambda: self._store.since(sequence))

    async def revision(self, model: str, revision: int) -> Release | None:
        """See `Store.revision`."""
        return await self._ask(lambda: self._store.revision(model, revision))

    async def revisions(self, model: str, limit: int, before_revision: int | None) -> list[Release]:
        """See `Store.revisions`."""
        return await self._ask(lambda: self._store.revisions(model, limit, before_revision))

    async def commit(self, expected_revision: int, release: Release, event: Draft, request: Request | None) -> Release:
        """See `Store.commit`."""

        async def commit() -> list[Release]:
            return [await self._store.commit(expected_revision, release, event, request)]

        (placed,) = await self._placed(commit)
        return placed

    async def enrol(self, births: Sequence[tuple[Release, Draft]]) -> list[Release]:
        """See `Store.enrol`."""
        return [*await self._placed(lambda: self._store.enrol(births))]

    async def note(self, event: Draft) -> AuditEvent:
        """See `Store.note`."""
        return await self._ask(lambda: self._store.note(event))

    async def recall(self, request_id: str) -> Recalled | None:
        """See `Store.recall`."""
        return await self._ask(lambda: self._store.recall(request_id))

    async def events(self, model: str | None, limit: int, before_sequence: int | None) -> list[AuditEvent]:
        """See `Store.events`."""
        return await self._ask(lambda: self._store.events(model, limit, before_sequence), trusting=False)

    async def tokens(self) -> list[Token]:
        """See `Store.tokens`. In an older store those are good that were revoked since."""
        return await self._ask(self._store.tokens)

    async def put_token(self, token: Token, event: Draft) -> AuditEvent:
        """See `Store.put_token`."""
        return await self._ask(lambda: self._store.put_token(token, event))

    async def drop_token(self, token_id: str, event: Draft) -> bool:
        """See `Store.drop_token`."""
        return await self._ask(lambda: self._store.drop_token(token_id, event))

    async def dump(self) -> AsyncIterator[bytes]:
        """See `Store.dump`."""
        if not self._opened:
            raise StoreFailed(self.problem)
        async for line in self._store.dump():
            yield line

    async def load(self, lines: Iterable[bytes]) -> None:
        """See `Store.load`."""
        await self._ask(lambda: self._store.load(lines))


_: type[Store] = GuardedStore
