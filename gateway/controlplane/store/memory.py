"""A store that forgets everything when the process ends: for trying things out, or for state kept elsewhere."""

from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence

import msgspec

from gateway.controlplane.audit import CHANGE, GENESIS, AuditEvent, Draft, link
from gateway.controlplane.store import REMEMBERED, Recalled, Request, Store, Token, backup
from gateway.errors import Refused, Stale
from gateway.routing.snapshot import Release


class MemoryStore:
    """See `Store`."""

    def __init__(self) -> None:
        self._releases: dict[str, Release] = {}
        self._revisions: dict[tuple[str, int], Release] = {}
        self._events: list[AuditEvent] = []
        self._requests: dict[str, Recalled] = {}
        self._tokens: dict[str, Token] = {}
        self._changed_by: deque[str] = deque()
        """The request ids of the REMEMBERED newest changes."""

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""

    async def releases(self) -> dict[str, Release]:
        """All releases by model."""
        return dict(self._releases)

    async def since(self, sequence: int) -> list[Release]:
        """See `Store.since`."""
        found = [release for release in self._releases.values() if release.sequence > sequence]
        return sorted(found, key=lambda release: release.sequence)

    async def revision(self, model: str, revision: int) -> Release | None:
        """See `Store.revision`."""
        return self._revisions.get((model, revision))

    async def revisions(self, model: str, limit: int, before_revision: int | None) -> list[Release]:
        """See `Store.revisions`."""
        kept = [kept for kept in self._revisions.values() if kept.model == model]
        found = [kept for kept in kept if before_revision is None or kept.revision < before_revision]
        return sorted(found, key=lambda release: release.revision, reverse=True)[:limit]

    async def commit(self, expected_revision: int, release: Release, event: Draft, request: Request | None) -> Release:
        """See `Store.commit`."""
        known = self._releases.get(release.model)
        revision = known.revision if known else 0
        if revision != expected_revision:
            raise Stale(f"the store has revision {revision} of {release.model}, not {expected_revision}: read it again")
        if request is not None and request.request_id in self._requests:
            raise Stale(f"request id {request.request_id} was carried out already: send it again to get its answer")
        newest = max((kept.sequence for kept in self._releases.values()), default=0)
        placed = msgspec.structs.replace(release, sequence=max(newest + 1, release.sequence))
        await self.note(event)
        self._releases[release.model] = self._revisions[release.model, release.revision] = placed
        if request is not None:
            self._requests[request.request_id] = Recalled(request.fingerprint, placed)
        self._changed_by.append(event.request_id)
        if len(self._changed_by) > REMEMBERED:
            self._requests.pop(self._changed_by.popleft(), None)
        return placed

    async def enrol(self, births: Sequence[tuple[Release, Draft]]) -> list[Release]:
        """See `Store.enrol`."""
        for release, _ in births:
            if release.model in self._releases:
                raise Stale(f"the store has a release of {release.model} already: read it again")
        return [await self.commit(0, release, event, None) for release, event in births]

    async def note(self, event: Draft) -> AuditEvent:
        """See `Store.note`."""
        linked = link(self._events[-1].hash if self._events else GENESIS, len(self._events) + 1, event)
        self._events.append(linked)
        return linked

    async def recall(self, request_id: str) -> Recalled | None:
        """See `Store.recall`."""
        return self._requests.get(request_id)

    async def events(self, model: str | None, limit: int, before_sequence: int | None) -> list[AuditEvent]:
        """See `Store.events`."""
        end = len(self._events) if before_sequence is None else max(0, before_sequence - 1)
        found = [event for event in reversed(self._events[:end]) if model in (None, event.model)]
        return found[:limit]

    async def tokens(self) -> list[Token]:
        """See `Store.tokens`."""
        return [token for _, token in sorted(self._tokens.items())]

    async def put_token(self, token: Token, event: Draft) -> AuditEvent:
        """See `Store.put_token`."""
        self._tokens[token.id] = token
        return await self.note(event)

    async def drop_token(self, token_id: str, event: Draft) -> bool:
        """See `Store.drop_token`."""
        if self._tokens.pop(token_id, None) is None:
            return False
        await self.note(event)
        return True

    def dump(self) -> AsyncIterator[bytes]:
        """See `Store.dump`."""
        records: list[backup.Record] = [*self._tokens.values()]
        records += [backup.Answered(name, was.fingerprint, 0, was.release) for name, was in self._requests.items()]
        records += [backup.Revision(release) for _, release in sorted(self._revisions.items())]
        records += [backup.Event(event) for event in self._events]

        async def each() -> AsyncIterator[backup.Record]:
            for record in records:
                yield record

        return backup.written(each())

    async def load(self, lines: Iterable[bytes]) -> None:
        """See `Store.load`."""
        if self._events or self._releases:
            raise Refused("the store is not empty: restore into a new one")
        taken = MemoryStore()
        for record in backup.read(lines):
            taken._take(record)
        vars(self).update(vars(taken))

    def _take(self, record: backup.Record) -> None:
        match record:
            case Token():
                self._tokens[record.id] = record
            case backup.Answered():
                self._requests[record.request_id] = Recalled(record.fingerprint, record.release)
            case backup.Revision():
                release = record.release
                self._releases[release.model] = self._revisions[release.model, release.revision] = release
            case backup.Event():
                self._events.append(record.event)
                if record.event.kind == CHANGE:
                    self._changed_by.append(record.event.request_id)


_: type[Store] = MemoryStore
