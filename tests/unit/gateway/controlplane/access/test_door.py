"""Where the admin API listens."""

import socket
from pathlib import Path

import grpc
import pytest

from gateway.controlplane.access.door import Door, certificates
from gateway.errors import StartupError
from gateway.transport.tls import TlsFiles
from tests.certificates import DAY, Authority


async def test_a_door_may_have_a_socket_and_no_port(tmp_path: Path) -> None:
    server, door = grpc.aio.server(), Door(socket=tmp_path / "admin.sock")
    assert door.listen(server, "127.0.0.1", None) == 0
    assert (tmp_path / "admin.sock").is_socket()
    door.close()
    assert not (tmp_path / "admin.sock").exists()
    await server.stop(None)


async def test_a_port_that_is_taken_is_named() -> None:
    server = grpc.aio.server()
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(StartupError, match="--admin-port"):
        Door().listen(server, "127.0.0.1", other.getsockname()[1])
    await server.stop(None)


def test_certificates_that_nobody_would_accept_stop_the_start(tmp_path: Path) -> None:
    authority = Authority()
    old = TlsFiles(*authority.server(ends_in=-DAY).write(tmp_path / "old"))
    for files, said in ((old, "expired"), (TlsFiles(tmp_path / "none", tmp_path / "none"), "does not exist")):
        with pytest.raises(StartupError, match=rf"{said}.*\[admin\] certificate"):
            certificates(files)
    assert certificates(None) is None
