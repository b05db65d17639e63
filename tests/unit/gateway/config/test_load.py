from pathlib import Path

import pytest

from gateway.config import Config, load
from gateway.errors import StartupError

PLAINTEXT = (
    "clients on other machines could reach 10.0.0.1 without TLS; give --tls-cert and --tls-key, "
    "or --allow-plaintext if the network is trusted"
)
NETWORKS = "must be addresses, networks such as 10.0.0.0/8, or unix:"
MODE = 'must be a file mode such as "0600" or "0660"'
BOTH = "(--tls-cert and --tls-key)"
SIZE = 'must be a number with one of the units B, KiB, MiB, GiB, such as "64MiB"'


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in os.environ:
        if name.startswith("CUTOVER_"):
            monkeypatch.delenv(name)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "cutover.toml"
    path.write_text(text)
    return path


def mistakes(tmp_path: Path, text: str, overrides: dict[str, object] | None = None) -> list[str]:
    """The lines of the error, without the path of the file."""
    with pytest.raises(StartupError) as raised:
        load(written(tmp_path, text), overrides)
    return str(raised.value).replace(f"{tmp_path}/", "").splitlines()


def test_nothing_given_is_all_defaults() -> None:
    assert load() == Config()


def test_the_file_is_read_with_units_and_paths_relative_to_it(tmp_path: Path) -> None:
    config = load(
        written(
            tmp_path,
            """
            [server]
            models = "models"
            drain_grace = "1m"
            [limits]
            max_message = "4MiB"
            [workers]
            instances = 2
            [models.digits]
            threads = 4
            no_unit = "stable"
            """,
        )
    )
    assert config.server.models == tmp_path / "models"
    assert (config.server.drain_grace, config.limits.max_message) == (60.0, 4 << 20)
    assert config.fleet_settings().models["digits"].over(config.fleet_settings().workers).threads == 4


def test_command_line_beats_environment_beats_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, "[server]\ngrpc_port = 1\nhttp_port = 2\nadmin_port = 3\n[log]\nlevel = 'debug'")
    monkeypatch.setenv("CUTOVER_SERVER_GRPC_PORT", "10")
    monkeypatch.setenv("CUTOVER_SERVER_HTTP_PORT", "20")
    monkeypatch.setenv("CUTOVER_LIMITS_WORKER_WAIT", "250ms")
    config = load(
        file,
        {"server.grpc_port": 100, "server.http_port": None, "workers.instances": 5, "log.format": "json"},
    )
    server = config.server
    assert (server.grpc_port, server.http_port, server.admin_port) == (100, 20, 3)
    assert (config.limits.worker_wait, config.workers.instances) == (0.25, 5)
    assert (config.log.format, config.log.level) == ("json", "debug")


