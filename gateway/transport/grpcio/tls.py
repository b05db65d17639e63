"""TLS by grpcio, with the certificates of `gateway.transport.tls`: whatever those take in, new connections get."""

from collections.abc import Callable

import grpc

from gateway.transport.tls import Credentials, TlsFiles


def server_credentials(known: Credentials) -> grpc.ServerCredentials:
    """What grpcio listens with. Raises OSError when a file is gone since it was checked."""
    mutual = known.files.client_ca is not None
    fetch = newest(known)
    return grpc.dynamic_ssl_server_credentials(configuration(known.files), fetch, mutual)  # type: ignore[arg-type] # None: no change


def newest(known: Credentials) -> "Callable[[], grpc.ServerCertificateConfiguration | None]":
    """Asked by grpcio, on a thread of its own, before each handshake: the files, if they were taken in anew."""
    told = known.context

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal told
        context = known.context
        if context is told:
            return None
        try:
            found = configuration(known.files)
        except OSError:  # being replaced at this very moment; asked again at the next handshake
            return None
        told = context
        return found

    return fetch


def configuration(files: TlsFiles) -> grpc.ServerCertificateConfiguration:
    """The files as they are now. Raises OSError."""
    roots = files.client_ca.read_bytes() if files.client_ca else None
    return grpc.ssl_server_certificate_configuration([(files.key.read_bytes(), files.certificate.read_bytes())], roots)
