"""What an operator or a client can meet by name is explained in the README."""

import inspect

import pytest

from gateway import errors
from gateway.config.schema import Config, Model
from gateway.observe.metrics import METRICS
from protos import admin_pb2, health_pb2, inference_pb2
from tests.house.code import ROOT

README = (ROOT / "README.md").read_text()

pytestmark = pytest.mark.skipif(not README.strip(), reason="README.md is still empty")


def settings() -> list[str]:
    names = []
    for section, field in Config.model_fields.items():
        fields = Model.model_fields if section == "models" else type(field.default).model_fields
        names += [f"{section}.{name}" for name in fields]
    return names


def rpcs() -> list[str]:
    modules = (admin_pb2, health_pb2, inference_pb2)
    services = [service for module in modules for service in module.DESCRIPTOR.services_by_name.values()]
    return [method.name for service in services for method in service.methods]


def codes() -> list[str]:
    kinds = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, errors.RequestError)]
    return sorted({kind.code.name for kind in kinds if kind is not errors.RequestError})


@pytest.mark.parametrize("setting", settings())
def test_every_setting_is_explained(setting: str) -> None:
    section, _, name = setting.partition(".")
    assert f"`{name}`" in README or f"`{setting}`" in README or f"`models.NAME.{name}`" in README
    assert f"[{section}" in README or f"`{section}." in README


@pytest.mark.parametrize("metric", [metric.name for metric in METRICS])
def test_every_metric_is_explained(metric: str) -> None:
    assert f"`{metric}`" in README


@pytest.mark.parametrize("rpc", rpcs())
def test_every_rpc_is_explained(rpc: str) -> None:
    assert f"`{rpc}" in README or f"/{rpc}`" in README


@pytest.mark.parametrize("code", codes())
def test_every_error_is_explained(code: str) -> None:
    assert f"`{code}`" in README
