from collections.abc import Iterator
from typing import Any

import pytest

from gateway.controlplane.access import guard
from gateway.controlplane.access.identity import Caller
from gateway.controlplane.access.roles import Role, Roles
from gateway.controlplane.api.caller import actor, may_see
from tests.unit.gateway.controlplane.api.conftest import FakeContext


@pytest.mark.parametrize(
    ("context", "name"),
    [
        (FakeContext(cutover_actor="ada@here"), "ada@here"),
        (FakeContext(cutover_actor=""), "ipv4:127.0.0.1:5"),
        (FakeContext(), "ipv4:127.0.0.1:5"),
    ],
)
def test_the_actor_is_the_name_given_or_else_the_address(context: Any, name: str) -> None:
    assert actor(context) == name


@pytest.fixture
def known() -> Iterator[None]:
    """The guard has found out who calls."""
    token = guard._caller.set(Caller("token:ci", Roles({"iris": Role.VIEWER})))
    yield
    guard._caller.reset(token)


@pytest.mark.usefixtures("known")
def test_the_actor_is_who_the_guard_has_found() -> None:
    context: Any = FakeContext(cutover_actor="ada@here")
    assert actor(context) == "token:ci (ada@here)"
    nameless: Any = FakeContext()
    assert actor(nameless) == "token:ci"


@pytest.mark.usefixtures("known")
def test_a_caller_may_see_its_models() -> None:
    assert (may_see("iris"), may_see("wine")) == (True, False)


def test_without_a_guard_everything_may_be_seen() -> None:
    assert may_see("wine")
