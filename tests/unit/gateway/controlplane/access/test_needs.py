"""Every RPC asks for something."""

from typing import Any

import pytest

from gateway.controlplane.access.needs import ADMIN, NEEDS, About, Need, model_of
from gateway.controlplane.access.roles import Role
from protos import admin_pb2 as pb

METHODS = tuple(pb.DESCRIPTOR.services_by_name["Admin"].methods)
READING = ("Get", "List", "Watch")


def test_every_rpc_needs_a_role_and_no_other_is_named() -> None:
    assert set(NEEDS) == {ADMIN + method.name for method in METHODS}


def test_whatever_is_more_than_looking_needs_more_than_a_viewer() -> None:
    weak = [name for name, need in NEEDS.items() if need.role is Role.VIEWER]
    assert [name for name in weak if not name.removeprefix(ADMIN).startswith(READING)] == []


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_requests_have_what_names_their_model(method: Any) -> None:
    need = NEEDS[ADMIN + method.name]
    fields = set(method.input_type.fields_by_name)
    wanted = {About.NAME: {"name"}, About.RELEASE: {"release"}}
    assert fields >= wanted.get(need.about, set())


@pytest.mark.parametrize(
    ("about", "request_", "model"),
    [
        (About.NAME, pb.FlipRequest(name="models/iris/release"), "iris"),
        (About.NAME, pb.FlipRequest(name="models/iris"), "iris"),
        (About.NAME, pb.FlipRequest(name="iris"), None),
        (About.NAME, pb.FlipRequest(), None),
        (About.LIST, pb.ListVersionsRequest(parent="models/iris"), "iris"),
        (About.LIST, pb.ListVersionsRequest(), None),
        (About.LIST, pb.WatchReleasesRequest(name="models/iris/release"), "iris"),
        (About.LIST, pb.ListReleasesRequest(), None),
        (About.OWN, pb.RevokeTokenRequest(name="models/iris/release"), None),
    ],
)
def test_a_request_is_about_a_model_or_about_all(about: About, request_: Any, model: str | None) -> None:
    assert model_of(Need(Role.VIEWER, about), request_) == model
