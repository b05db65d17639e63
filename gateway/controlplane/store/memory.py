"""A store that forgets everything when the process ends: for trying things out, or for state kept elsewhere."""

from collections import deque

import msgspec

from gateway.controlplane.audit import GENESIS, AuditEvent, Draft, link
from gateway.controlplane.store import REMEMBERED, Recalled, Request, Store
from gateway.errors import Stale
from gateway.routing.snapshot import Release


class MemoryStore:
    """See `Store`."""

    def __init__(self) -> None:
        self._releases: dict[str, Release] = {}
        self._revisions: dict[tuple[str, int], Release] = {}
        self._events: list[AuditEvent] = []
        self._requests: dict[str, Recalled] = {}
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

    async def commit(self, expected_revision: int, release: Release, event: Draft, request: Request | None) -> Release:
        """See `Store.commit`."""
        known = self._releases.get(release.model)
        revision = known.revision if known else 0
        if revision != expected_revision:
            raise Stale(f"the store has revision {revision} of {release.model}, not {expected_revision}: read it again")
        if request is not None and request.request_id in self._requests:
            raise Stale(f"request id {request.request_id} was carried out already: send it again to get its answer")
        newest = max((kept.sequence for kept in self._releases.values()), default=0)
        placed = msgspec.structs.replace(release, sequence=newest + 1)
        await self.note(event)
        self._releases[release.model] = self._revisions[release.model, release.revision] = placed
        if request is not None:
            self._requests[request.request_id] = Recalled(request.fingerprint, placed)
        self._changed_by.append(event.request_id)
        if len(self._changed_by) > REMEMBERED:
            self._requests.pop(self._changed_by.popleft(), None)
        return placed

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


_: type[Store] = MemoryStore
