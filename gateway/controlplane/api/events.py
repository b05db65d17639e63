"""The audit log, newest first."""

# ruff: noqa: N802  # RPCs are named by the proto
from gateway.controlplane import names, pages
from gateway.controlplane.api.known import Known
from gateway.controlplane.messages import event_message
from gateway.controlplane.statuses import Context
from gateway.controlplane.store import Store
from protos import admin_pb2 as pb

MAX_PAGE_BYTES = 2 << 20
"""A page of audit events ends early here: clients refuse messages above 4 MiB unless told otherwise."""


class Events:
    """Reads the audit log."""

    def __init__(self, store: Store, known: Known) -> None:
        self._store = store
        self._known = known

    async def ListAuditEvents(self, request: pb.ListAuditEventsRequest, context: Context) -> pb.ListAuditEventsResponse:
        model = names.model_of_parent(request.parent)
        size = pages.page_size(request.page_size)
        before = pages.before_sequence(request.page_token, model) or request.before_sequence or None
        events = await self._store.events(model, size + 1, before)
        if not events and before is None:
            self._known.check(model)
        page = pb.ListAuditEventsResponse()
        page_bytes = 0
        for event in events[:size]:
            message = event_message(event)
            page_bytes += message.ByteSize()
            if page.events and page_bytes > MAX_PAGE_BYTES:
                break
            page.events.append(message)
        if len(page.events) < len(events):
            page.next_page_token = pages.token(model, page.events[-1].sequence)
        return page
