"""`cutover serve --transport grpcio`: what else it does with the settings of the data port."""

from pathlib import Path

import grpc
import pytest

from tests import models
from tests.certificates import Authority
from tests.e2e.calls import ask, open_channel
from tests.e2e.test_bad_input import PORTS, refused, serve
from tests.e2e.test_who_may_connect import assigned
from tests.e2e.waiting import eventually
from tests.serving import serving

CONFIG = """
[tls]
reload_every = "50ms"
[limits]
max_header_bytes = "4KiB"
[models.number]
unit_metadata = ["cutover-peer-identity"]
no_unit = "stable"
"""
CLIENT = "spiffe://test/client"


@pytest.mark.slow
def test_mutual_tls_with_certificates_that_are_renewed(tmp_path: Path, models_dir: Path, state_dir: Path) -> None:
    """The identity in the client's certificate is its unit, on every proxy."""
    for version in (1, 2):
        models.save(models_dir, "number", version, models.constant(version))
    authority, successor = Authority(), Authority("Its successor")
    certificate, key = authority.server().write(tmp_path)
    ca = authority.write(tmp_path / "ca.crt")
    (tmp_path / "cutover.toml").write_text(CONFIG)
    options = ["--tls-cert", certificate, "--tls-key", key, "--tls-client-ca", ca]
    options += ["--config", tmp_path / "cutover.toml", "--transport", "grpcio", "--proxies", "2"]
    client = authority.issue("client", uris=(CLIENT,))
    with serving(models_dir, state_dir, *map(str, options)) as gateway:
        target = f"localhost:{gateway.grpc}"
        known = grpc.ssl_channel_credentials(authority.pem, client.key, client.certificate)
        gateway.cutover("canary", "set", "number", "1", "--percent", "50")
        expected = assigned(gateway, [CLIENT])[CLIENT]
        version, trailers = ask(target, "number", credentials=known)
        assert (version, trailers["cutover-reason"]) == (expected, "split")
        with pytest.raises(grpc.RpcError) as caught:
            ask(target, "number", credentials=grpc.ssl_channel_credentials(authority.pem))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        with open_channel(target, known) as open_already:
            assert live(open_already) is None
            successor.server().write(tmp_path)
            renewed = grpc.ssl_channel_credentials(successor.pem, client.key, client.certificate)
            eventually(lambda: gateway.metric("cutover_tls_reloads_total", result="ok") == 2)
            assert ask(target, "number", credentials=renewed)[0] == expected
            assert live(open_already) is None
        with open_channel(target, renewed) as channel:
            assert live(channel, (("x-large", "v" * 8192),)) is grpc.StatusCode.RESOURCE_EXHAUSTED


def live(channel: grpc.Channel, metadata: tuple[tuple[str, str], ...] = ()) -> grpc.StatusCode | None:
    """Asks whether the server is live; the status if that fails."""
    made: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
    failure = made.future(b"", timeout=30, metadata=metadata).exception()
    return failure.code() if isinstance(failure, grpc.RpcError) else None


def test_what_it_cannot_do_is_refused(tmp_path: Path, models_dir: Path, state_dir: Path) -> None:
    options = ("--models", models_dir, "--state", state_dir, "--transport", "grpcio", *PORTS)
    refused(serve(*options, "--grpc-socket", tmp_path / "socket"), "grpcio", "server.grpc_socket", "h2")
