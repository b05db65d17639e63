"""The one door to releases, for people and controllers.

A change goes: seen before? -> etag -> would the release allow it? -> pools ready -> (one at a time) etag and rules
again -> store -> fleet -> answer. What the store has taken is served, whatever becomes of the caller: nothing
acknowledged is lost, and nothing half done is left behind.
"""

import asyncio
from collections.abc import Callable

import msgspec
import structlog

from gateway.controlplane import audit, etag, overrides
from gateway.controlplane.commands import Command, Register, Rollback, SetOverrides, fingerprint, verb
from gateway.controlplane.ports import Applied, Fleet
from gateway.controlplane.readiness import pools_needed
from gateway.controlplane.release import apply, unborn
from gateway.controlplane.store import Request, Store
from gateway.controlplane.watch import Watch
from gateway.errors import InvalidRequest, NotFound, NotReady, OutOfRange, Refused, RequestError, Stale, StoreFailed
from gateway.routing.snapshot import Release

GATEWAY = "gateway"
"""The actor of what the gateway does by itself."""
MAX_TEXT_CHARS = 1_000
"""Longest reason and actor."""
MAX_REQUEST_ID_CHARS = 128
FIRST_RETRY_S = 0.2
LAST_RETRY_S = 10.0

log = structlog.get_logger()


class _Change(msgspec.Struct, frozen=True):
    """A command and who wants it."""

    model: str
    command: Command
    etag: str | None
    request: Request | None
    reason: str
    actor: str


class Changed(msgspec.Struct, frozen=True):
    """The answer to a change: the release, and the proxies that came to serve it for that; none if they did already."""

    release: Release
    applied: tuple[Applied, ...] = ()


