"""A store that forgets everything when the process ends: for trying things out, or for state kept elsewhere."""

from gateway.controlplane.audit import GENESIS, AuditEvent, Draft, link
from gateway.controlplane.store import REMEMBERED, Recalled, Request, Store
from gateway.errors import Stale
from gateway.routing.snapshot import Release


class MemoryStore:
    """See `Store`."""

    def __init__(self) -> None:
        self._releases: dict[str, Release] = {}
        self._events: list[AuditEvent] = []
        self._requests: dict[str, Recalled] = {}

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""

    async def releases(self) -> dict[str, Release]:
        """All releases by model."""
        return dict(self._releases)

    async def commit(
        self, expected_revision: int, release: Release, event: Draft, request: Request | None
    ) -> AuditEvent:
        """See `Store.commit`."""
        known = self._releases.get(release.model)
        revision = known.revision if known else 0
        if revision != expected_revision:
            raise Stale(f"the store has revision {revision} of {release.model}, not {expected_revision}: read it again")
        if request is not None and request.request_id in self._requests:
            raise Stale(f"request id {request.request_id} was carried out already: send it again to get its answer")
        linked = link(self._events[-1].hash if self._events else GENESIS, len(self._events) + 1, event)
        self._events.append(linked)
        self._releases[release.model] = release
        if request is not None:
            self._requests[request.request_id] = Recalled(request.fingerprint, release)
        if len(self._events) > REMEMBERED:
            self._requests.pop(self._events[-REMEMBERED - 1].request_id, None)
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
