"""Who may do what with a real gateway, asked by commands: certificates, tokens, and the Unix socket."""

import io
import json
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from gateway.cli.root import run as command
from tests import models
from tests.certificates import Authority
from tests.serving import Gateway, serving
from tests.unit.gateway.cli.fake import Said

SETTINGS = """
[admin]
socket = "admin.sock"
certificate = "server/tls.crt"
key = "server/tls.key"
client_ca = "ca.crt"

[admin.grants]
"unix:" = "owner"
"spiffe://corp/ops" = { number = "operator", "*" = "viewer" }
"""


class House:
    """A gateway with two models, and what operators have."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = f"unix:{folder}/admin.sock"
        for model in ("number", "other"):
            for version in (1, 2):
                models.save(folder / "models", model, version, models.constant(version))
        authority = Authority()
        authority.write(folder / "ca.crt")
        authority.server().write(folder / "server")
        for name in ("ops", "intern"):
            authority.issue(name, uris=(f"spiffe://corp/{name}",)).write(folder / name)
        (folder / "cutover.toml").write_text(SETTINGS)
        self.gateway: Gateway

    def ask(self, *arguments: str, as_: str = "", token: str = "") -> Said:
        """Runs a command over TLS with somebody's certificate, or over the Unix socket, with a token or without."""
        options = ["--admin", self.socket]
        if as_:
            options = ["--admin", f"localhost:{self.gateway.admin}", "--admin-ca", str(self.folder / "ca.crt")]
            folder = self.folder / as_
            options += ["--admin-cert", str(folder / "tls.crt"), "--admin-key", str(folder / "tls.key")]
        return run(*arguments, *options, token=token)


def run(*arguments: str, token: str = "") -> Said:
    """A command, in this process: one of its own takes most of a second to begin."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setenv("CUTOVER_TOKEN", token)
        code = command(arguments)
    return Said(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House(tmp_path_factory.mktemp("operators"))
    with serving(made.folder / "models", made.folder / "state", "--config", str(made.folder / "cutover.toml")) as one:
        made.gateway = one
        yield made


def test_operators_come_in_by_what_they_have(house: House) -> None:
    made = house.ask("token", "create", "ci", "--role", "other=operator", "--expires", "1h")
    secret = made.out.strip()
    assert secret.startswith("cutover_ci_"), made.err

    ops = house.ask("canary", "set", "number", "1", "--percent", "5", as_="ops")
    assert (ops.code, "answers 5 %" in ops.out) == (0, True), ops.err
    wrong = house.ask("canary", "set", "other", "1", "--percent", "5", as_="ops")
    assert (wrong.code, "SetCanary needs operator of other" in wrong.err) == (1, True)
    assert house.ask("status", as_="ops").out.count("revision") == 2

    assert "spiffe://corp/intern has no role" in house.ask("status", as_="intern").err
    by_token = house.ask("canary", "set", "other", "1", "--percent", "5", as_="intern", token=secret)
    assert (by_token.code, "answers 5 %" in by_token.out) == (0, True), by_token.err
    assert house.ask("status", token=secret).out.count("revision") == 1
    assert "needs viewer of number" in house.ask("status", "number", token=secret).err
    assert "not known here" in house.ask("status", token=secret[:-1]).err

    assert house.ask("token", "revoke", "ci").code == 0
    gone = house.ask("status", token=secret)
    assert (gone.code, "token ci was revoked" in gone.err) == (1, True)
    bare = run("status", "--admin", f"localhost:{house.gateway.admin}")
    assert (bare.code, bare.out) == (3, "")

    log = house.gateway.log_tail() + "".join(one.out + one.err for one in (gone, by_token, wrong, bare))
    assert "admin call refused" in log
    assert secret.split("_", 2)[2] not in log
    kept = b"".join(file.read_bytes() for file in house.gateway.state.iterdir() if file.is_file())
    assert secret.split("_", 2)[2].encode() not in kept


def test_the_log_names_them_and_is_verified_elsewhere(house: House, tmp_path: Path) -> None:
    events = json.loads(house.ask("audit", "-o", "json").out)["events"]
    assert {event["kind"] for event in events} >= {"change", "access", "refusal"}
    actors = {event["actor"].partition(" ")[0] for event in events}
    assert actors >= {
        "gateway",
        "unix:",
        "token:ci",
        "certificate:spiffe://corp/ops",
        "certificate:spiffe://corp/intern",
    }
    exported = tmp_path / "audit.jsonl"
    assert house.ask("audit", "export", "--out", str(exported)).code == 0
    assert "every hash follows" in run("audit", "verify", str(exported)).out
    content = bytearray(exported.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "changed.jsonl").write_bytes(content)
    assert run("audit", "verify", str(tmp_path / "changed.jsonl")).code == 1
    in_use = run("audit", "verify", "--state", str(house.gateway.state))
    assert (in_use.code, "a gateway uses it" in in_use.err) == (1, True)


@pytest.mark.slow
def test_a_stopped_gateway_is_verified_and_given_a_token(tmp_path: Path) -> None:
    models.save(tmp_path / "models", "number", 1, models.constant(1))
    state = tmp_path / "state"
    with serving(tmp_path / "models", state) as gateway:
        gateway.cutover("token", "create", "boss", "--role", "owner", "--save", str(tmp_path / "boss"))
        assert gateway.cutover("status", check=False).returncode == 1
        assert gateway.cutover("status", "--token-file", str(tmp_path / "boss")).stdout
    made = run("token", "create", "rescue", "--role", "owner", "--state", str(state))
    assert (made.code, made.out.startswith("cutover_rescue_")) == (0, True), made.err
    verified = run("audit", "verify", "--state", str(state), "-o", "json")
    assert json.loads(verified.out)["verified"] == 4, verified.out
    with serving(tmp_path / "models", state):
        pass
