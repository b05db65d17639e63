import grpc
import pytest

from gateway.transport.grpcio.tls import configuration, newest, server_credentials
from gateway.transport.tls import Credentials, TlsFiles
from tests.certificates import Authority


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def known(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    folder = tmp_path_factory.mktemp("tls")
    return Credentials(TlsFiles(*authority.server().write(folder), authority.write(folder / "ca.crt")))


def test_they_are_what_grpcio_listens_with(known: Credentials) -> None:
    assert isinstance(server_credentials(known), grpc.ServerCredentials)


def test_new_files_are_given_once_and_only_when_they_were_taken_in(known: Credentials, authority: Authority) -> None:
    fetch = newest(known)
    authority.server().write(known.files.certificate.parent)
    assert fetch() is None, "nobody has looked at them yet"
    known.settle(*known.look())
    assert isinstance(fetch(), grpc.ServerCertificateConfiguration)
    assert fetch() is None


def test_a_file_that_is_gone_is_asked_for_again(known: Credentials, authority: Authority) -> None:
    fetch = newest(known)
    authority.server().write(known.files.certificate.parent)
    known.settle(*known.look())
    pem = known.files.key.read_bytes()
    known.files.key.unlink()
    assert fetch() is None
    known.files.key.write_bytes(pem)
    assert fetch() is not None


def test_a_file_that_was_never_there(known: Credentials) -> None:
    known.files.certificate.unlink()
    with pytest.raises(OSError, match="No such file"):
        configuration(known.files)
