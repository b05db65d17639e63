"""Where the admin API listens. Its RPCs: tests/integration/test_admin.py."""

import asyncio
import socket
from contextlib import suppress

import grpc
import pytest

from gateway.controlplane.access.keeper import Access, Keeper
from gateway.controlplane.admin import RPCS, AdminService, start_admin
from gateway.controlplane.api.gateways import Gateways
from gateway.controlplane.api.tokens import Tokens
from gateway.controlplane.operations import Asked
from gateway.controlplane.releases import Releases
from gateway.controlplane.store.memory import MemoryStore
from gateway.errors import StartupError
from gateway.observe.statistics import Statistics
from protos import admin_pb2 as pb
from protos.admin_pb2_grpc import AdminServicer, AdminStub
from tests.unit.gateway.controlplane.fake_fleet import FakeFleet


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def service() -> AdminService:
    store, fleet = MemoryStore(), FakeFleet()
    tokens = Tokens(Keeper(store, Access(), lambda: 0), lambda: 0)
    return AdminService(Releases(store, fleet, lambda: 0), store, fleet, Statistics(), tokens, Gateways(None))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", *(["::1"] if has_ipv6() else [])])
async def test_it_listens_on_a_free_port(host: str) -> None:
    server, port = await start_admin(service(), host, 0)
    address = f"[{host}]" if ":" in host else host
    async with grpc.aio.insecure_channel(f"{address}:{port}") as channel:
        assert await AdminStub(channel).ListReleases(pb.ListReleasesRequest()) == pb.ListReleasesResponse()
    await server.stop(None)


async def test_a_port_in_use_stops_the_start() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(StartupError, match=f"port {port} on 127.0.0.1 is taken; choose another with --admin-port"):
            await start_admin(service(), "127.0.0.1", port)


@pytest.mark.parametrize("turns", range(1, 5))
async def test_a_start_that_is_cancelled_at_any_moment_leaves_the_port(turns: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    starting = asyncio.get_running_loop().create_task(start_admin(service(), "127.0.0.1", port))
    for _ in range(turns):
        await asyncio.sleep(0)
    starting.cancel()
    with suppress(asyncio.CancelledError):
        await (await starting)[0].stop(None)  # it was too late to cancel it
    with socket.create_server(("127.0.0.1", port)):
        pass


async def test_two_gateways_never_share_a_port() -> None:
    server, port = await start_admin(service(), "127.0.0.1", 0)
    with pytest.raises(StartupError, match=f"port {port} .*is taken"):
        await start_admin(service(), "127.0.0.1", port)
    await server.stop(None)


async def test_a_host_that_is_none_stops_the_start() -> None:
    with pytest.raises(StartupError, match="--admin-host"):
        await start_admin(service(), "no such host", 0)


def test_every_rpc_is_answered_by_a_room() -> None:
    bare = [rpc for rpc in RPCS if getattr(service(), rpc).__func__ is getattr(AdminServicer, rpc)]
    assert bare == []


async def test_further_rooms_may_be_added() -> None:
    class Room:
        async def GetRelease(self, request: pb.GetReleaseRequest, context: object) -> pb.Release:  # noqa: N802  # RPCs are named by the proto
            return pb.Release(name=request.name)

    store, fleet = MemoryStore(), FakeFleet()
    service = AdminService(Releases(store, fleet, lambda: 0), store, fleet, Statistics(), Room())
    server, port = await start_admin(service, "127.0.0.1", 0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert (await AdminStub(channel).GetRelease(pb.GetReleaseRequest(name="x"))).name == "x"
    await server.stop(None)


async def test_what_an_operation_is_about_is_known() -> None:
    made = service()
    started = made._operations.start(Asked("load", "models/iris/versions/1"), working, "ada")
    assert made.target_of(f"operations/{started.key}") == "models/iris/versions/1"
    assert [made.target_of(name) for name in ("operations/x", "iris", "")] == ["", "", ""]
    await made.close()


async def working() -> pb.Version:
    return pb.Version()
