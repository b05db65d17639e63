"""Every RPC asks for something."""

from typing import Any

import pytest
from google.longrunning import operations_pb2

from gateway.controlplane.access.needs import ADMIN, NEEDS, OPERATIONS, About, Need, model_of
from gateway.controlplane.access.roles import Role
from protos import admin_pb2 as pb

SERVICES = {
    ADMIN: pb.DESCRIPTOR.services_by_name["Admin"],
    OPERATIONS: operations_pb2.DESCRIPTOR.services_by_name["Operations"],
}
METHODS = {place + method.name: method for place, service in SERVICES.items() for method in service.methods}
READING = ("Get", "List", "Watch", "Wait")


def test_every_rpc_needs_a_role_and_no_other_is_named() -> None:
    assert set(NEEDS) == set(METHODS)


def test_whatever_is_more_than_looking_needs_more_than_a_viewer() -> None:
    weak = [name for name, need in NEEDS.items() if need.role is Role.VIEWER]
    assert [name for name in weak if not name.rpartition("/")[2].startswith(READING)] == []


@pytest.mark.parametrize("method", METHODS)
def test_requests_have_what_names_their_model(method: str) -> None:
    need = NEEDS[method]
    fields = set(METHODS[method].input_type.fields_by_name)
    wanted = {About.NAME: {"name"}, About.OPERATION: {"name"}, About.RELEASE: {"release"}}
    assert fields >= wanted.get(need.about, set())


@pytest.mark.parametrize(
    ("about", "request_", "model"),
    [
        (About.NAME, pb.FlipRequest(name="models/iris/release"), "iris"),
        (About.NAME, pb.FlipRequest(name="models/iris"), "iris"),
        (About.NAME, pb.FlipRequest(name="iris"), None),
        (About.NAME, pb.FlipRequest(), None),
        (About.RELEASE, pb.UpdateReleaseRequest(release=pb.Release(name="models/iris/release")), "iris"),
        (About.RELEASE, pb.UpdateReleaseRequest(release=pb.Release(model="iris")), None),
        (About.LIST, pb.ListVersionsRequest(parent="models/iris"), "iris"),
        (About.LIST, pb.ListVersionsRequest(), None),
        (About.LIST, pb.WatchReleasesRequest(name="models/iris/release"), "iris"),
        (About.LIST, pb.ListReleasesRequest(), None),
        (About.OPERATION, operations_pb2.GetOperationRequest(name="operations/1"), "iris"),
        (About.OPERATION, operations_pb2.GetOperationRequest(name="operations/2"), None),
        (About.LIST, operations_pb2.ListOperationsRequest(name="operations"), None),
        (About.OWN, pb.RevokeTokenRequest(name="models/iris/release"), None),
    ],
)
def test_a_request_is_about_a_model_or_about_all(about: About, request_: Any, model: str | None) -> None:
    targets = {"operations/1": "models/iris/versions/2"}
    assert model_of(Need(Role.VIEWER, about), request_, lambda name: targets.get(name, "")) == model
