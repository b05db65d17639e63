import asyncio
import datetime as dt
import logging
import ssl
from pathlib import Path

import pytest

from gateway.transport.tls import Credentials, Loaded, TlsFiles, TlsProblem, load
from tests.certificates import DAY, Authority

AUTHORITY = Authority()


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    return TlsFiles(*AUTHORITY.server().write(tmp_path / "good"))


def handshake(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str = "localhost"
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends after a handshake in memory."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(down, up, server_hostname=name),
        server.wrap_bio(up, down, server_side=True),
    )
    waiting = set(ends)
    while waiting:
        for end in ends:
            try:
                end.do_handshake()
                waiting.discard(end)
            except ssl.SSLWantReadError:
                pass
    return ends


def refused(server: ssl.SSLContext, client: ssl.SSLContext) -> str:
    with pytest.raises(ssl.SSLError) as caught:
        handshake(server, client)
    return caught.value.reason


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_what_is_negotiated(files: TlsFiles, version: ssl.TLSVersion) -> None:
    client = AUTHORITY.client_context()
    client.maximum_version = version
    theirs, ours = handshake(load(files).context, client)
    assert ours.version() == version.name.replace("_", ".")
    assert theirs.selected_alpn_protocol() == ours.selected_alpn_protocol() == "h2"
    cipher, _, _ = ours.cipher() or ("", "", 0)
    assert "GCM" in cipher or "CHACHA20" in cipher


def test_ciphers_that_http2_forbids_are_refused(files: TlsFiles) -> None:
    client = AUTHORITY.client_context()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers("ECDHE+AES:!AESGCM:!AESCCM:AES128-GCM-SHA256")
    assert refused(load(files).context, client) == "NO_SHARED_CIPHER"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_old_versions_are_refused(files: TlsFiles) -> None:
    client = AUTHORITY.client_context()
    client.set_ciphers("ALL:@SECLEVEL=0")
    client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
    assert refused(load(files).context, client) == "UNSUPPORTED_PROTOCOL"
    client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_2
    newest_only = TlsFiles(files.certificate, files.key, min_version="1.3")
    assert refused(load(newest_only).context, client) == "UNSUPPORTED_PROTOCOL"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_nobody_gets_a_ticket(files: TlsFiles, version: ssl.TLSVersion) -> None:
    server, client = load(files).context, AUTHORITY.client_context()
    client.maximum_version = version
    theirs, ours = handshake(server, client)
    ours.write(b"x")
    assert theirs.read() == b"x"
    assert theirs.session is None or not theirs.session.has_ticket


def test_clients_need_a_certificate_of_the_right_authority(files: TlsFiles, tmp_path: Path) -> None:
    with_ca = TlsFiles(files.certificate, files.key, AUTHORITY.write(tmp_path / "ca.crt"))
    server = load(with_ca).context
    assert refused(server, AUTHORITY.client_context()) == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
    stranger = AUTHORITY.client_context(Authority("Other").issue("stranger").write(tmp_path / "stranger"))
    assert refused(server, stranger) == "CERTIFICATE_VERIFY_FAILED"
    late = AUTHORITY.client_context(AUTHORITY.issue("late", ends_in=-DAY).write(tmp_path / "late"))
    assert refused(server, late) == "CERTIFICATE_VERIFY_FAILED"
    known = AUTHORITY.client_context(AUTHORITY.issue("known", uris=("spiffe://a/b",)).write(tmp_path / "known"))
    _, ours = handshake(server, known)
    certificate = ours.getpeercert()
    assert certificate is not None
    assert certificate["subjectAltName"] == (("URI", "spiffe://a/b"),)


