"""TLS for clients: what is negotiated, and certificates that are read again when their files change.

RFC 9113 section 9.2: TLS 1.2 or 1.3, no renegotiation, no compression, none of the ciphers of its appendix A.
"""

import asyncio
import logging
import os
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from gateway.transport.arrival import ALPN
from gateway.transport.x509 import validity

logger = logging.getLogger(__name__)

MinVersion = Literal["1.2", "1.3"]
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2; those of 1.3 are all good."""
_PEM_END: Final = "-----END CERTIFICATE-----"
_PEM_BEGIN: Final = "-----BEGIN CERTIFICATE-----"


class TlsProblem(Exception):
    """Files that cannot be used; one line that says what to do."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where certificates lie, in PEM form.

    certificate: the server's, followed by those of the authorities between it and the root.
    client_ca: authorities one of which must have signed a client's certificate; None: clients need none.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None
    min_version: MinVersion = "1.2"

    def state(self) -> tuple[tuple[int, ...], ...]:
        """Changes whenever one of the files does, also where a symbolic link on the way to it was turned."""
        return tuple(_state(path) for path in (self.certificate, self.key, self.client_ca) if path)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What connections are accepted with, and when its certificate ends (Unix seconds)."""

    context: ssl.SSLContext
    not_before_s: int
    not_after_s: int

    def check_date(self, now_s: float) -> None:
        """Raises TlsProblem when no client would accept the certificate now."""
        if now_s >= self.not_after_s:
            raise TlsProblem(f"the TLS certificate expired at {_when(self.not_after_s)}; renew it")
        if now_s < self.not_before_s:
            raise TlsProblem(f"the TLS certificate is not valid before {_when(self.not_before_s)}; check the clock")


def load(files: TlsFiles) -> Loaded:
    """Reads the files. Raises TlsProblem; nothing of the key is ever in its text."""
    pem = _read(files.certificate, "certificate")
    _read(files.key, "key", 0)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if files.min_version == "1.3" else ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    # A resumed session would skip the look at the client's certificate, and the authorities may have changed. With TLS
    # 1.2 OpenSSL still resumes what this very context remembers (under the same authorities), up to 20,480 sessions.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET
    context.num_tickets = 0
    context.set_alpn_protocols([ALPN])
    not_before_s, not_after_s = _validity(files.certificate, pem)
    _load_pair(context, files)
    if files.client_ca is not None:
        _read(files.client_ca, "client CA", 0)
        try:
            context.load_verify_locations(cafile=files.client_ca)
        except ssl.SSLError as error:
            raise TlsProblem(f"TLS client CA {files.client_ca} holds no certificate in PEM form") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return Loaded(context, not_before_s, not_after_s)


class Credentials:
    """The newest usable certificates. New connections get them; those that are open keep what they have."""

    def __init__(self, files: TlsFiles, clock: Callable[[], float] = time.time) -> None:
        """Reads the files. Raises TlsProblem. `clock` gives Unix seconds."""
        self.files = files
        self._clock = clock
        self._state = files.state()
        self._broken: tuple[tuple[int, ...], ...] | None = None
        """The state of the files in which they could not be used."""
        self._told = False
        self._mourned_s = 0
        """When the certificate ended whose end was told last."""
        self._loaded = load(files)
        self._results: dict[str, int] = {}

    @property
    def context(self) -> ssl.SSLContext:
        """For the next connection."""
        return self._loaded.context

    @property
    def not_after_s(self) -> int:
        """When the certificate ends, in Unix seconds."""
        return self._loaded.not_after_s

    def take_reloads(self) -> dict[str, int]:
        """How often new files were taken in (`ok`) or could not be used (`failed`), since the last call."""
        taken, self._results = self._results, {}
        return taken

    async def watch(self, every_s: float) -> None:
        """Looks at the files now and then, for ever. The loop never waits for the disk."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(every_s)
            self.settle(*await loop.run_in_executor(None, self.look))

    def look(self) -> tuple[tuple[tuple[int, ...], ...], Loaded | TlsProblem | None]:
        """The state of the files, and what they hold if that may be new. Changes nothing; may run in a thread."""
        state = self.files.state()
        if state == self._state:
            return state, None
        try:
            loaded = load(self.files)
            if self._clock() < self._loaded.not_after_s:  # else the new one can only be better
                loaded.check_date(self._clock())
        except TlsProblem as problem:
            return state, problem
        return state, loaded

    def settle(self, state: tuple[tuple[int, ...], ...], found: Loaded | TlsProblem | None) -> None:
        """Takes in what `look` has found. Files that were only half written then get a second look before a word."""
        match found:
            case Loaded():
                self._state, self._broken, self._told, self._loaded = state, None, False, found
                self._results["ok"] = self._results.get("ok", 0) + 1
                logger.warning("TLS certificates were read anew; this one ends at %s", _when(found.not_after_s))
            case TlsProblem():
                if state != self._broken:
                    self._broken, self._told = state, False
                elif not self._told:
                    self._told = True
                    self._results["failed"] = self._results.get("failed", 0) + 1
                    logger.error("new TLS files cannot be used, the old ones stay: %s", found)
            case None:
                self._broken, self._told = None, False
        ends_s = self.not_after_s
        if self._clock() >= ends_s and self._mourned_s != ends_s:
            self._mourned_s = ends_s
            logger.error("clients refuse the TLS certificate: it expired at %s; renew it", _when(ends_s))


def _load_pair(context: ssl.SSLContext, files: TlsFiles) -> None:
    def no_passphrase() -> str:
        raise TlsProblem(f"TLS key {files.key} is encrypted; give one without a passphrase")

    try:
        context.load_cert_chain(files.certificate, files.key, password=no_passphrase)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsProblem(f"TLS key {files.key} does not belong to certificate {files.certificate}") from error
        if error.reason in ("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"):
            weak = error.reason.lower().replace("_", " ")
            raise TlsProblem(f"TLS certificate {files.certificate} is too weak: {weak}; make a stronger one") from error
        raise TlsProblem(f"TLS key {files.key} is no private key in PEM form") from error


def _validity(path: Path, pem: str) -> tuple[int, int]:
    """Of the first certificate of the file."""
    begin, end = pem.find(_PEM_BEGIN), pem.find(_PEM_END)
    try:
        return validity(ssl.PEM_cert_to_DER_cert(pem[max(begin, 0) : end + len(_PEM_END)]))
    except ValueError:
        raise TlsProblem(f"TLS certificate {path} holds no certificate in PEM form") from None


def _read(path: Path, what: str, size: int = -1) -> str:
    """The text of a file, or so much of it. Raises TlsProblem when it is not there or may not be read."""
    try:
        with path.open(encoding="latin-1") as file:
            return file.read(size)
    except FileNotFoundError:
        raise TlsProblem(f"TLS {what} {path} does not exist; correct the path") from None
    except OSError as error:
        raise TlsProblem(f"TLS {what} {path} cannot be read: {os.strerror(error.errno or 0)}") from None


def _state(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError as error:
        return (error.errno or -1,)
    return found.st_mtime_ns, found.st_ino, found.st_size, found.st_dev


def _when(unix_s: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(unix_s))
