"""How clients come into a proxy: what `link.Entrance` says, as certificates and doors of the transport."""

from pathlib import Path

from gateway.routing.link import Entrance
from gateway.transport.arrival import Door
from gateway.transport.peers import Trusted
from gateway.transport.tls import Credentials, TlsFiles


def tls_files(entrance: Entrance) -> TlsFiles | None:
    """Where the certificates lie; None: the port is cleartext."""
    if not entrance.certificate:
        return None
    client_ca = Path(entrance.client_ca) if entrance.client_ca else None
    return TlsFiles(Path(entrance.certificate), Path(entrance.key), client_ca, entrance.min_version)


def credentials(entrance: Entrance) -> Credentials | None:
    """Reads the certificates; None: the port is cleartext. Raises TlsProblem."""
    files = tls_files(entrance)
    return None if files is None else Credentials(files)


def port_door(entrance: Entrance, known: Credentials | None) -> Door:
    """Of the TCP port. Each connection gets the newest certificate."""
    trusted = Trusted.parse(entrance.trusted_proxies)
    return Door((lambda: known.context) if known else None, entrance.proxy_protocol, trusted)


def socket_door(entrance: Entrance) -> Door:
    """Of the Unix socket, which its file mode guards: cleartext, without a PROXY header."""
    return Door(trusted=Trusted.parse(entrance.trusted_proxies))
