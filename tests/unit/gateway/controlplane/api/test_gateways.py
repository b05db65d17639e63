"""With peers: tests/e2e/test_gateways.py."""

from typing import cast

import pytest

from gateway.controlplane.api.gateways import Gateways
from gateway.controlplane.statuses import Context
from gateway.errors import InvalidRequest, NotFound
from protos import admin_pb2 as pb

NOBODY = cast("Context", None)


async def test_a_store_of_its_own_has_no_gateways() -> None:
    room = Gateways(None)
    assert await room.ListGateways(pb.ListGatewaysRequest(), NOBODY) == pb.ListGatewaysResponse()
    with pytest.raises(NotFound, match="no other gateway"):
        await room.FenceGateway(pb.FenceGatewayRequest(name="gateways/b"), NOBODY)
    with pytest.raises(InvalidRequest, match=r"gateways/\{gateway\}"):
        await room.FenceGateway(pb.FenceGatewayRequest(name="b"), NOBODY)
