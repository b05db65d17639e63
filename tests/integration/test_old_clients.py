"""A client built from the protos that were kept, not from today's, goes on working against today's gateway."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from gateway.controlplane.admin import AdminService, start_admin
from gateway.controlplane.releases import Releases
from gateway.controlplane.store.memory import MemoryStore
from gateway.observe.statistics import Statistics
from protos import admin_pb2
from tests.house.descriptors import kept
from tests.unit.gateway.controlplane.fake_fleet import FakeFleet, status


class Client:
    """Speaks the kept protos; messages are its own classes, out of a pool of its own."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._pool = DescriptorPool()
        added: set[str] = set()
        for file in admin_pb2.DESCRIPTOR.dependencies:
            self._add(file, added)
        self._pool.AddSerializedFile(kept().file[0].SerializeToString())
        self.service = self._pool.FindServiceByName("cutover.admin.v1.Admin")

    def _add(self, file: FileDescriptor, added: set[str]) -> None:
        """What the protos import, which others look after."""
        if file.name not in added:
            added.add(file.name)
            for imported in file.dependencies:
                self._add(imported, added)
            proto = FileDescriptorProto()
            file.CopyToProto(proto)
            self._pool.AddSerializedFile(proto.SerializeToString())

    async def ask(self, rpc: str, **fields: Any) -> Any:
        method = self.service.methods_by_name[rpc]
        path = f"/{self.service.full_name}/{rpc}"
        takes, gives = self._kinds(method)
        if method.server_streaming:
            call = self._channel.unary_stream(path, takes.SerializeToString, gives.FromString)(takes(**fields))
            first = await call.read()
            call.cancel()
            return first
        return await self._channel.unary_unary(path, takes.SerializeToString, gives.FromString)(takes(**fields))

    @staticmethod
    def _kinds(method: MethodDescriptor) -> tuple[Any, Any]:
        return message_factory.GetMessageClass(method.input_type), message_factory.GetMessageClass(method.output_type)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    store, fleet = MemoryStore(), FakeFleet()
    fleet.known = [status("iris", 1), status("iris", 2)]
    releases = Releases(store, fleet, lambda: 0)
    await releases.register("iris", 1)
    service = AdminService(releases, store, fleet, Statistics())
    server, port = await start_admin(service, "127.0.0.1", 0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Client(channel)
    await service.close()
    await server.stop(None)


async def test_it_takes_a_version_from_shadow_to_stable_and_back(client: Client) -> None:
    name = "models/iris/release"
    release = await client.ask("WatchReleases", name=name)
    steps: list[tuple[str, dict[str, Any]]] = [
        ("SetShadow", {"version": 2, "rate": 0.5}),
        ("SetCanary", {"version": 2, "basis_points": 100}),
        ("SetOverrides", {"overrides": {"ann": "canary-2"}}),
        ("PrepareStandby", {"version": 2}),
        ("Flip", {}),
        ("Rollback", {}),
    ]
    for rpc, fields in steps:
        release = await client.ask(rpc, name=name, etag=release.etag, request_id=rpc, reason="try", **fields)
    assert (release.revision, release.policy.stable_version, release.policy.canaries[0].basis_points) == (7, 1, 100)
    assert (await client.ask("GetRelease", name=name)).etag == release.etag


async def test_it_gets_lists_whole(client: Client) -> None:
    assert [one.model for one in (await client.ask("ListReleases")).releases] == ["iris"]
    assert [one.version for one in (await client.ask("ListVersions")).versions] == [1, 2]
    assert len((await client.ask("ListAuditEvents")).events) == 1
