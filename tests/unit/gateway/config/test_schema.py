from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import ValidationError

from gateway.config.access import Admin
from gateway.config.schema import Config, Limits, Server, Tls, Triton, Workers
from gateway.controlplane.access.keeper import Access
from gateway.controlplane.access.roles import Role, Roles
from gateway.controlplane.settings import FleetSettings, ProxySettings, TritonSettings
from gateway.controlplane.written import Model
from gateway.routing.link import Entrance
from gateway.transport.tls import TlsFiles


def test_defaults_are_those_the_parts_have_themselves() -> None:
    config = Config()
    assert config.proxy_settings(8001) == ProxySettings("127.0.0.1", 8001)
    assert config.fleet_settings() == FleetSettings()


def test_what_tritons_clients_may_do(tmp_path: Path) -> None:
    assert Config().triton_settings() == TritonSettings()
    triton = Triton(model_control="explicit", trace_file=tmp_path / "t", change_settings=True, metric_aliases=True)
    config = Config(triton=triton)
    assert config.triton_settings() == TritonSettings("explicit", str(tmp_path / "t"), True, True)
    assert config.proxy_settings(1).extensions == config.triton_settings().extensions()


def test_the_schema_is_told_unless_forbidden() -> None:
    assert Config().proxy_settings(1).reflection
    assert not Config(server=Server(reflection=False)).proxy_settings(1).reflection


def test_limits_of_clients_reach_the_proxies() -> None:
    written = {"max_header_bytes": "8KiB", "upload_timeout": "5s", "write_timeout": "0s", "idle_timeout": "10m"}
    settings = Config(limits=Limits(max_connections=7, **written)).proxy_settings(1)  # type: ignore[arg-type] # as written in the file
    assert (settings.max_connections, settings.max_header_bytes) == (7, 8192)
    assert (settings.upload_timeout_s, settings.write_timeout_s, settings.idle_timeout_s) == (5.0, 0.0, 600.0)


@pytest.mark.parametrize(("written", "expected"), [("1MiB", 1 << 20), ("64MiB", 64 << 20), ("0B", 0)])
def test_what_is_shared_with_workers_reaches_the_proxies(written: str, expected: int) -> None:
    limits = Limits(shared_tensors_above=written)  # type: ignore[arg-type] # as written in the file
    assert Config(limits=limits).proxy_settings(1).shared_tensors_above_bytes == expected
    assert Config().proxy_settings(1).shared_tensors_above_bytes == 128 << 10


def test_every_limit_of_peers_can_be_set() -> None:
    written = {
        "max_buffered": "16MiB", "max_uploads": "1MiB", "max_backlog": "2MiB", "max_decompressed": "3MiB",
        "compress_above": "64KiB",
        "max_header_fields": 4, "max_continuations": 5, "max_settings": 6, "max_control_replies": 7, "max_resets": 8,
        "resets_per_second": 9, "max_chatter": 10, "chatter_per_second": 11, "min_bytes_per_second": 12,
        "handshake_timeout": "13s", "header_timeout": "14s", "stream_idle_timeout": "15s", "keepalive_time": "16s",
        "keepalive_timeout": "17s", "min_ping_interval": "18s", "min_idle_ping_interval": "19s",
        "max_ping_strikes": 20, "max_age": "21s", "max_age_grace": "22s",
    }  # fmt: skip
    peers = Config(limits=Limits(**written)).proxy_settings(1).peers  # type: ignore[arg-type] # as written in the file
    values = list(msgspec.structs.astuple(peers))
    assert values[:5] == [16 << 20, 1 << 20, 2 << 20, 3 << 20, 64 << 10]
    assert values[5:] == list(range(4, 23))


@pytest.mark.parametrize(
    ("proxies", "written", "age_s"), [(1, None, 0.0), (2, None, 1800.0), (2, "0s", 0.0), (1, "5m", 300.0)]
)
def test_connections_grow_old_by_default_where_several_proxies_share_them(
    proxies: int, written: str | None, age_s: float
) -> None:
    config = Config(server=Server(proxies=proxies), limits=Limits(max_age=written))  # type: ignore[arg-type] # as written in the file
    assert config.proxy_settings(1).peers.max_age_s == age_s


