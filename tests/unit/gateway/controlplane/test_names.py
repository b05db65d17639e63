"""Resource names of the admin API."""

import pytest

from gateway.controlplane.names import (
    gateway_name,
    gateway_of,
    model_of_parent,
    model_of_release,
    release_name,
    version_name,
)
from gateway.errors import InvalidRequest


def test_names_are_made_and_read() -> None:
    assert release_name("iris") == "models/iris/release"
    assert version_name("iris", 2) == "models/iris/versions/2"
    assert model_of_release("models/iris/release") == "iris"
    assert model_of_parent("models/iris") == "iris"
    assert model_of_parent("") is None


@pytest.mark.parametrize(
    "name",
    ["", "iris", "models/iris", "models//release", "models/a/b/release", "models/a/release/", "models/a/release\n"],
)
def test_other_release_names_are_invalid(name: str) -> None:
    with pytest.raises(InvalidRequest, match=r"name must be models/\{model\}/release, not '"):
        model_of_release(name)


def test_gateways_have_names() -> None:
    assert gateway_of(gateway_name("host:8001")) == "host:8001"
    for name in ("b", "gateways/", "gateways/a/b", "gateway/a"):
        with pytest.raises(InvalidRequest, match=r"name must be gateways/\{gateway\}, not '"):
            gateway_of(name)


@pytest.mark.parametrize("parent", ["iris", "models/", "models/iris/release", "models"])
def test_other_parents_are_invalid(parent: str) -> None:
    with pytest.raises(InvalidRequest, match=r"parent must be models/\{model\} or empty, not '"):
        model_of_parent(parent)


def test_a_long_name_is_not_repeated_whole() -> None:
    with pytest.raises(InvalidRequest) as caught:
        model_of_release("x" * 100_000)
    assert len(str(caught.value)) < 300
