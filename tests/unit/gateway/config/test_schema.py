from gateway.config.schema import Config, Limits, Model
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


def test_limits_of_clients_reach_the_proxies() -> None:
    written = {"max_header_bytes": "8KiB", "upload_timeout": "5s", "write_timeout": "0s", "idle_timeout": "10m"}
    settings = Config(limits=Limits(max_connections=7, **written)).proxy_settings(1)  # type: ignore[arg-type] # as written in the file
    assert (settings.max_connections, settings.max_header_bytes) == (7, 8192)
    assert (settings.upload_timeout_s, settings.write_timeout_s, settings.idle_timeout_s) == (5.0, 0.0, 600.0)