@pytest.mark.parametrize(
    "limit",
    [
        {"max_buffered": "1MiB"}, {"handshake_timeout": "0s"}, {"header_timeout": "0s"}, {"keepalive_timeout": "0s"},
        {"resets_per_second": 0}, {"max_resets": 0}, {"min_bytes_per_second": 0}, {"max_age": "25h"},
        {"shared_tensors_above": "65MiB"}, {"shared_tensors_above": "4GiB"},
    ],
)  # fmt: skip
def test_limits_that_would_stop_everybody_or_nobody_are_refused(limit: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Limits(**limit)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_tls(host: str) -> None:
    assert Config(server=Server(host=host)).server.host == host


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.0.2.1", "gateway.example", "localhost.example", "::ffff:192.0.2.1"]
)
def test_other_hosts_need_tls_or_an_explicit_word(host: str) -> None:
    with pytest.raises(ValueError, match="--tls-cert and --tls-key, or --allow-plaintext"):
        Config(server=Server(host=host))
    assert Config(server=Server(host=host, allow_plaintext=True)).entrance() == Entrance()
    assert Config(server=Server(host=host), tls=Tls(certificate=Path("c"), key=Path("k"))).entrance().certificate


def test_how_clients_come_in_reaches_the_proxies() -> None:
    tls = Tls(certificate=Path("/c"), key=Path("/k"), client_ca=Path("/a"), min_version="1.3", reload_every="1m")  # type: ignore[arg-type] # as written in the file
    server = Server(proxy_protocol=True, trusted_proxies=["10.0.0.0/8", "unix:"])
    assert Config(server=server, tls=tls).proxy_settings(1).entrance == Entrance(
        "h2", "/c", "/k", "/a", "1.3", 60.0, True, ("10.0.0.0/8", "unix:")
    )


def test_the_other_transport_reaches_the_proxies() -> None:
    assert Config(server=Server(transport="grpcio")).proxy_settings(1).entrance == Entrance("grpcio")


@pytest.mark.parametrize(
    ("server", "tls", "setting"),
    [
        ({"grpc_socket": Path("/s")}, Tls(), "server.grpc_socket"),
        ({"proxy_protocol": True}, Tls(), "server.proxy_protocol"),
        ({}, Tls(certificate=Path("c"), key=Path("k"), min_version="1.3"), 'tls.min_version = "1.3"'),
    ],
)
def test_what_the_other_transport_cannot_do_is_refused(server: dict[str, Any], tls: Tls, setting: str) -> None:
    with pytest.raises(ValueError, match=f'"grpcio" cannot do {setting}; leave it out, or use "h2"'):
        Config(server=Server(transport="grpcio", **server), tls=tls)
    assert Config(server=Server(**server), tls=tls)


def test_preferred_sizes_beyond_the_largest_are_refused_wherever_they_meet() -> None:
    with pytest.raises(ValidationError) as raised:
        Config(
            workers=Workers(preferred_batch_sizes=[8, 128]),
            models={"same": Model(threads=2), "small": Model(max_batch_size=4), "large": Model(max_batch_size=128)},
        )
    (problem,) = raised.value.errors()
    assert str(problem["ctx"]["error"]).splitlines() == [
        "workers.preferred_batch_sizes: 128 is more than max_batch_size, 64; raise that or leave 128 out",
        "models.small.preferred_batch_sizes: 8, 128 are more than max_batch_size, 4; raise that or leave 8, 128 out",
    ]


GRANTS = {"spiffe://corp/ops": "owner", "unix:": {"iris": "operator", "*": "viewer"}}


def test_who_may_do_what_reaches_the_keeper(tmp_path: Path) -> None:
    assert Config().access() == Access({}, open_port=True)
    assert Config().admin_files() is None
    files = {
        "certificate": tmp_path / "c",
        "key": tmp_path / "k",
        "client_ca": tmp_path / "a",
        "socket": tmp_path / "s",
    }
    admin = Admin.model_validate(files | {"grants": GRANTS})
    config = Config(server=Server(admin_host="0.0.0.0"), admin=admin)
    assert config.access() == Access(
        {
            "spiffe://corp/ops": Roles({"*": Role.OWNER}),
            "unix:": Roles({"iris": Role.OPERATOR, "*": Role.VIEWER}),
        },
        open_port=False,
        socket=True,
    )
    assert config.admin_files() == TlsFiles(tmp_path / "c", tmp_path / "k", tmp_path / "a")


def test_a_port_that_asks_for_certificates_is_not_open(tmp_path: Path) -> None:
    admin = Admin(certificate=tmp_path / "c", key=tmp_path / "k", client_ca=tmp_path / "a")
    assert not Config(admin=admin).access().open_port
    assert Config(admin=Admin(certificate=tmp_path / "c", key=tmp_path / "k")).access().open_port


def test_operators_on_other_machines_need_tls(tmp_path: Path) -> None:
    elsewhere = Server(admin_host="0.0.0.0")
    with pytest.raises(ValueError, match=r"operators on other machines could reach .* without TLS"):
        Config(server=elsewhere)
    assert Config(server=elsewhere, admin=Admin(tcp=False, socket=tmp_path / "s"))
