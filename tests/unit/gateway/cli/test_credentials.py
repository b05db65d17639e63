"""What the command line shows, and what it never says."""

from pathlib import Path

import pytest

from gateway.cli.command import Keys
from gateway.cli.credentials import NOTHING, read
from gateway.cli.failure import Failure
from tests.certificates import Authority
from tests.unit.gateway.cli.fake import Shell

SECRET = "cutover_ci_hush"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(SECRET + "\n")
    return path


def test_without_anything_nothing_is_shown() -> None:
    assert read(Keys(), "192.0.2.1") == NOTHING


def test_a_token_comes_from_a_file_or_the_environment(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = (("authorization", f"Bearer {SECRET}"),)
    monkeypatch.setenv("CUTOVER_TOKEN", SECRET)
    for host in ("127.0.0.1", "localhost", "::1", None):
        assert read(Keys(), host) == (None, shown)
    monkeypatch.setenv("CUTOVER_TOKEN", "another")
    assert read(Keys(token=file), None).metadata == shown


def test_a_token_does_not_travel_in_clear(file: Path) -> None:
    with pytest.raises(Failure, match=r"others could read the token on its way to .*: give --admin-ca"):
        read(Keys(token=file), "192.0.2.1")


def test_with_tls_a_token_may_go_anywhere(file: Path, tmp_path: Path) -> None:
    authority = Authority()
    ca = authority.write(tmp_path / "ca.crt")
    certificate, key = authority.issue("ada").write(tmp_path / "ada")
    shown = read(Keys(ca, certificate, key, file), "192.0.2.1")
    assert shown.channel is not None
    assert shown.metadata


@pytest.mark.parametrize(
    ("keys", "host", "said"),
    [
        (Keys(certificate=Path("c")), "h", "give --admin-ca, too"),
        (Keys(key=Path("k")), "h", "give --admin-ca, too"),
        (Keys(ca=Path("a")), None, "a Unix socket does without"),
        (Keys(ca=Path("a"), key=Path("k")), "h", "belong together"),
        (Keys(ca=Path("/no/such")), "h", "--admin-ca /no/such cannot be read: No such file"),
        (Keys(token=Path("/no/such")), "h", "--token-file /no/such cannot be read"),
    ],
)
def test_what_does_not_fit_together_is_said(keys: Keys, host: str | None, said: str) -> None:
    with pytest.raises(Failure, match=said):
        read(keys, host)


@pytest.mark.parametrize("content", ["", "two words hush", "hush\x00", "hüsh"])
def test_a_file_without_a_token_is_said_without_its_content(content: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(content)
    with pytest.raises(Failure, match="--token-file holds no token") as caught:
        read(Keys(token=tmp_path / "token"), None)
    assert "hush" not in str(caught.value)


def test_a_token_of_the_environment_reaches_the_gateway(cutover: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUTOVER_TOKEN", SECRET)
    assert cutover("flip", "digits").code == 0
    assert cutover.admin.metadata["authorization"] == f"Bearer {SECRET}"
    monkeypatch.setenv("CUTOVER_TOKEN", "hush hush")
    said = cutover("flip", "digits")
    assert (said.code, "CUTOVER_TOKEN holds no token" in said.err, "hush" in said.err) == (2, True, False)


def test_a_unix_socket_is_an_address(cutover: Shell, tmp_path: Path) -> None:
    said = cutover.local("status", "--admin", f"unix:{tmp_path}/admin.sock")
    assert (said.code, "cannot reach the gateway at unix:" in said.err) == (3, True)
