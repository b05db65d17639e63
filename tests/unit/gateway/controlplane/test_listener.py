import socket

import pytest

from gateway.controlplane.listener import is_loopback, require_free, reserved_port
from gateway.errors import StartupError


def test_a_reserved_port_can_be_shared_by_proxies_but_not_taken_by_others() -> None:
    with reserved_port("127.0.0.1", 0, "--grpc-port") as port:
        assert port > 0
        for _ in range(2):
            with socket.create_server(("127.0.0.1", port), reuse_port=True), socket.socket() as other:
                other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                other.bind(("127.0.0.1", port))
                with pytest.raises(StartupError, match="is taken"):
                    require_free("127.0.0.1", port, "--http-port")


def test_a_taken_port_is_named_with_its_option() -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as other:
        port = other.getsockname()[1]
        message = f"port {port} on 127.0.0.1 is taken; choose another with --grpc-port"
        with pytest.raises(StartupError) as raised, reserved_port("127.0.0.1", port, "--grpc-port"):
            pass
        assert str(raised.value) == message
        with reserved_port("127.0.0.1", port, "--grpc-port", shared_with_orphans=True) as shared:
            assert shared == port


@pytest.mark.parametrize(
    ("host", "words"), [("192.0.2.1", "not an address of this machine"), ("no.such.host.invalid", "cannot be resolved")]
)
def test_a_wrong_host_is_named_with_the_remedy(host: str, words: str) -> None:
    with pytest.raises(StartupError, match=words) as raised:
        require_free(host, 0, "--http-port")
    assert str(raised.value).endswith("--http-host")


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("gateway.example", False)],
)
def test_loopback_is_what_no_other_machine_reaches(host: str, local: bool) -> None:
    assert is_loopback(host) is local