def test_files_that_cannot_be_used_are_named(files: TlsFiles, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    other = AUTHORITY.server().write(tmp_path / "other")
    locked = AUTHORITY.issue("locked", password=b"secret").write(tmp_path / "locked")
    for broken, text in (
        (TlsFiles(tmp_path / "no", files.key), "TLS certificate .*/no does not exist"),
        (TlsFiles(files.certificate, tmp_path / "no"), "TLS key .*/no does not exist"),
        (TlsFiles(files.certificate, files.key, tmp_path / "no"), "TLS client CA .*/no does not exist"),
        (TlsFiles(tmp_path, files.key), "TLS certificate .* cannot be read: Is a directory"),
        (TlsFiles(empty, files.key), "TLS certificate .* holds no certificate in PEM form"),
        (TlsFiles(files.key, files.key), "TLS certificate .* holds no certificate in PEM form"),
        (TlsFiles(files.certificate, empty), "TLS key .* is no private key in PEM form"),
        (TlsFiles(files.certificate, files.certificate), "TLS key .* is no private key in PEM form"),
        (TlsFiles(files.certificate, files.key, empty), "TLS client CA .* holds no certificate in PEM form"),
        (TlsFiles(files.certificate, other[1]), "TLS key .* does not belong to certificate"),
        (TlsFiles(*locked), "TLS key .* is encrypted; give one without a passphrase"),
    ):
        with pytest.raises(TlsProblem, match=text) as caught:
            load(broken)
        assert "\n" not in str(caught.value)
        assert "PRIVATE KEY" not in str(caught.value)


def test_dates(tmp_path: Path) -> None:
    loaded = load(TlsFiles(*AUTHORITY.server().write(tmp_path)))
    loaded.check_date(loaded.not_after_s - 1)
    with pytest.raises(TlsProblem, match=r"expired at 20.* UTC; renew it"):
        loaded.check_date(loaded.not_after_s)
    with pytest.raises(TlsProblem, match=r"not valid before 20.* UTC; check the clock"):
        loaded.check_date(loaded.not_before_s - 1)


def look(credentials: Credentials) -> None:
    credentials.settle(*credentials.look())


def test_new_files_are_taken_in_and_broken_ones_are_not(
    files: TlsFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    credentials = Credentials(files)
    first = credentials.context
    look(credentials)
    assert credentials.context is first
    AUTHORITY.server(ends_in=3 * DAY).write(tmp_path / "good")
    look(credentials)
    second = credentials.context
    assert second is not first
    assert credentials.not_after_s == pytest.approx((dt.datetime.now(dt.UTC) + 3 * DAY).timestamp(), abs=60)
    assert credentials.take_reloads() == {"ok": 1}

    files.key.write_bytes(AUTHORITY.server().key)
    caplog.clear()
    look(credentials)
    assert caplog.messages == []  # perhaps the certificate is being written just now
    for _ in range(3):
        look(credentials)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "does not belong" in caplog.text
    assert "PRIVATE" not in caplog.text
    assert credentials.context is second
    assert credentials.take_reloads() == {"failed": 1}

    AUTHORITY.server().write(tmp_path / "good")
    look(credentials)
    assert credentials.context is not second
    assert credentials.take_reloads() == {"ok": 1}


def test_files_that_vanish_and_return_change_nothing(files: TlsFiles, caplog: pytest.LogCaptureFixture) -> None:
    credentials = Credentials(files)
    away = files.key.rename(files.key.with_name("away"))
    look(credentials)
    away.rename(files.key)
    look(credentials)
    assert (caplog.messages, credentials.take_reloads()) == ([], {})


def test_an_expired_certificate_does_not_replace_a_good_one_but_an_expired_one(files: TlsFiles, tmp_path: Path) -> None:
    now_s = 0.0
    credentials = Credentials(files, lambda: now_s)
    now_s = credentials.not_after_s - 1.0
    AUTHORITY.server(ends_in=-DAY).write(tmp_path / "good")
    _, found = credentials.look()
    assert isinstance(found, TlsProblem)
    now_s += 2
    _, found = credentials.look()
    assert isinstance(found, Loaded)


def test_the_end_of_the_certificate_in_force_is_told_once(
    files: TlsFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now_s = 0.0
    credentials = Credentials(files, lambda: now_s)
    now_s = credentials.not_after_s - 1.0
    look(credentials)
    assert caplog.messages == []
    now_s += 1
    for _ in range(3):
        look(credentials)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "it expired at 20" in caplog.text

    AUTHORITY.server(ends_in=900 * DAY).write(tmp_path / "good")
    look(credentials)
    caplog.clear()
    look(credentials)
    assert caplog.messages == []
    now_s = float(credentials.not_after_s)
    look(credentials)
    assert len(caplog.messages) == 1


async def test_turned_symbolic_links_are_noticed(tmp_path: Path) -> None:
    """As Kubernetes updates a Secret: the files are links through `..data`, which is replaced."""
    for name in ("one", "two"):
        AUTHORITY.server().write(tmp_path / name)
    (tmp_path / "..data").symlink_to("one")
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    credentials = Credentials(TlsFiles(tmp_path / "tls.crt", tmp_path / "tls.key"))
    first = credentials.context
    watching = asyncio.get_running_loop().create_task(credentials.watch(0.001))
    (tmp_path / "..new").symlink_to("two")
    (tmp_path / "..new").replace(tmp_path / "..data")
    async with asyncio.timeout(30):
        while credentials.context is first:  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.001)
    watching.cancel()
