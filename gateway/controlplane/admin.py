"""The operators' door: `cutover.admin.v1.Admin` on grpc.aio. Reads requests, asks `Releases`, writes messages."""

# ruff: noqa: N802  # RPCs are named by the proto
from collections.abc import AsyncIterator

import grpc

from gateway.controlplane import names, pages
from gateway.controlplane.api.copying import Copying
from gateway.controlplane.commands import (
    Abort,
    Command,
    Flip,
    Pause,
    PrepareStandby,
    Promote,
    RemoveCanary,
    RemoveHoldout,
    RemoveShadow,
    Resume,
    Rollback,
    SetCanary,
    SetHoldout,
    SetOverrides,
    SetShadow,
)
from gateway.controlplane.listener import require_free
from gateway.controlplane.messages import (
    event_message,
    gateway_message,
    overrides_message,
    proxy_messages,
    release_message,
    statistics_messages,
    version_message,
)
from gateway.controlplane.peers import Peers
from gateway.controlplane.ports import Fleet
from gateway.controlplane.releases import Releases
from gateway.controlplane.repository import problems_of
from gateway.controlplane.statuses import Context, Statuses
from gateway.controlplane.store import Store
from gateway.errors import NotFound, QueueFull, StartupError
from gateway.observe.statistics import Statistics
from protos import admin_pb2 as pb
from protos.admin_pb2_grpc import AdminServicer, add_AdminServicer_to_server

MAX_REQUEST_BYTES = 1 << 20
MAX_PAGE_BYTES = 2 << 20
"""A page of audit events ends early here: clients refuse messages above 4 MiB unless told otherwise."""
OVERRIDES_PAGE = 1_000
MAX_OVERRIDES_PAGE = 10_000
"""Stays below those 4 MiB, too."""
MAX_CONCURRENT_CALLS = 256
MAX_WATCHES = 64
"""Watches never end, so they must not take all the calls there are."""
WATCH_PUSHBACK_MS = 5_000
ACTOR_KEY = "cutover-actor"
OPTION = "--admin-port"

_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.so_reuseport", 0),  # a second gateway must fail on the port, not share it
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_concurrent_streams", 100),
    ("grpc.keepalive_time_ms", 60_000),  # finds watchers whose machine is gone
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)

Change = (
    pb.SetShadowRequest
    | pb.RemoveShadowRequest
    | pb.SetCanaryRequest
    | pb.RemoveCanaryRequest
    | pb.SetOverridesRequest
    | pb.PrepareStandbyRequest
    | pb.FlipRequest
    | pb.PromoteCanaryRequest
    | pb.RollbackRequest
    | pb.AbortReleaseRequest
    | pb.PauseReleaseRequest
    | pb.ResumeReleaseRequest
    | pb.SetHoldoutRequest
    | pb.RemoveHoldoutRequest
)


