import asyncio
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import gateway
import gateway.config
from gateway.errors import StartupError
from gateway.observe.http import create_app, start_http
from tests.unit.gateway.cli.fake import Shell
from tests.unit.gateway.observe.test_http import OneMetric, Readiness


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Configurations `gateway.app.run` was called with."""
    seen: list[Any] = []
    app = ModuleType("gateway.app")

    def run(config: Any) -> int:
        seen.append(config)
        return 0

    app.run = run  # type: ignore[attr-defined] # a module made by hand
    monkeypatch.setitem(sys.modules, "gateway.app", app)
    monkeypatch.setattr(gateway, "app", app, raising=False)
    return seen


def test_serve_hands_on_what_was_given_and_nothing_else(
    cutover: Shell, ran: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[Any, dict[str, Any]]] = []
    monkeypatch.setattr(gateway.config, "load", lambda file, overrides: given.append((file, overrides)))
    assert (
        cutover.local("serve", "--models", "m", "--grpc-port", "0", "--instances", "2", "--transport", "grpcio").code
        == 0
    )
    assert cutover.local("serve", "--config", "c.toml").code == 0
    said = {"server.models": Path("m"), "server.grpc_port": 0, "workers.instances": 2, "server.transport": "grpcio"}
    assert given == [(None, said), (Path("c.toml"), {})]


def test_serve_options_are_settings(cutover: Shell, ran: list[Any], tmp_path: Path) -> None:
    options = ["--models", str(tmp_path), "--state", str(tmp_path / "s"), "--host", "0.0.0.0", "--proxies", "2"]
    options += [
        "--http-host",
        "::1",
        "--http-port",
        "0",
        "--admin-host",
        "::1",
        "--admin-port",
        "0",
        "--log-level",
        "debug",
        "--allow-plaintext",
        *("--tls-cert", "c.pem", "--tls-key", "k.pem", "--tls-client-ca", "a.pem", "--grpc-socket", "clients.sock"),
    ]
    assert cutover.local("serve", *options).err == ""
    (config,) = ran
    server = config.server
    assert (server.models, server.state, server.host, server.proxies) == (tmp_path, tmp_path / "s", "0.0.0.0", 2)
    assert (server.http_host, server.http_port, server.admin_host, server.admin_port) == ("::1", 0, "::1", 0)
    assert config.log.level == "debug"
    assert (server.allow_plaintext, server.grpc_socket) == (True, Path("clients.sock"))
    assert (config.tls.certificate, config.tls.key, config.tls.client_ca) == (
        Path("c.pem"),
        Path("k.pem"),
        Path("a.pem"),
    )


def test_serve_that_cannot_start_is_one_line_and_exit_2(
    cutover: Shell, ran: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> int:
        raise StartupError("port 8001 on 127.0.0.1 is taken: choose another with --grpc-port")

    monkeypatch.setattr(sys.modules["gateway.app"], "run", fail)
    said = cutover.local("serve", "--models", "m")
    assert (said.code, said.err) == (2, "cutover: port 8001 on 127.0.0.1 is taken: choose another with --grpc-port\n")


def test_the_exit_code_of_the_gateway_is_handed_on(
    cutover: Shell, ran: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["gateway.app"], "run", lambda _: 7)
    assert cutover.local("serve", "--models", "m").code == 7


def test_config_check(cutover: Shell, tmp_path: Path) -> None:
    file = tmp_path / "cutover.toml"
    file.write_text("[server]\nproxies = 2\n")
    assert cutover.local("config", "check", str(file)).out == f"{file}: nothing is wrong with it\n"
    file.write_text("[server]\nproxys = 2\nhost = 5\n")
    said = cutover.local("config", "check", str(file))
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 2)
    assert cutover.local("config", "check", str(tmp_path / "none.toml")).code == 2


def test_config_show(cutover: Shell, tmp_path: Path) -> None:
    file = tmp_path / "cutover.toml"
    file.write_text("[models.digits]\ninstances = 3\n")
    shown = cutover.local("config", "show", "--config", str(file)).out
    assert {"server.grpc_port = 8001", 'server.drain_grace = "20s"', "models.digits.instances = 3"} <= set(
        shown.splitlines()
    )
    file.write_text(shown)
    assert cutover.local("config", "check", str(file)).code == 0
    assert cutover.local("config", "show", "--config", str(file)).out == shown
    assert cutover.local("config", "show", "-o", "json").json["server"]["host"] == "127.0.0.1"


@pytest.fixture
def http() -> Iterator[tuple[str, Readiness]]:
    """The HTTP side of a gateway, in a thread of its own."""
    ready, ports, stop = Readiness(), [], threading.Event()
    serving = threading.Event()

    async def serve() -> None:
        server = await start_http(create_app([OneMetric()], ready), "127.0.0.1", 0)
        ports.append(server.port)
        serving.set()
        await asyncio.to_thread(stop.wait)
        await server.stop()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert serving.wait(30)
    yield f"127.0.0.1:{ports[0]}", ready
    stop.set()
    thread.join()


def test_health_follows_readiness(cutover: Shell, http: tuple[str, Readiness]) -> None:
    address, ready = http
    said = cutover.local("health", "--http", address)
    assert (said.code, said.out, said.err) == (1, "not ready\n", "")
    ready.value = True
    assert cutover.local("health", "--http", address).out == "ready\n"
    said = cutover.local("health", "--http", address, "-o", "json")
    assert (said.code, json.loads(said.out)) == (0, {"ready": True})


def test_health_without_a_gateway(cutover: Shell, admin: Any) -> None:
    said = cutover.local("health", "--http", "127.0.0.1:1")
    assert (said.code, said.out, said.err.count("\n")) == (3, "", 1)
    assert cutover.local("health", "--http", admin.address).code == 3
    assert cutover.local("health", "--http", "nonsense").code == 2
