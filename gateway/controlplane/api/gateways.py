"""The gateways that share the store."""

# ruff: noqa: N802  # RPCs are named by the proto
from gateway.controlplane import names
from gateway.controlplane.api.caller import actor
from gateway.controlplane.messages import gateway_message
from gateway.controlplane.peers import Peers
from gateway.controlplane.releases import check_texts
from gateway.controlplane.statuses import Context
from gateway.errors import NotFound
from protos import admin_pb2 as pb


class Gateways:
    """Shows them, and counts dead ones out."""

    def __init__(self, peers: Peers | None) -> None:
        """`peers` None: the store is not shared."""
        self._peers = peers

    async def ListGateways(self, request: pb.ListGatewaysRequest, context: Context) -> pb.ListGatewaysResponse:
        if self._peers is None:
            return pb.ListGatewaysResponse()
        own, found = self._peers.own, await self._peers.everybody()
        gateways = [gateway_message(one, silent=silent, answering=one.id == own) for one, silent in found]
        return pb.ListGatewaysResponse(gateways=gateways)

    async def FenceGateway(self, request: pb.FenceGatewayRequest, context: Context) -> pb.FenceGatewayResponse:
        gateway = names.gateway_of(request.name)
        if self._peers is None:
            raise NotFound("no other gateway shares this one's store")
        by = actor(context)
        check_texts("", request.reason, by)
        await self._peers.fence(gateway, request.reason, by)
        return pb.FenceGatewayResponse()