def test_all_mistakes_are_told_at_once_each_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUTOVER_LOG_LEVEL", "loud")
    monkeypatch.setenv("CUTOVER_WORKERS_INSTANCE", "3")
    text = """
        [server]
        grpc_prot = 3
        http_port = "x"
        drain_grace = 20
        [limits]
        max_message = "4MB"
        [models.digits]
        instances = 0
        no_unit = "x"
        allow_forced = 1
        unit_metadata = "x-user-id"
        [nope]
    """
    assert sorted(mistakes(tmp_path, text, {"server.admin_port": 70_000, "log.format": "xml"})) == [
        "--admin-port: must be at most 65535, not 70000",
        "--log-format: must be 'text' or 'json', not 'xml'",
        "CUTOVER_LOG_LEVEL: must be 'debug', 'info', 'warning' or 'error', not 'loud'",
        "CUTOVER_WORKERS_INSTANCE: unknown setting; did you mean instances?",
        f"cutover.toml: limits.max_message: {SIZE}, not '4MB'",
        "cutover.toml: models.digits.allow_forced: must be true or false, not 1",
        "cutover.toml: models.digits.instances: must be at least 1, not 0",
        "cutover.toml: models.digits.no_unit: must be 'per-request' or 'stable', not 'x'",
        'cutover.toml: models.digits.unit_metadata: must be a list such as ["a", "b"], not \'x-user-id\'',
        "cutover.toml: nope: unknown setting; known: server, tls, admin, store, limits, workers, models, triton, log",
        'cutover.toml: server.drain_grace: must be a number with one of the units ms, s, m, h, such as "20s", not 20',
        "cutover.toml: server.grpc_prot: unknown setting; did you mean grpc_port?",
        "cutover.toml: server.http_port: must be a whole number, not 'x'",
    ]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("server = 3", "cutover.toml: server: must be a table"),
        ("[server]\nhost = '10.0.0.1'", f"cutover.toml: {PLAINTEXT}"),
        (
            "[server]\ntrusted_proxies = ['x']",
            f"cutover.toml: server.trusted_proxies: {NETWORKS}; 'x' is none of them, not ['x']",
        ),
        ("[server]\ngrpc_socket_mode = 'rw'", f"cutover.toml: server.grpc_socket_mode: {MODE}, not 'rw'"),
        ("[tls]\nkey = 'k'", f"cutover.toml: tls: certificate and key belong together; give both {BOTH}"),
        ("[tls]\nclient_ca = 'a'", f"cutover.toml: tls: client_ca needs a certificate and a key, too {BOTH}"),
        ("[store]\nurl = 'mysql://a'", "cutover.toml: store: url must begin with postgresql://"),
        ("[store]\nurl = 'postgresql://[a'", "cutover.toml: store: url must be one of PostgreSQL, such as postgresql:"),
        ("[store]\ncut_off = 'stop'", "cutover.toml: store: password_file and cut_off concern a database"),
        ("[store]\nlease = '10ms'", "cutover.toml: store.lease: must be at least 1s"),
        ("[server]\nhost = 1", "cutover.toml: server.host: must be text in quotes, not 1"),
        ("[server]\ngrpc_port = 8002", "cutover.toml: server: grpc_port, http_port and admin_port must differ"),
        ("[limits]\nmax_message = '2GiB'", "cutover.toml: limits.max_message: must be at most 2147483647B, not '2GiB'"),
        ("[server]\ndrain_grace = '25h'", "cutover.toml: server.drain_grace: must be at most 24h, not '25h'"),
        ("[limits]\nmax_header_bytes = '1B'", "cutover.toml: limits.max_header_bytes: must be at least 4KiB, not '1B'"),
        (
            "[workers]\npreferred_batch_sizes = '4,8'",
            "cutover.toml: workers.preferred_batch_sizes: must be a list such as [4, 8], not '4,8'",
        ),
        (
            "[workers]\npreferred_batch_sizes = [128]",
            "cutover.toml: workers.preferred_batch_sizes: 128 is more than max_batch_size, 64; raise that or leave 128",
        ),
        ("[server]\nack_timeout = '0s'", "cutover.toml: server.ack_timeout: must be at least 100ms"),
        ("[server", "config file cutover.toml is not valid TOML: Expected ']' at the end of a table declaration"),
    ],
)
def test_mistakes_in_the_file(tmp_path: Path, text: str, mistake: str) -> None:
    (said,) = mistakes(tmp_path, text)
    assert said.startswith(mistake)