class Releases:
    """Holds the current releases; changes them one at a time."""

    def __init__(self, store: Store, fleet: Fleet, clock_ms: Callable[[], int]) -> None:
        """`store` must be open; `clock_ms` gives milliseconds since the epoch."""
        self._store = store
        self._fleet = fleet
        self._clock_ms = clock_ms
        self._current: dict[str, Release] = {}
        self._lock = asyncio.Lock()
        self._change: asyncio.Task[Changed] | None = None
        self._retry: asyncio.Task[None] | None = None
        self._unserved = False
        """The fleet has not confirmed the current releases yet."""
        self._doubtful = False
        """A commit failed and may have been kept all the same."""
        self._watches: set[Watch] = set()

    async def start(self) -> None:
        """Loads the releases and serves them. Raises what the store and the fleet raise."""
        self._current = await self._store.releases()
        await self._fleet.serve(self._current)

    async def close(self) -> None:
        """Waits for the change under way; ends every watch. The store and the fleet stay their owners' business."""
        async with self._lock:
            if self._retry is not None:
                self._retry.cancel()
                await asyncio.wait([self._retry])
        for watch in tuple(self._watches):
            watch.close()

    def get(self, model: str) -> Release:
        """The current release. Raises NotFound."""
        try:
            return self._current[model]
        except KeyError:
            raise NotFound(f"no model {model} has a release") from None

    def list(self) -> tuple[Release, ...]:
        """All current releases, by model name."""
        return tuple(self._current[model] for model in sorted(self._current))

    def models(self) -> set[str]:
        """The names of all models that have a release."""
        return set(self._current)

    async def check_sequence(self, sequence: int) -> None:
        """Raises OutOfRange if the store has not come so far. It may have come further than this gateway."""
        newest = max((release.sequence for release in self._current.values()), default=0)
        if sequence > newest and not await self._store.since(sequence - 1):
            raise OutOfRange(
                f"there is no change {sequence} yet, the newest is {newest}: the store was restored, or it is another "
                "one; begin again without a sequence"
            )

    def subscribe(self, model: str | None = None, after_sequence: int = 0) -> Watch:
        """The current state, then every change, of one or all models; for use in `with`. Raises NotFound.

        `after_sequence`: only what has changed since.
        """
        current = self.list() if model is None else (self.get(model),)
        watch = Watch(model, current, self._watches.discard, after_sequence)
        self._watches.add(watch)
        return watch

    async def register(self, model: str, version: int) -> Release:
        """Gives a model that is seen for the first time its first release; one that has a release keeps it."""
        if model in self._current:
            return self._current[model]
        reason = "first version of this model"
        try:
            return (await self._carry_out(_Change(model, Register(version), None, None, reason, GATEWAY))).release
        except Refused:  # somebody else registered it while this call waited for its turn
            return self.get(model)

    async def change(
        self,
        model: str,
        command: Command,
        *,
        etag: str | None,
        request_id: str = "",
        reason: str = "",
        actor: str,
    ) -> Changed:
        """Carries out the command and returns the release once every proxy serves it.

        `etag`: of the release the change was decided on. `request_id`: the same id again gets the first answer again;
        empty: no such memory. Raises InvalidRequest, NotFound, Refused, Stale, StoreFailed or NotReady; the
        last two can mean that the change was kept all the same: read it again.
        """
        check_texts(request_id, reason, actor)
        request = Request(request_id, fingerprint(model, command)) if request_id else None
        change = _Change(model, await self._completed(model, command), etag, request, reason, actor)
        if await self._recall(request) is None:
            before, after = self._try(change)
            for version, shadow in pools_needed(before.policy, after.policy, change.command):
                await self._fleet.prepare(model, version, shadow=shadow)
        return await self._carry_out(change)

    async def preview(self, model: str, command: Command, *, etag: str | None) -> Release:
        """The release as the command would make it; nothing is changed, loaded or kept.

        Raises what `change` would, as far as that can be told: not that loading a version fails.
        """
        change = _Change(model, await self._completed(model, command), etag, None, "", "")
        before, after = self._try(change)
        for version, shadow in pools_needed(before.policy, after.policy, change.command):
            await self._fleet.check(model, version, shadow=shadow)
        return after

    async def _completed(self, model: str, command: Command) -> Command:
        """A rollback to a revision with the policy that the store has for it."""
        if not isinstance(command, Rollback) or command.revision < 1:
            return command
        kept = await self._store.revision(model, command.revision)
        return Rollback(command.revision, None if kept is None else kept.policy)

    def _try(self, change: _Change) -> tuple[Release, Release]:
        """The release the change starts from, and the one it would lead to if that is known already; if it may."""
        if isinstance(change.command, Register):
            return (self._current.get(change.model, unborn(change.model)),) * 2
        current = self.get(change.model)
        etag.check(change.etag, current)
        after, _ = apply(current, change.command, self._clock_ms())
        longer = len(after.policy.overrides) > len(current.policy.overrides)
        # Shortening a list is never too much, nor is the list that the last flip has kept: it is counted already.
        adds = isinstance(change.command, SetOverrides) or change.command != Rollback()
        if longer and adds:
            overrides.check_all({**self._current, change.model: after}.values())
        return current, after

    async def _carry_out(self, change: _Change) -> Changed:
        """Waits for its turn; from then on the change is carried out even if the caller leaves."""
        await self._lock.acquire()
        self._change = asyncio.get_running_loop().create_task(self._decide(change))
        self._change.add_done_callback(lambda _: self._lock.release())
        return await asyncio.shield(self._change)

    async def _decide(self, change: _Change) -> Changed:
        """Commits and serves; only one runs at any time."""
        await self._settle()
        answered = await self._recall(change.request)
        if answered is not None:
            return Changed(answered, await self._serve_owed())
        before, _ = self._try(change)
        after, facts = apply(before, change.command, self._clock_ms())
        if not facts:
            return Changed(before, await self._serve_owed())
        request_id = change.request.request_id if change.request else ""
        (fact,) = facts
        event = audit.draft(fact, actor=change.actor, reason=change.reason, request_id=request_id)
        after = await self._commit(before.revision, after, event, change.request)
        self._adopt({**self._current, after.model: after})
        log.info(
            "release changed",
            model=after.model,
            revision=after.revision,
            verb=verb(change.command),
            actor=change.actor,
            reason=change.reason,
        )
        return Changed(after, await self._serve(f"the change of {after.model} is kept (revision {after.revision})"))

    async def _recall(self, request: Request | None) -> Release | None:
        """What was answered to the same request before. Raises InvalidRequest if it was another one."""
        recalled = await self._store.recall(request.request_id) if request else None
        if request is None or recalled is None:
            return None
        if recalled.fingerprint != request.fingerprint:
            said = f"request id {request.request_id} was used for another command; take a new one"
            raise InvalidRequest(said, "request_id")
        return recalled.release

    async def _commit(self, revision: int, after: Release, event: audit.Draft, request: Request | None) -> Release:
        """The release with its sequence."""
        try:
            return await self._store.commit(revision, after, event, request)
        except (StoreFailed, Stale):
            self._doubtful = True
            self._retry_later()
            raise

    async def _settle(self) -> None:
        """After a commit that failed: takes over what the store really has."""
        if self._doubtful:
            stored = await self._store.releases()
            self._doubtful = False
            self._adopt(stored)

    def _adopt(self, releases: dict[str, Release]) -> None:
        """Makes these the current releases, tells the watches, and notes that they are to be served."""
        changed = [release for model, release in releases.items() if self._current.get(model) != release]
        self._current = releases
        self._unserved = self._unserved or bool(changed)
        for watch in tuple(self._watches):
            for release in changed:
                watch.put(release)

    async def _serve_owed(self) -> tuple[Applied, ...]:
        return await self._serve("an earlier change is kept") if self._unserved else ()

    async def _serve(self, what: str) -> tuple[Applied, ...]:
        """Raises NotReady when the fleet fails; then it is tried again in the background."""
        try:
            applied = await self._fleet.serve(self._current)
        except RequestError as error:
            self._serve_failed()
            raise NotReady(f"{what} and will be served as soon as the proxies answer: {error}") from error
        except Exception as error:
            self._serve_failed()
            log.exception("releases could not be served")
            raise NotReady(f"{what} and will be served as soon as the proxies answer; see the log") from error
        self._unserved = False
        return applied

    def _serve_failed(self) -> None:
        self._unserved = True
        self._retry_later()

    def _retry_later(self) -> None:
        if self._retry is None or self._retry.done():
            self._retry = asyncio.get_running_loop().create_task(self._retry_until_settled())

    async def _retry_until_settled(self) -> None:
        wait_s = FIRST_RETRY_S
        while self._unserved or self._doubtful:
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, LAST_RETRY_S)
            async with self._lock:
                try:
                    await self._settle()
                    await self._serve_owed()
                except RequestError as error:
                    log.warning("releases still not served", cause=str(error))


def check_texts(request_id: str, reason: str, actor: str) -> None:
    """Raises InvalidRequest for what is too long to be kept."""
    limits = (("request_id", request_id, MAX_REQUEST_ID_CHARS), ("reason", reason, MAX_TEXT_CHARS))
    for name, text, most in (*limits, ("actor", actor, MAX_TEXT_CHARS)):
        if len(text) > most:
            raise InvalidRequest(
                f"{name} has {len(text)} characters; at most {most} are kept", "" if name == "actor" else name
            )
