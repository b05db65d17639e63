"""Through a real channel in tests/integration/test_admin.py."""

from typing import Any

import pytest

from gateway.controlplane.api.carrying import carry_out
from gateway.controlplane.commands import Command, Flip, Resume, SetCanary
from gateway.controlplane.etag import etag
from gateway.errors import InvalidRequest, Refused
from protos import admin_pb2 as pb
from tests.unit.gateway.controlplane.api.conftest import World

IRIS = "models/iris/release"


async def ask(world: World, command: Command, **fields: Any) -> pb.Release:
    request = pb.FlipRequest(etag=etag(world.releases.get("iris")), **fields)  # what all requests have in common
    return await carry_out(world.releases, IRIS, command, request, world.context)


async def test_a_change_is_carried_out_in_the_caller_s_name(world: World) -> None:
    changed = await ask(world, SetCanary(2, 100), reason="first users", request_id="id-1")
    assert (changed.revision, changed.etag) == (2, etag(world.releases.get("iris")))
    (event,) = await world.store.events("iris", 1, None)
    assert (event.actor, event.reason, event.request_id) == ("ada", "first users", "id-1")


async def test_a_change_may_be_asked_for_without_making_it(world: World) -> None:
    before = world.releases.get("iris")
    made = await ask(world, SetCanary(2, 100), validate_only=True)
    assert (made.revision, made.etag, made.policy.canaries[0].basis_points) == (2, "", 100)
    same = await ask(world, Resume(), validate_only=True)
    assert (same.revision, same.etag) == (1, etag(before)), "nothing would change"
    assert world.releases.get("iris") is before


@pytest.mark.parametrize("validate_only", [False, True])
async def test_what_cannot_be_kept_is_said_before_it_matters(world: World, validate_only: bool) -> None:
    with pytest.raises(InvalidRequest, match="reason has 1001 characters"):
        await ask(world, SetCanary(2, 100), reason="x" * 1_001, validate_only=validate_only)


@pytest.mark.parametrize("validate_only", [False, True])
async def test_a_refusal_names_the_release(world: World, validate_only: bool) -> None:
    with pytest.raises(Refused) as caught:
        await ask(world, Flip(), validate_only=validate_only)
    assert caught.value.subject == IRIS
