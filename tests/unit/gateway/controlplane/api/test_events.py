"""Through a real channel in tests/integration/test_admin.py."""

import pytest

from gateway.controlplane.api.events import Events
from gateway.errors import NotFound
from protos import admin_pb2 as pb
from tests.unit.gateway.controlplane.api.conftest import World


async def test_events_are_listed_newest_first_and_by_page(world: World) -> None:
    await world.releases.register("wine", 1)
    room = Events(world.store, world.known)
    first = await room.ListAuditEvents(pb.ListAuditEventsRequest(page_size=1), world.context)
    token = first.next_page_token
    second = await room.ListAuditEvents(pb.ListAuditEventsRequest(page_size=1, page_token=token), world.context)
    assert [event.model for event in (*first.events, *second.events)] == ["wine", "iris"]
    with pytest.raises(NotFound):
        await room.ListAuditEvents(pb.ListAuditEventsRequest(parent="models/digits"), world.context)


async def test_events_of_before_a_sequence_are_listed(world: World) -> None:
    for model in ("wine", "rose"):
        await world.releases.register(model, 1)
    room = Events(world.store, world.known)
    asked = pb.ListAuditEventsRequest(page_size=1, before_sequence=3)
    first = await room.ListAuditEvents(asked, world.context)
    asked.page_token = first.next_page_token
    second = await room.ListAuditEvents(asked, world.context)
    assert [event.sequence for event in (*first.events, *second.events)] == [2, 1]
