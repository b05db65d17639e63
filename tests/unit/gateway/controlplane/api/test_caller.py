from typing import Any

import pytest

from gateway.controlplane.api.caller import actor
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