def test_a_wrong_file_does_not_hide_behind_an_option(tmp_path: Path) -> None:
    assert mistakes(tmp_path, "server = 3", {"server.grpc_port": 0}) == ["cutover.toml: server: must be a table"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="does not exist; give an existing one with --config"):
        load(tmp_path / "nowhere.toml")
    with pytest.raises(StartupError, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_variables_that_kubernetes_sets_for_a_service_are_not_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUTOVER_SERVER_SERVICE_HOST", "CUTOVER_SERVER_PORT", "CUTOVER_SERVER_PORT_8001_TCP", "CUTOVER_ADMIN"):
        monkeypatch.setenv(name, "tcp://10.0.0.1:8001")
    assert load() == Config()


def test_a_number_in_the_environment_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUTOVER_SERVER_PROXIES", "many")
    with pytest.raises(StartupError, match="CUTOVER_SERVER_PROXIES: must be a whole number, not 'many'"):
        load()


def test_lists_and_truths_can_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUTOVER_SERVER_TRUSTED_PROXIES", "10.0.0.0/8, unix:")
    monkeypatch.setenv("CUTOVER_SERVER_ALLOW_PLAINTEXT", "true")
    monkeypatch.setenv("CUTOVER_SERVER_PROXY_PROTOCOL", "false")
    server = load(None, {"server.host": "0.0.0.0"}).server
    assert (server.trusted_proxies, server.allow_plaintext, server.proxy_protocol) == (
        ["10.0.0.0/8", "unix:"],
        True,
        False,
    )
    monkeypatch.setenv("CUTOVER_SERVER_ALLOW_PLAINTEXT", "yes")
    with pytest.raises(StartupError, match="CUTOVER_SERVER_ALLOW_PLAINTEXT: must be true or false, not 'yes'"):
        load(None, {})


def test_paths_of_certificates_are_relative_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "cutover.toml"
    file.write_text('server.grpc_socket = "s"\n[tls]\ncertificate = "a"\nkey = "b"\nclient_ca = "/c"\n')
    config = load(file)
    assert config.server.grpc_socket == tmp_path / "s"
    assert (config.tls.certificate, config.tls.key, config.tls.client_ca) == (
        tmp_path / "a",
        tmp_path / "b",
        Path("/c"),
    )
    assert load(None, {"tls.certificate": Path("x"), "tls.key": Path("y")}).entrance().certificate == str(
        Path.cwd() / "x"
    )


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ada:s3cret@db/x",
        "postgresql://db/x?user=ada&password=s3cret",
        "postgresql://db/x?sslpassword=s3cret",
    ],
)
def test_a_password_in_a_url_is_refused_and_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    (said,) = mistakes(tmp_path, f"[store]\nurl = {url!r}")
    assert said.startswith("cutover.toml: store: url must not hold a password; give it by password_file")
    assert "s3cret" not in said
    monkeypatch.setenv("CUTOVER_STORE_URL", url)
    with pytest.raises(StartupError) as raised:
        load()
    assert "s3cret" not in str(raised.value)


def test_the_file_of_the_password_is_relative_to_the_configuration(tmp_path: Path) -> None:
    file = written(tmp_path, "[store]\nurl = 'postgresql://db/x'\npassword_file = 'secret'")
    assert load(file).store.password_file == tmp_path / "secret"


def test_lists_of_numbers_can_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUTOVER_WORKERS_PREFERRED_BATCH_SIZES", "4, 8")
    assert load().workers.preferred_batch_sizes == [4, 8]
    monkeypatch.setenv("CUTOVER_WORKERS_PREFERRED_BATCH_SIZES", "4,x")
    with pytest.raises(StartupError, match="PREFERRED_BATCH_SIZES: must be a whole number, not 'x'"):
        load()


def test_what_does_not_go_together_is_told_for_each_model(tmp_path: Path) -> None:
    text = "[models.a]\npreferred_batch_sizes = [65]\n[models.b]\nmax_batch_size = 2\npreferred_batch_sizes = [3, 4]"
    limit = "more than max_batch_size"
    assert mistakes(tmp_path, text) == [
        f"cutover.toml: models.a.preferred_batch_sizes: 65 is {limit}, 64; raise that or leave 65 out",
        f"cutover.toml: models.b.preferred_batch_sizes: 3, 4 are {limit}, 2; raise that or leave 3, 4 out",
    ]


def test_the_address_of_the_command_line_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUTOVER_ADMIN", "127.0.0.1:1")
    monkeypatch.setenv("CUTOVER_TOKEN", "x")
    monkeypatch.setenv("CUTOVER_ADMIN_SOCKET_MODE", "0660")
    assert load().admin.socket_mode == "0660"


def test_paths_of_the_admin_api_are_relative_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "cutover.toml"
    file.write_text('[admin]\nsocket = "a.sock"\n[admin.grants]\n"unix:" = "owner"\n')
    found = load(file).admin
    assert (found.socket, found.grants) == (tmp_path / "a.sock", {"unix:": "owner"})
