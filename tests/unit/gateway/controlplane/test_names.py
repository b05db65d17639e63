"""Resource names of the admin API."""

import pytest

from gateway.controlplane.names import (
    gateway_name,
    gateway_of,
    id_of_operation,
    id_of_token,
    model_of_parent,
    model_of_release,
    operation_name,
    release_name,
    token_name,
    version_name,
    version_of,
)
from gateway.errors import InvalidRequest


def test_names_are_made_and_read() -> None:
    assert release_name("iris") == "models/iris/release"
    assert version_name("iris", 2) == "models/iris/versions/2"
    assert model_of_release("models/iris/release") == "iris"
    assert model_of_parent("models/iris") == "iris"
    assert model_of_parent("") is None
    assert version_of(version_name("iris", 2)) == ("iris", 2)
    assert id_of_operation(operation_name("7f")) == "7f"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "iris",
        "models/iris",
        "models//release",
        "models/a/b/release",
        "models/a/release/",
        "models/a/release\n",
        "models/a\0/release",
    ],
)
def test_other_release_names_are_invalid(name: str) -> None:
    with pytest.raises(InvalidRequest, match=r"name must be models/\{model\}/release, not '"):
        model_of_release(name)


@pytest.mark.parametrize(
    "name", ["", "iris/2", "models/iris/versions/0", "models/iris/versions/-1", "models/iris/versions/²", "models/a/2"]
)
def test_other_version_names_are_invalid(name: str) -> None:
    with pytest.raises(InvalidRequest, match=r"name must be models/\{model\}/versions/\{version\}, not '") as caught:
        version_of(name)
    assert caught.value.field == "name"


def test_other_operation_names_are_invalid() -> None:
    with pytest.raises(InvalidRequest, match=r"name must be operations/\{operation\}, not '7f'"):
        id_of_operation("7f")


def test_gateways_have_names() -> None:
    assert gateway_of(gateway_name("host:8001")) == "host:8001"
    for name in ("b", "gateways/", "gateways/a/b", "gateway/a"):
        with pytest.raises(InvalidRequest, match=r"name must be gateways/\{gateway\}, not '"):
            gateway_of(name)


@pytest.mark.parametrize("parent", ["iris", "models/", "models/iris/release", "models", "models/a\0"])
def test_other_parents_are_invalid(parent: str) -> None:
    with pytest.raises(InvalidRequest, match=r"parent must be models/\{model\} or empty, not '"):
        model_of_parent(parent)


def test_a_long_name_is_not_repeated_whole() -> None:
    with pytest.raises(InvalidRequest) as caught:
        model_of_release("x" * 100_000)
    assert len(str(caught.value)) < 300


def test_names_of_tokens_are_made_and_read() -> None:
    assert id_of_token(token_name("ci")) == "ci"
    for name in ("", "ci", "tokens/", "tokens/a/b"):
        with pytest.raises(InvalidRequest, match=r"name must be tokens/\{token\}, not '"):
            id_of_token(name)
