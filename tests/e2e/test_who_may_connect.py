"""TLS, client certificates, proxies in front and the Unix socket, through a whole gateway."""

import json
import os
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import grpc
import pytest

from gateway.transport.h2.frames import PREFACE, FrameType, frame
from protos.inference_pb2_grpc import GRPCInferenceServiceStub
from tests import models
from tests.certificates import Authority
from tests.e2e.calls import Askers, ask, open_channel, request
from tests.e2e.test_bad_input import PORTS, refused, serve
from tests.e2e.waiting import eventually
from tests.proxied import Relay, v1, v2
from tests.serving import Gateway, serving

AUTHORITY = Authority()
CONFIG = """
server.trusted_proxies = ["10.0.0.0/8", "unix:"]
[limits]
max_connections = 8
[tls]
reload_every = "50ms"
[models.number]
unit_metadata = ["cutover-peer-identity", "cutover-peer-address"]
no_unit = "stable"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a canary's version, a configuration, and the certificates of server and clients' authority."""
    made = tmp_path_factory.mktemp("tls")
    for version in (1, 2):
        models.save(made / "models", "number", version, models.constant(version))
    (made / "cutover.toml").write_text(CONFIG)
    AUTHORITY.server().write(made)
    AUTHORITY.write(made / "ca.crt")
    return made


@contextmanager
def gateway_with(folder: Path, *options: str | Path) -> Iterator[Gateway]:
    """Half of the units see version 1, the others version 2."""
    name = f"state{len(list(folder.iterdir()))}"
    with serving(folder / "models", folder / name, "--config", f"{folder}/cutover.toml", *map(str, options)) as made:
        made.cutover("canary", "set", "number", "1", "--percent", "50")
        yield made


def tls(folder: Path) -> list[str]:
    """Options for mutual TLS."""
    return ["--tls-cert", f"{folder}/tls.crt", "--tls-key", f"{folder}/tls.key", "--tls-client-ca", f"{folder}/ca.crt"]


@pytest.fixture(scope="module")
def mutual(folder: Path) -> Iterator[Gateway]:
    """A gateway with mutual TLS, two proxies and a Unix socket."""
    with gateway_with(folder, *tls(folder), "--proxies", "2", "--grpc-socket", folder / "clients") as made:
        made.target = f"localhost:{made.grpc}"
        yield made


def known_as(name: str, authority: Authority = AUTHORITY) -> grpc.ChannelCredentials:
    """A client with this identity."""
    issued = authority.issue("client", uris=(name,))
    return grpc.ssl_channel_credentials(AUTHORITY.pem, issued.key, issued.certificate)


def assigned(gateway: Gateway, units: Iterable[str]) -> dict[str, int]:
    """The versions that answer units."""
    asked = [word for unit in units for word in ("--unit", unit)]
    said = json.loads(gateway.cutover("assign", "number", *asked, "-o", "json").stdout)
    return {row["unit"]: int(row["version"]) for row in said["assignments"]}


def one_of_each(gateway: Gateway, units: Iterable[str]) -> dict[str, int]:
    """A unit for each of the two versions."""
    found = {version: unit for unit, version in assigned(gateway, units).items()}
    return {found[version]: version for version in (1, 2)}


def unreachable(target: str, credentials: grpc.ChannelCredentials | None = None) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        ask(target, "number", credentials=credentials)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_canary_is_sticky_by_client_certificate(mutual: Gateway) -> None:
    for name, expected in one_of_each(mutual, (f"spiffe://test/worker-{number}" for number in range(32))).items():
        for claimed in ("", "spiffe://test/somebody-else"):
            claims = {"cutover_peer_identity": claimed} if claimed else {}
            version, trailing = ask(mutual.target, "number", credentials=known_as(name), **claims)
            assert (version, trailing["cutover-reason"]) == (expected, "split")


