from pathlib import Path

from gateway.dataplane.entrance import credentials, port_door, socket_door, tls_files
from gateway.routing.link import Entrance
from gateway.transport.peers import Trusted
from gateway.transport.tls import TlsFiles
from tests.certificates import Authority


def test_without_certificates_the_port_is_in_clear() -> None:
    entrance = Entrance(proxy_protocol=True, trusted_proxies=("10.0.0.0/8",))
    assert tls_files(entrance) is None
    assert credentials(entrance) is None
    door = port_door(entrance, None)
    assert (door.tls, door.proxy_protocol, door.trusted) == (None, True, Trusted.parse(["10.0.0.0/8"]))


def test_every_connection_gets_the_newest_certificate(tmp_path: Path) -> None:
    authority = Authority()
    certificate, key = authority.server().write(tmp_path)
    client_ca = authority.write(tmp_path / "ca")
    entrance = Entrance(certificate=str(certificate), key=str(key), client_ca=str(client_ca), min_version="1.3")
    assert tls_files(entrance) == TlsFiles(certificate, key, tmp_path / "ca", "1.3")
    known = credentials(entrance)
    assert known is not None
    door = port_door(entrance, known)
    assert door.tls is not None
    first = door.tls()
    authority.server().write(tmp_path)
    known.settle(*known.look())
    assert door.tls() is known.context is not first


def test_the_unix_socket_is_guarded_by_its_mode() -> None:
    door = socket_door(Entrance(certificate="c", key="k", proxy_protocol=True, trusted_proxies=("unix:",)))
    assert (door.tls, door.proxy_protocol, door.trusted.unix) == (None, False, True)
