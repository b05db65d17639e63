from typing import Any

import msgspec
import pytest
from pydantic import ValidationError

from gateway.config.schema import Config, Limits, Model, Server
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


def test_the_schema_is_told_unless_forbidden() -> None:
    assert Config().proxy_settings(1).reflection
    assert not Config(server=Server(reflection=False)).proxy_settings(1).reflection


def test_limits_of_clients_reach_the_proxies() -> None:
    written = {"max_header_bytes": "8KiB", "upload_timeout": "5s", "write_timeout": "0s", "idle_timeout": "10m"}
    settings = Config(limits=Limits(max_connections=7, **written)).proxy_settings(1)  # type: ignore[arg-type] # as written in the file
    assert (settings.max_connections, settings.max_header_bytes) == (7, 8192)
    assert (settings.upload_timeout_s, settings.write_timeout_s, settings.idle_timeout_s) == (5.0, 0.0, 600.0)


def test_every_limit_of_peers_can_be_set() -> None:
    written = {
        "max_buffered": "16MiB", "max_uploads": "1MiB", "max_backlog": "2MiB", "max_decompressed": "3MiB",
        "max_header_fields": 4, "max_continuations": 5, "max_settings": 6, "max_control_replies": 7, "max_resets": 8,
        "resets_per_second": 9, "max_chatter": 10, "chatter_per_second": 11, "min_bytes_per_second": 12,
        "handshake_timeout": "13s", "header_timeout": "14s", "stream_idle_timeout": "15s", "keepalive_time": "16s",
        "keepalive_timeout": "17s", "min_ping_interval": "18s", "min_idle_ping_interval": "19s",
        "max_ping_strikes": 20, "max_age": "21s", "max_age_grace": "22s",
    }  # fmt: skip
    peers = Config(limits=Limits(**written)).proxy_settings(1).peers  # type: ignore[arg-type] # as written in the file
    values = list(msgspec.structs.astuple(peers))
    assert values[:4] == [16 << 20, 1 << 20, 2 << 20, 3 << 20]
    assert values[4:] == list(range(4, 23))


@pytest.mark.parametrize(
    "limit",
    [
        {"max_buffered": "1MiB"}, {"handshake_timeout": "0s"}, {"header_timeout": "0s"}, {"keepalive_timeout": "0s"},
        {"resets_per_second": 0}, {"max_resets": 0}, {"min_bytes_per_second": 0}, {"max_age": "25h"},
    ],
)  # fmt: skip
def test_limits_that_would_stop_everybody_or_nobody_are_refused(limit: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Limits(**limit)