class AdminService(AdminServicer):
    """Every RPC of `protos/admin.proto`; errors leave as exceptions of `gateway.errors` (see `statuses`)."""

    def __init__(
        self, releases: Releases, store: Store, fleet: Fleet, statistics: Statistics, peers: Peers | None = None
    ) -> None:
        """`peers` None: the store is not shared."""
        self._releases = releases
        self._store = store
        self._fleet = fleet
        self._statistics = statistics
        self._peers = peers
        self._copying = Copying(store)
        self._watches = 0

    async def GetRelease(self, request: pb.GetReleaseRequest, context: Context) -> pb.Release:
        return release_message(self._releases.get(names.model_of_release(request.name)))

    async def ListReleases(self, request: pb.ListReleasesRequest, context: Context) -> pb.ListReleasesResponse:
        return pb.ListReleasesResponse(releases=map(release_message, self._releases.list()))

    async def WatchReleases(self, request: pb.WatchReleasesRequest, context: Context) -> AsyncIterator[pb.Release]:
        model = names.model_of_release(request.name) if request.name else None
        if self._watches >= MAX_WATCHES:
            raise QueueFull(f"{MAX_WATCHES} clients watch already; end one of them", WATCH_PUSHBACK_MS)
        self._watches += 1
        try:
            with self._releases.subscribe(model) as watch:
                async for release in watch:
                    yield release_message(release)
        finally:
            self._watches -= 1

    async def ListVersions(self, request: pb.ListVersionsRequest, context: Context) -> pb.ListVersionsResponse:
        model = names.model_of_parent(request.parent)
        self._check_known(model)
        releases = {release.model: release for release in self._releases.list()}
        found = [status for status in self._fleet.statuses() if model in (None, status.model)]
        versions = [version_message(status, releases.get(status.model)) for status in found]
        return pb.ListVersionsResponse(versions=versions, problems=problems_of(model, self._fleet.problems()))

    async def ListStatistics(self, request: pb.ListStatisticsRequest, context: Context) -> pb.ListStatisticsResponse:
        model = names.model_of_parent(request.parent)
        self._check_known(model)
        found = statistics_messages(self._statistics, model)
        return pb.ListStatisticsResponse(statistics=found, proxies=proxy_messages(self._statistics))

    async def Backup(self, request: pb.BackupRequest, context: Context) -> AsyncIterator[pb.BackupResponse]:
        async for piece in self._copying.Backup(request, context):
            yield piece

    async def ListAuditEvents(self, request: pb.ListAuditEventsRequest, context: Context) -> pb.ListAuditEventsResponse:
        model = names.model_of_parent(request.parent)
        size = pages.page_size(request.page_size)
        before = pages.before_sequence(request.page_token, model)
        events = await self._store.events(model, size + 1, before)
        if not events and before is None:
            self._check_known(model)
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

    async def ListOverrides(self, request: pb.ListOverridesRequest, context: Context) -> pb.ListOverridesResponse:
        release = self._releases.get(names.model_of_release(request.name))
        size = pages.page_size(request.page_size, OVERRIDES_PAGE, MAX_OVERRIDES_PAGE)
        return overrides_message(release, request.units, size, request.page_token)

    async def SetShadow(self, request: pb.SetShadowRequest, context: Context) -> pb.Release:
        return await self._change(request, SetShadow(request.version, request.rate), context)

    async def RemoveShadow(self, request: pb.RemoveShadowRequest, context: Context) -> pb.Release:
        return await self._change(request, RemoveShadow(request.version), context)

    async def SetCanary(self, request: pb.SetCanaryRequest, context: Context) -> pb.Release:
        return await self._change(request, SetCanary(request.version, request.basis_points), context)

    async def RemoveCanary(self, request: pb.RemoveCanaryRequest, context: Context) -> pb.Release:
        return await self._change(request, RemoveCanary(request.version), context)

    async def SetOverrides(self, request: pb.SetOverridesRequest, context: Context) -> pb.Release:
        return await self._change(request, SetOverrides(dict(request.overrides), tuple(request.remove)), context)

    async def PrepareStandby(self, request: pb.PrepareStandbyRequest, context: Context) -> pb.Release:
        return await self._change(request, PrepareStandby(request.version), context)

    async def Flip(self, request: pb.FlipRequest, context: Context) -> pb.Release:
        return await self._change(request, Flip(), context)

    async def PromoteCanary(self, request: pb.PromoteCanaryRequest, context: Context) -> pb.Release:
        return await self._change(request, Promote(request.version), context)

    async def Rollback(self, request: pb.RollbackRequest, context: Context) -> pb.Release:
        return await self._change(request, Rollback(request.revision), context)

    async def AbortRelease(self, request: pb.AbortReleaseRequest, context: Context) -> pb.Release:
        return await self._change(request, Abort(), context)

    async def PauseRelease(self, request: pb.PauseReleaseRequest, context: Context) -> pb.Release:
        return await self._change(request, Pause(), context)

    async def ResumeRelease(self, request: pb.ResumeReleaseRequest, context: Context) -> pb.Release:
        return await self._change(request, Resume(), context)

    async def SetHoldout(self, request: pb.SetHoldoutRequest, context: Context) -> pb.Release:
        return await self._change(request, SetHoldout(request.basis_points), context)

    async def RemoveHoldout(self, request: pb.RemoveHoldoutRequest, context: Context) -> pb.Release:
        return await self._change(request, RemoveHoldout(), context)

    def _check_known(self, model: str | None) -> None:
        """Raises NotFound for a model that has neither a release nor a folder; None: all models."""
        known = {release.model for release in self._releases.list()} | {one.model for one in self._fleet.statuses()}
        if model is not None and model not in known:
            raise NotFound(f"there is no model {model}; models: {', '.join(sorted(known)) or 'none'}")

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
        await self._peers.fence(gateway, request.reason, _actor(context))
        return pb.FenceGatewayResponse()

    async def _change(self, request: Change, command: Command, context: Context) -> pb.Release:
        changed = await self._releases.change(
            names.model_of_release(request.name),
            command,
            etag=request.etag or None,
            request_id=request.request_id,
            reason=request.reason,
            actor=_actor(context),
        )
        return release_message(changed.release, changed.applied)


async def start_admin(service: AdminService, host: str, port: int) -> tuple[grpc.aio.Server, int]:
    """The listening server and its port (`port` 0: a free one); stop it with `await server.stop(grace_s)`.

    Raises StartupError when the address cannot be listened on.
    """
    # gRPC would only say that it failed, without the cause, and once more on a line of its own.
    require_free(host, port, OPTION)
    server = grpc.aio.server(interceptors=[Statuses()], options=_OPTIONS, maximum_concurrent_rpcs=MAX_CONCURRENT_CALLS)
    add_AdminServicer_to_server(service, server)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound_port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise StartupError(f"port {port} on {host} cannot be used: {error}; choose another with {OPTION}") from error
    await server.start()
    return server, bound_port


def _actor(context: Context) -> str:
    """Who calls: what the caller says in `cutover-actor`, else its address."""
    for key, value in context.invocation_metadata() or ():
        if key == ACTOR_KEY and value:
            return str(value)
    return context.peer()
