"""The audit log, newest first."""

# ruff: noqa: N802  # RPCs are named by the proto
from gateway.controlplane import names, pages
from gateway.controlplane.api.known import Known
from gateway.controlplane.audit import AuditEvent
from gateway.controlplane.messages import event_message
from gateway.controlplane.statuses import Context
from gateway.controlplane.store import Store
from protos import admin_pb2 as pb


class Events:
    """Reads the audit log."""

    def __init__(self, store: Store, known: Known) -> None:
        self._store = store
        self._known = known

    async def ListAuditEvents(self, request: pb.ListAuditEventsRequest, context: Context) -> pb.ListAuditEventsResponse:
        model = names.model_of_parent(request.parent)
        listing = pages.Listing[AuditEvent](
            "events" if model is None else f"events of {model}", tuple[pages.Number], lambda event: (event.sequence,)
        )
        size = pages.page_size(request.page_size)
        (before,) = listing.last(request.page_token) or (request.before_sequence or None,)
        events = await self._store.events(model, size + 1, before)
        if not events and before is None:
            self._known.check(model)
        page, token = listing.take(events, size, event_message)
        return pb.ListAuditEventsResponse(events=page, next_page_token=token)
