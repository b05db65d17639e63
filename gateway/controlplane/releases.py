"""The one door to releases, for people and controllers.

A change goes: seen before? -> etag -> would the release allow it? -> pools ready -> (one at a time) etag and rules
again -> store -> fleet -> other gateways -> answer. What the store has taken is served, whatever becomes of the caller:
nothing acknowledged is lost, and nothing half done is left behind.

The store has the only order of changes. Others on it change releases, too: this gateway takes over what is new there
before it decides anything, and whenever it is told to (`catch_up`).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec
import structlog

from gateway.controlplane import audit, etag, overrides
from gateway.controlplane.commands import Command, Register, Rollback, SetOverrides, fingerprint, verb
from gateway.controlplane.peers import Peers
from gateway.controlplane.ports import Applied, Fleet
from gateway.controlplane.readiness import pools_needed
from gateway.controlplane.release import apply, unborn
from gateway.controlplane.store import Request, Store
from gateway.controlplane.store.members import Pool
from gateway.controlplane.watch import Watch
from gateway.errors import InvalidRequest, NotFound, NotReady, OutOfRange, Refused, RequestError, Stale, StoreFailed
from gateway.routing.snapshot import Release

GATEWAY = "gateway"
"""The actor of what the gateway does by itself."""
FIRST: Final = "first version of this model"
"""The reason."""
MAX_TEXT_CHARS = 1_000
"""Longest reason and actor."""
MAX_REQUEST_ID_CHARS = 128
FIRST_RETRY_S = 0.2
LAST_RETRY_S = 10.0

T = TypeVar("T")

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

    def __init__(self, store: Store, fleet: Fleet, clock_ms: Callable[[], int], peers: Peers | None = None) -> None:
        """`store` must be open; `clock_ms` gives milliseconds since the epoch. `peers` None: nobody else writes."""
        self._store = store
        self._fleet = fleet
        self._clock_ms = clock_ms
        self._peers = peers
        self._current: dict[str, Release] = {}
        self._known = 0
        """Every change up to this sequence is in the current releases."""
        self.served = 0
        """Every change up to this sequence is served by every proxy of this gateway."""
        self.served_by: tuple[Applied, ...] = ()
        """The proxies that came to serve what was new last."""
        self._lock = asyncio.Lock()
        self._working: asyncio.Task[Any] | None = None
        self._retry: asyncio.Task[None] | None = None
        self._owed: dict[str, Release] = {}
        """What the fleet has not confirmed yet."""
        self._doubtful = False
        """A commit failed and may have been kept all the same."""
        self._watches: set[Watch] = set()

    async def start(self, fallback: Mapping[str, Release] | None = None) -> None:
        """Loads the releases and serves them. Raises what the store and the fleet raise.

        `fallback`: what is served while the store does not say anything else.
        """
        try:
            found = await self._store.releases()
        except StoreFailed:
            if fallback is None:
                raise
            found, self._doubtful = {**fallback}, True
            self._retry_later()
        self._adopt(found.values())
        if self._doubtful:  # it may lack one change and have a later one: everything is read again
            self._known = 0
        self.served_by = await self._fleet.serve(self._current)
        self.served, self._owed = self._known, {}

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
        await self.register_all({model: version})
        return self.get(model)

    async def register_all(self, versions: Mapping[str, int]) -> None:
        """Gives those of the models that have no release their first one: all of them at once, or none."""
        if versions.keys() - self._current.keys():
            try:
                await self._in_turn(self._enrol(versions))
            except Stale:  # another gateway was first with one of them
                await self._in_turn(self._enrol(versions))

    async def _enrol(self, versions: Mapping[str, int]) -> None:
        await self._settle()
        births = []
        for model in sorted(versions.keys() - self._current.keys()):
            after, (fact,) = apply(unborn(model), Register(versions[model]), self._clock_ms())
            births.append((after, audit.draft(fact, actor=GATEWAY, reason=FIRST, request_id="")))
        if not births:  # somebody else released them while this call waited for its turn
            return
        await self._take_in(await self._kept(self._store.enrol(births)))
        log.info("models released", models=[release.model for release, _ in births])
        await self._serve(f"first releases of {len(births)} models are kept")

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
        """Carries out the command and returns the release once every proxy of every gateway serves it.

        `etag`: of the release the change was decided on. `request_id`: the same id again gets the first answer again;
        empty: no such memory. Raises InvalidRequest, NotFound, Refused, Stale, StoreFailed or NotReady; the
        last two can mean that the change was kept all the same: read it again.
        """
        check_texts(request_id, reason, actor)
        request = Request(request_id, fingerprint(model, command)) if request_id else None
        change = _Change(model, await self._completed(model, command), etag, request, reason, actor)
        if await self._recall(request) is None:
            before, after = await self._try_anew(change)
            needed = pools_needed(before.policy, after.policy, change.command)
            await self._prepare([Pool(model, version, shadow) for version, shadow in needed])
        begun_s = time.monotonic()
        return await self._confirmed(await self._in_turn(self._decide(change)), begun_s)

    async def _try_anew(self, change: _Change) -> tuple[Release, Release]:
        """Tries, and where others write as well, on a state that this gateway does not know yet."""
        try:
            return self._try(change)
        except (Stale, NotFound, Refused):
            if self._peers is None:
                raise
        await self.catch_up()
        return self._try(change)

    async def catch_up(self) -> None:
        """Takes over what is new in the store; serves it and what else is owed. Raises StoreFailed and NotReady."""
        async with self._lock:
            await self._settle()
            await self._serve_owed()

    async def _prepare(self, pools: Sequence[Pool]) -> None:
        """Here and on the other gateways side by side."""
        if self._peers is None:
            await self._prepare_here(pools)
            return
        loop = asyncio.get_running_loop()
        both = [loop.create_task(self._prepare_here(pools)), loop.create_task(self._peers.prepare(pools))]
        try:
            await asyncio.gather(*both)
        finally:
            for one in both:
                one.cancel()
            await asyncio.gather(*both, return_exceptions=True)

    async def _prepare_here(self, pools: Sequence[Pool]) -> None:
        for pool in pools:
            await self._fleet.prepare(pool.model, pool.version, shadow=pool.shadow)

    async def _confirmed(self, changed: Changed, begun_s: float) -> Changed:
        """The answer, once the other gateways serve the change as well. Raises NotReady when one does not."""
        if self._peers is None:
            return changed
        release = changed.release
        try:
            others = await self._peers.confirm(release.sequence, begun_s)
        except NotReady as error:
            kept = f"the change of {release.model} is kept (revision {release.revision})"
            raise NotReady(f"{kept}, but {error}") from None
        return Changed(release, (*changed.applied, *others))

    async def preview(self, model: str, command: Command, *, etag: str | None) -> Release:
        """The release as the command would make it; nothing is changed, loaded or kept.

        Raises what `change` would, as far as that can be told: not that loading a version fails.
        """
        change = _Change(model, await self._completed(model, command), etag, None, "", "")
        before, after = await self._try_anew(change)
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
            current = self._current.get(change.model, unborn(change.model))
        else:
            current = self.get(change.model)
            etag.check(change.etag, current)
        after, _ = apply(current, change.command, self._clock_ms())
        longer = len(after.policy.overrides) > len(current.policy.overrides)
        # Shortening a list is never too much, nor is the list that the last flip has kept: it is counted already.
        adds = isinstance(change.command, SetOverrides) or change.command != Rollback()
        if longer and adds:
            overrides.check_all({**self._current, change.model: after}.values())
        return current, after

    async def _in_turn(self, work: Coroutine[Any, Any, T]) -> T:
        """Waits for its turn; from then on the work is carried out even if the caller leaves."""
        try:
            await self._lock.acquire()
        except BaseException:
            work.close()
            raise
        task = asyncio.get_running_loop().create_task(work)
        self._working = task
        task.add_done_callback(lambda _: self._lock.release())
        return await asyncio.shield(task)

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
        try:
            after = await self._kept(self._store.commit(before.revision, after, event, change.request))
        except Stale:
            answered = await self._recall(change.request)  # another gateway may have carried it out
            if answered is None:
                raise
            await self._settle()
            return Changed(answered, await self._serve_owed())
        await self._take_in([after])
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

    async def _kept(self, commit: Awaitable[T]) -> T:
        """What the store says of a commit."""
        try:
            return await commit
        except (StoreFailed, Stale):
            self._doubtful = True
            self._retry_later()
            raise

    async def _take_in(self, changed: Sequence[Release]) -> None:
        """Adopts what was committed, after what others have committed before. Raises NotReady."""
        if self._peers is None or changed[-1].sequence == self._known + len(changed):
            self._adopt(changed)
            return
        try:
            self._adopt(await self._store.since(self._known))
        except StoreFailed as error:
            self._doubtful = True
            self._retry_later()
            first = changed[0]
            said = f"the change of {first.model} is kept (revision {first.revision}) and will be served later"
            raise NotReady(f"{said}: {error}") from error

    async def _settle(self) -> None:
        """Takes over what the store really has: after a commit that failed, and where others write as well."""
        if self._doubtful or self._peers is not None:
            news = await self._store.since(self._known)
            self._doubtful = False
            self._adopt(news)

    def _adopt(self, releases: Iterable[Release]) -> None:
        """Makes these current, tells the watches, and notes that they are to be served."""
        changed = []
        for release in releases:
            self._known = max(self._known, release.sequence)
            if self._current.get(release.model) != release:
                changed.append(release)
                self._current[release.model] = self._owed[release.model] = release
        for watch in tuple(self._watches):
            for release in changed:
                watch.put(release)

    async def _serve_owed(self) -> tuple[Applied, ...]:
        if self._owed:
            return await self._serve("an earlier change is kept")
        self.served = self._known
        return ()

    async def _serve(self, what: str) -> tuple[Applied, ...]:
        """Raises NotReady when the fleet fails; then it is tried again in the background."""
        known = self._known
        try:
            applied = await self._fleet.serve(self._owed)
        except RequestError as error:
            self._retry_later()
            raise NotReady(f"{what} and will be served as soon as the proxies answer: {error}") from error
        except Exception as error:
            self._retry_later()
            log.exception("releases could not be served")
            raise NotReady(f"{what} and will be served as soon as the proxies answer; see the log") from error
        self._owed = {}
        self.served, self.served_by = known, applied
        return applied

    def _retry_later(self) -> None:
        if self._retry is None or self._retry.done():
            self._retry = asyncio.get_running_loop().create_task(self._retry_until_settled())

    async def _retry_until_settled(self) -> None:
        wait_s, told = FIRST_RETRY_S, ""
        while self._owed or self._doubtful:
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, LAST_RETRY_S)
            async with self._lock:
                try:
                    await self._settle()
                    await self._serve_owed()
                except RequestError as error:
                    if told != (told := str(error)):
                        log.warning("releases are not in step with the store", cause=told)


def check_texts(request_id: str, reason: str, actor: str) -> None:
    """Raises InvalidRequest for what cannot be kept."""
    limits = (("request_id", request_id, MAX_REQUEST_ID_CHARS), ("reason", reason, MAX_TEXT_CHARS))
    for name, text, most in (*limits, ("actor", actor, MAX_TEXT_CHARS)):
        field = "" if name == "actor" else name
        if len(text) > most:
            raise InvalidRequest(f"{name} has {len(text)} characters; at most {most} are kept", field)
        if "\0" in text:
            raise InvalidRequest(f"{name} has a zero byte, which not every store can keep", field)
