"""google.longrunning.Operations through a real channel; only the fleet is a fake."""

from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2 as lro
from google.longrunning.operations_pb2_grpc import OperationsStub
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2

from gateway.controlplane.admin import AdminService, start_admin
from gateway.controlplane.releases import Releases
from gateway.controlplane.store.memory import MemoryStore
from gateway.observe.statistics import Statistics
from protos import admin_pb2 as pb
from protos.admin_pb2_grpc import AdminStub
from tests.unit.gateway.controlplane.fake_fleet import FakeFleet, status

IRIS_2 = "models/iris/versions/2"
LONG = Duration(seconds=60)


class Gateway:
    """A control plane without processes, and two clients of it: of our service and of Google's."""

    def __init__(self, fleet: FakeFleet, service: AdminService, channel: grpc.aio.Channel) -> None:
        self.fleet = fleet
        self.service = service
        self.admin: Any = AdminStub(channel)
        self.operations: Any = OperationsStub(channel)

    async def load(self, **fields: Any) -> Any:
        return await self.admin.LoadVersion(pb.LoadVersionRequest(name=IRIS_2, **fields))

    async def wait(self, name: str, at_most: Duration = LONG) -> Any:
        return await self.operations.WaitOperation(lro.WaitOperationRequest(name=name, timeout=at_most))


@pytest.fixture
async def gateway() -> Any:
    store, fleet = MemoryStore(), FakeFleet()
    releases = Releases(store, fleet, lambda: 0)
    await releases.register("iris", 1)
    fleet.known = [status("iris", 1), status("iris", 2)]
    service = AdminService(releases, store, fleet, Statistics())
    server, port = await start_admin(service, "127.0.0.1", 0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Gateway(fleet, service, channel)
    await service.close()
    await server.stop(None)


async def test_a_version_is_loaded_while_the_caller_looks_on(gateway: Gateway) -> None:
    gateway.fleet.may_prepare.clear()
    begun = await gateway.load()
    assert not begun.done
    assert not (await gateway.wait(begun.name, Duration())).done
    gateway.fleet.may_prepare.set()
    for longest in (Duration(seconds=1 << 62), Duration(seconds=-1)):
        assert (await gateway.wait(begun.name, longest)).name == begun.name
    done, version = await gateway.wait(begun.name), pb.Version()
    assert done.response.Unpack(version)
    assert (version.name, version.state) == (IRIS_2, pb.Version.READY)
    assert done == await gateway.operations.GetOperation(lro.GetOperationRequest(name=begun.name))


async def test_a_version_that_cannot_be_loaded_says_so_at_the_end(gateway: Gateway) -> None:
    gateway.fleet.broken.add(2)
    done, info = await gateway.wait((await gateway.load()).name), error_details_pb2.ErrorInfo()
    assert (done.error.code, "it is broken" in done.error.message) == (
        grpc.StatusCode.FAILED_PRECONDITION.value[0],
        True,
    )
    assert done.error.details[0].Unpack(info)
    assert info.domain == "cutover"


async def test_operations_are_listed_cancelled_and_deleted(gateway: Gateway) -> None:
    gateway.fleet.may_prepare.clear()
    names = sorted([(await gateway.load()).name for _ in range(3)])
    request, seen = lro.ListOperationsRequest(name="operations", page_size=2), []
    while True:
        page = await gateway.operations.ListOperations(request)
        seen += [found.name for found in page.operations]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert seen == names
    await gateway.operations.CancelOperation(lro.CancelOperationRequest(name=names[0]))
    assert (await gateway.wait(names[0])).error.code == grpc.StatusCode.CANCELLED.value[0]
    await gateway.operations.DeleteOperation(lro.DeleteOperationRequest(name=names[0]))
    assert len((await gateway.operations.ListOperations(lro.ListOperationsRequest())).operations) == 2


async def test_the_same_request_again_gets_the_same_operation(gateway: Gateway) -> None:
    gateway.fleet.may_prepare.clear()
    assert (await gateway.load(request_id="id-1")).name == (await gateway.load(request_id="id-1")).name


@pytest.mark.parametrize(
    ("rpc", "request_", "code"),
    [
        ("GetOperation", lro.GetOperationRequest(name="operations/x"), "NOT_FOUND"),
        ("GetOperation", lro.GetOperationRequest(name="x"), "INVALID_ARGUMENT"),
        ("WaitOperation", lro.WaitOperationRequest(name="operations/x"), "NOT_FOUND"),
        ("CancelOperation", lro.CancelOperationRequest(name="operations/x"), "NOT_FOUND"),
        ("DeleteOperation", lro.DeleteOperationRequest(name="operations/x"), "NOT_FOUND"),
        ("ListOperations", lro.ListOperationsRequest(filter="done"), "INVALID_ARGUMENT"),
        ("ListOperations", lro.ListOperationsRequest(name="x"), "INVALID_ARGUMENT"),
        ("ListOperations", lro.ListOperationsRequest(page_token="x"), "INVALID_ARGUMENT"),
    ],
)
async def test_bad_questions(gateway: Gateway, rpc: str, request_: Any, code: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(gateway.operations, rpc)(request_)
    assert caught.value.code() is grpc.StatusCode[code]