def test_who_is_not_let_in(mutual: Gateway) -> None:
    before = mutual.metric("cutover_transport_refusals_total", reason="tls")
    unreachable(mutual.target, grpc.ssl_channel_credentials(AUTHORITY.pem))
    unreachable(mutual.target, known_as("spiffe://test/a", Authority("Other")))
    unreachable(mutual.target)  # in clear
    mutual.wait_metric("cutover_transport_refusals_total", before + 3, reason="tls")
    assert ask(mutual.target, "number", credentials=known_as("spiffe://test/a"))[0] in (1, 2)
    assert mutual.log_tail().count("Traceback") == 0


def test_only_h2_is_negotiated(mutual: Gateway, folder: Path) -> None:
    known = AUTHORITY.issue("client").write(folder / "client")
    for offered, chosen in ((["h2", "http/1.1"], "h2"), (["http/1.1"], None), ([], None)):
        context = AUTHORITY.client_context(known)
        context.set_alpn_protocols(offered)
        raw = socket.create_connection(("127.0.0.1", mutual.grpc), timeout=30)
        with context.wrap_socket(raw, server_hostname="localhost") as client:
            assert client.selected_alpn_protocol() == chosen
            if chosen is None:
                with suppress(ConnectionError, ssl.SSLError):
                    assert client.recv(1) == b""


def test_certificates_are_renewed_under_load(mutual: Gateway, folder: Path) -> None:
    def dial() -> ssl.SSLSocket:
        context = AUTHORITY.client_context(AUTHORITY.issue("client").write(folder / "client"))
        raw = socket.create_connection(("127.0.0.1", mutual.grpc), timeout=30)
        return context.wrap_socket(raw, server_hostname="localhost")

    def shown() -> bytes:
        with dial() as client:
            return client.getpeercert(binary_form=True) or b""

    before, kept = shown(), dial()
    kept.sendall(PREFACE + frame(FrameType.SETTINGS, 0, 0))
    with Askers(mutual.target, "number", 4, known_as("spiffe://test/a")) as askers:
        askers.wait_more(50)
        renewed = AUTHORITY.server()
        renewed.write(folder)
        expected = ssl.PEM_cert_to_DER_cert(renewed.certificate.decode())
        seen: list[bytes] = []

        def all_renewed() -> bool:
            seen.append(shown())
            return seen[-8:] == [expected] * 8  # whichever proxy is met

        eventually(all_renewed)
        askers.wait_more(50)
        (folder / "tls.key").write_bytes(AUTHORITY.server().key)
        assert mutual.wait_metric("cutover_tls_reloads_total", 2, result="failed") == 2
        askers.wait_more(50)
    assert {answer.error for answer in askers.answers} == {""}
    assert before != expected == shown()
    with kept:  # an open connection stays as it is
        kept.sendall(frame(FrameType.PING, 0, 0, b"still up"))
        received = b""
        while b"still up" not in received:
            received += kept.recv(1 << 16)
            assert received
    assert mutual.wait_metric("cutover_tls_reloads_total", 2, result="ok") >= 2
    renewed.write(folder)
    assert mutual.log_tail().count("does not belong to certificate") == 2
    assert "PRIVATE" not in mutual.log_tail()
    assert mutual.metric("cutover_tls_certificate_expiry_timestamp_seconds") > time.time()


@pytest.mark.slow
def test_handshakes_that_never_end_do_not_shut_an_honest_client_out(mutual: Gateway) -> None:
    """Five times as many as both proxies may have connections, renewed as soon as they are cut."""
    attackers: list[socket.socket] = []

    def attack() -> None:
        attackers.append(socket.create_connection(("127.0.0.1", mutual.grpc), timeout=30))

    try:
        for _ in range(80):
            attack()
        with open_channel(mutual.target, known_as("spiffe://test/honest")) as channel:
            infer = GRPCInferenceServiceStub(channel).ModelInfer
            for _ in range(20):
                attack()
                assert infer(request("number"), timeout=60, wait_for_ready=True)
        assert mutual.wait_metric("cutover_transport_refusals_total", 1, reason="handshake") >= 1
        assert mutual.metric("cutover_connections") <= 16
        assert "Traceback" not in mutual.log_tail()
    finally:
        for attacker in attackers:
            attacker.close()
    eventually(lambda: mutual.metric("cutover_connections") == 0)


