"""The operators' door: `cutover.admin.v1.Admin` on grpc.aio, put together from the rooms of `api`.

Beside it stands `google.longrunning.Operations`, for what takes its time.
"""

import asyncio
from typing import Final

import grpc
from google.longrunning.operations_pb2_grpc import add_OperationsServicer_to_server

from gateway.controlplane import names
from gateway.controlplane.access.door import Door
from gateway.controlplane.api.changing import Changing
from gateway.controlplane.api.copying import Copying
from gateway.controlplane.api.events import Events
from gateway.controlplane.api.figures import Figures
from gateway.controlplane.api.known import Known
from gateway.controlplane.api.loading import Loading
from gateway.controlplane.api.operating import Operating
from gateway.controlplane.api.reading import Reading
from gateway.controlplane.api.updating import Updating
from gateway.controlplane.api.versions import Versions
from gateway.controlplane.api.watching import Watching
from gateway.controlplane.operations import Operations
from gateway.controlplane.ports import Fleet
from gateway.controlplane.releases import Releases
from gateway.controlplane.statuses import Statuses
from gateway.controlplane.store import Store
from gateway.errors import RequestError
from gateway.observe.statistics import Statistics
from protos import admin_pb2 as pb
from protos.admin_pb2_grpc import AdminServicer, add_AdminServicer_to_server

MAX_REQUEST_BYTES = 1 << 20
MAX_CONCURRENT_CALLS = 256
RPCS: Final = tuple(method.name for method in pb.DESCRIPTOR.services_by_name["Admin"].methods)

_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.so_reuseport", 0),  # a second gateway must fail on the port, not share it
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_concurrent_streams", 100),
    ("grpc.keepalive_time_ms", 60_000),  # finds watchers whose machine is gone
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)


class AdminService(AdminServicer):
    """Every RPC of `protos/admin.proto`, each from the room that has a method of its name."""

    def __init__(self, releases: Releases, store: Store, fleet: Fleet, statistics: Statistics, *others: object) -> None:
        """`others`: rooms beyond those that every gateway has."""
        known = Known(releases, fleet)
        versions = Versions(releases, fleet, known)
        self._operations = Operations()
        self.operating = Operating(self._operations)
        rooms = (
            Reading(releases, store),
            Watching(releases),
            Changing(releases),
            Updating(releases),
            versions,
            Loading(fleet, versions, self._operations),
            Figures(statistics, known),
            Events(store, known),
            Copying(store),
            *others,
        )
        for rpc in RPCS:
            for room in rooms:
                if hasattr(room, rpc):
                    setattr(self, rpc, getattr(room, rpc))

    def target_of(self, operation: str) -> str:
        """The resource that an operation, by its name, is about; "": there is no such operation."""
        try:
            return self._operations.get(names.id_of_operation(operation)).asked.target
        except RequestError:
            return ""

    async def close(self) -> None:
        """Ends the operations."""
        await self._operations.close()


async def start_admin(
    service: AdminService, host: str, port: int | None, door: Door | None = None
) -> tuple[grpc.aio.Server, int]:
    """The listening server and its port (`port` 0: a free one; None: none); stop it with `await server.stop(grace_s)`.

    `door`: who may come in, and how else than by a port in clear. Raises StartupError when an address cannot be
    listened on.
    """
    door = door or Door()
    interceptors = [Statuses(), door.guard] if door.guard else [Statuses()]
    server = grpc.aio.server(interceptors=interceptors, options=_OPTIONS, maximum_concurrent_rpcs=MAX_CONCURRENT_CALLS)
    add_AdminServicer_to_server(service, server)
    add_OperationsServicer_to_server(service.operating, server)
    bound_port = door.listen(server, host, port)
    starting = asyncio.get_running_loop().create_task(server.start())
    try:
        await asyncio.shield(starting)  # grpc.aio breaks when it is cancelled in the middle of its start
    except asyncio.CancelledError:
        await starting
        await server.stop(None)
        raise
    return server, bound_port
