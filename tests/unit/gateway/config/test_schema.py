from gateway.config.schema import Config, Model
from gateway.controlplane.settings import FleetSettings, ProxySettings, WorkerOverrides
from gateway.routing.snapshot import Assignment


def test_defaults_are_those_the_parts_have_themselves() -> None:
    config = Config()
    assert config.proxy_settings(8001) == ProxySettings("127.0.0.1", 8001)
    assert config.fleet_settings() == FleetSettings()


def test_a_model_without_settings_of_its_own_is_like_no_entry() -> None:
    assert Model().assignment() == Assignment()
    assert Model().overrides() == WorkerOverrides()


def test_metadata_keys_are_lower_case_as_on_the_wire() -> None:
    model = Model(unit_metadata=["X-Tenant"], unit_parameters=["Tenant"], no_unit="stable", allow_forced=False)
    assert model.assignment() == Assignment(("x-tenant",), ("Tenant",), "stable", False)