def test_the_unix_socket_needs_no_certificate_and_has_no_identity(mutual: Gateway, folder: Path) -> None:
    path = folder / "clients"
    assert path.stat().st_mode & 0o777 == 0o600
    for name in ("spiffe://test/me", "spiffe://test/you"):
        answered = ask(f"unix:{path}", "number", cutover_peer_identity=name)[0]
        assert answered == assigned(mutual, ["unix:"])["unix:"]
    for unit, expected in one_of_each(mutual, (f"192.0.2.{number}" for number in range(32))).items():
        chain = f"203.0.113.9, {unit}, 10.0.0.1"  # a trusted proxy is at the socket, another one before it
        assert ask(f"unix:{path}", "number", x_forwarded_for=chain)[0] == expected


def test_the_unix_socket_survives_its_proxies(mutual: Gateway, folder: Path) -> None:
    target = f"unix:{folder}/clients"
    for proxy in mutual.proxies():
        os.kill(proxy, signal.SIGKILL)
        eventually(lambda proxy=proxy: proxy not in mutual.proxies())  # type: ignore[misc] # bound at once
        assert ask(target, "number")[0] in (1, 2)
    eventually(lambda: mutual.metric("cutover_proxies") == 2)


@pytest.mark.parametrize("header", [v1, v2])
def test_the_address_in_a_proxy_header_is_the_clients(proxied: Gateway, header: Callable[[str, int], bytes]) -> None:
    for unit, expected in one_of_each(proxied, (f"192.0.2.{number}:4711" for number in range(32))).items():
        with Relay(proxied.grpc, header(unit.partition(":")[0], 4711)) as relay:
            assert ask(relay.target, "number", x_forwarded_for="203.0.113.9")[0] == expected


def test_without_a_proxy_header_nobody_is_served(proxied: Gateway) -> None:
    unreachable(proxied.target)
    assert proxied.wait_metric("cutover_transport_refusals_total", 1, reason="proxy_header") >= 1


@pytest.fixture(scope="module")
def proxied(folder: Path) -> Iterator[Gateway]:
    """A gateway behind a proxy that writes PROXY headers."""
    os.environ["CUTOVER_SERVER_PROXY_PROTOCOL"] = "true"
    try:
        with gateway_with(folder) as made:
            yield made
    finally:
        del os.environ["CUTOVER_SERVER_PROXY_PROTOCOL"]


def test_a_client_that_speaks_tls_to_a_port_in_clear(proxied: Gateway) -> None:
    with Relay(proxied.grpc, v2("192.0.2.1", 4711)) as relay:
        unreachable(relay.target.replace("127.0.0.1", "localhost"), known_as("spiffe://test/a"))
    with Relay(proxied.grpc, v2("192.0.2.1", 4711)) as relay:
        assert ask(relay.target, "number")[0] in (1, 2)


@pytest.mark.slow
def test_the_unix_socket_passes_from_gateway_to_gateway(models_dir: Path, state_dir: Path, tmp_path: Path) -> None:
    models.save(models_dir, "number", 1, models.constant(1))
    path = tmp_path / "clients"
    target, options = f"unix:{path}", ("--grpc-socket", str(path))
    with serving(models_dir, state_dir, *options) as gateway:
        with Askers(target, "number", 2) as askers:
            askers.wait_more(10)
            gateway.process.kill()  # control alone: proxies and workers serve on
            gateway.process.wait()
            askers.wait_more(10)
            successor = Gateway(models_dir, state_dir, *options)
            askers.wait_more(50)
        successor.kill()
    assert {answer.error for answer in askers.answers} == {""}
    assert path.is_socket()  # nobody could remove it; the next one replaces it


def test_what_cannot_start_says_why(tmp_path: Path, models_dir: Path, state_dir: Path) -> None:
    start = partial(serve, "--models", models_dir, "--state", state_dir, *PORTS)
    refused(start("--host", "0.0.0.0"), "0.0.0.0", "--tls-cert", "--allow-plaintext")
    certificate, _ = AUTHORITY.server().write(tmp_path / "good")
    _, key = AUTHORITY.server().write(tmp_path / "other")
    refused(start("--tls-cert", certificate, "--tls-key", key), "does not belong", str(key), "--tls-key")
