"""How operators come in: the port, in clear or with TLS, and the Unix socket."""

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import grpc

from gateway.controlplane.access.adminsocket import admin_socket
from gateway.controlplane.access.guard import Guard
from gateway.controlplane.listener import require_free
from gateway.errors import StartupError
from gateway.transport.grpcio.tls import server_credentials
from gateway.transport.tls import Credentials, TlsFiles, TlsProblem, load

OPTION: Final = "--admin-port"


class Door:
    """What the admin API listens with. The defaults are those of a port in clear where everybody may do everything."""

    def __init__(
        self,
        guard: Guard | None = None,
        certificates: Credentials | None = None,
        socket: Path | None = None,
        socket_mode: int = 0o600,
    ) -> None:
        """`socket_mode`: who may connect to the socket, as the file's mode."""
        self.guard = guard
        self._certificates = certificates
        self._socket = socket
        self._socket_mode = socket_mode
        self._sockets = ExitStack()

    def listen(self, server: grpc.aio.Server, host: str, port: int | None) -> int:
        """Lets the server listen on the socket and the port (0: any free one; None: none). Its port; 0: none.

        Raises StartupError when an address cannot be listened on.
        """
        if self._socket is not None:
            self._sockets.enter_context(admin_socket(self._socket, self._socket_mode, server.add_insecure_port))
        if port is None:
            return 0
        # gRPC would only say that it failed, without the cause, and once more on a line of its own.
        require_free(host, port, OPTION)
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if self._certificates is None:
                return server.add_insecure_port(address)
            return server.add_secure_port(address, server_credentials(self._certificates))
        except (RuntimeError, OSError) as error:
            raise StartupError(
                f"port {port} on {host} cannot be used: {error}; choose another with {OPTION}"
            ) from error

    def close(self) -> None:
        """Removes the socket."""
        self._sockets.close()


def certificates(files: TlsFiles | None) -> Credentials | None:
    """Reads the certificates of the admin API. Raises StartupError when no client would accept them."""
    if files is None:
        return None
    try:
        load(files).check_date(time.time())
        return Credentials(files)
    except TlsProblem as problem:
        raise StartupError(f"{problem} ([admin] certificate, key, client_ca)") from None
