"""Who asks the admin API: certificates and a token, read from files or the environment, never from a command line.

Nothing of a secret is ever in an error.
"""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.cli.failure import Exit, Failure
from gateway.controlplane.listener import is_loopback

if TYPE_CHECKING:
    import grpc

    from gateway.cli.command import Keys

TOKEN: Final = "CUTOVER_TOKEN"  # noqa: S105  the name of a variable
_SENDABLE: Final = re.compile(r"[!-~]+")
"""gRPC would repeat anything else in its error."""


class Shown(NamedTuple):
    """What a client shows. `channel` None: no TLS."""

    channel: "grpc.ChannelCredentials | None" = None
    metadata: tuple[tuple[str, str], ...] = ()


NOTHING: Final = Shown()


def read(keys: "Keys", host: str | None) -> Shown:
    """What there is to show to a host; None: a Unix socket. Raises Failure."""
    token = _token(keys.token)
    if keys.ca is None:
        if keys.certificate or keys.key:
            raise Failure(Exit.USAGE, "--admin-cert and --admin-key are for TLS: give --admin-ca, too")
        if token and host is not None and not is_loopback(host):
            raise Failure(Exit.USAGE, f"others could read the token on its way to {host}: give --admin-ca, for TLS")
        return Shown(None, _metadata(token))
    if host is None:
        raise Failure(Exit.USAGE, "--admin-ca is for TLS, which a Unix socket does without")
    if (keys.certificate is None) != (keys.key is None):
        raise Failure(Exit.USAGE, "--admin-cert and --admin-key belong together: give both")
    import grpc

    key, certificate = _bytes(keys.key, "--admin-key"), _bytes(keys.certificate, "--admin-cert")
    return Shown(grpc.ssl_channel_credentials(_bytes(keys.ca, "--admin-ca"), key, certificate), _metadata(token))


def _metadata(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),) if token else ()


def _token(file: Path | None) -> str:
    """A file that is named wins. Raises Failure."""
    content = _bytes(file, "--token-file")
    said_by = "--token-file" if content is not None else TOKEN
    token = (content.decode("utf-8", "replace") if content is not None else os.environ.get(TOKEN, "")).strip()
    if (token or content is not None) and not _SENDABLE.fullmatch(token):
        raise Failure(Exit.USAGE, f"{said_by} holds no token: it is one word, as `cutover token create` has said it")
    return token


def _bytes(file: Path | None, option: str) -> bytes | None:
    if file is None:
        return None
    try:
        return file.read_bytes()
    except OSError as error:
        raise Failure(Exit.USAGE, f"{option} {file} cannot be read: {error.strerror}") from None
