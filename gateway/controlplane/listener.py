"""Ports: who can reach them, whether one is free, and holding the one that several proxies share."""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from ipaddress import ip_address

from gateway.errors import StartupError


@contextlib.contextmanager
def reserved_port(host: str, port: int, option: str, *, shared_with_orphans: bool = False) -> Iterator[int]:
    """Holds a port that proxies then listen on with SO_REUSEPORT; port 0 picks a free one.

    The socket held here never listens, so no connection comes its way. Raises StartupError naming `option` when the
    port is taken; proxies of an earlier gateway (`shared_with_orphans`) do not count.
    """
    if port and not shared_with_orphans:
        require_free(host, port, option)
    with _bound(host, port, option, reuse_port=True) as held:
        yield int(held.getsockname()[1])


def require_free(host: str, port: int, option: str) -> None:
    """Raises StartupError when something listens on the port, or the host is not an address of this machine."""
    _bound(host, port, option, reuse_port=False).close()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the host. A name is not looked up: it may mean another address tomorrow."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _bound(host: str, port: int, option: str, *, reuse_port: bool) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise StartupError(
            f"host {host} cannot be resolved: {error.strerror or error}; give an address with {_host_option(option)}"
        ) from None
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise StartupError(_explain(error, host, port, option)) from None
    return bound


def _explain(error: OSError, host: str, port: int, option: str) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {port} on {host} is taken; choose another with {option}"
        case errno.EACCES:
            return f"port {port} on {host} needs more rights than this user has; choose one above 1023 with {option}"
        case errno.EADDRNOTAVAIL:
            return f"{host} is not an address of this machine; give one that is with {_host_option(option)}"
    return f"port {port} on {host} cannot be used: {os.strerror(error.errno or 0)}; choose another with {option}"


def _host_option(option: str) -> str:
    return "--host" if option == "--grpc-port" else option.replace("-port", "-host")
