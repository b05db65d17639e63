"""Making, listing and ending tokens."""

from pathlib import Path

import pytest

from gateway.controlplane.store.sqlite import SqliteStore
from protos import admin_pb2 as pb
from tests.unit.gateway.cli.fake import Shell


def test_a_token_is_made_and_said_once(cutover: Shell) -> None:
    said = cutover("token", "create", "ci", "--role", "digits=operator", "--role", "viewer", "--reason", "nightly")
    assert (said.code, said.out) == (0, "cutover_ci_hush\n")
    (asked,) = cutover.admin.requests
    assert (asked.token_id, dict(asked.roles)) == ("ci", {"digits": pb.OPERATOR, "*": pb.VIEWER})
    assert (asked.ttl.seconds, asked.reason) == (90 * 86_400, "nightly")
    assert cutover("token", "create", "x", "--role", "owner", "-o", "json").json["secret"] == "cutover_x_hush"


def test_a_token_is_put_where_only_its_owner_reads_it(cutover: Shell, tmp_path: Path) -> None:
    file = tmp_path / "ci.token"
    said = cutover("token", "create", "ci", "--role", "owner", "--save", str(file))
    assert said.out == f"token ci is in {file}\n"
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("cutover_ci_hush\n", 0o600)
    assert "hush" not in said.out + said.err
    assert cutover("token", "create", "cj", "--role", "owner", "--save", str(file)).code == 2
    assert len(cutover.admin.requests) == 1
    said = cutover("token", "create", "ck", "--role", "owner", "--save", str(tmp_path / "no" / "file"))
    assert (said.code, said.out) == (1, "cutover_ck_hush\n")


@pytest.mark.parametrize(("written", "seconds"), [("12h", 43_200), ("1d", 86_400), ("1ms", 1), ("never", 0)])
def test_a_token_holds_as_long_as_said(cutover: Shell, written: str, seconds: int) -> None:
    assert cutover("token", "create", "ci", "--role", "owner", "--expires", written).code == 0
    assert cutover.admin.requests[0].HasField("ttl") is bool(seconds)
    assert cutover.admin.requests[0].ttl.seconds == seconds


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--role", "boss"),
        ("--role", "digits="),
        ("--role", "owner", "--role", "viewer"),
        ("--role", "owner", "--expires", "soon"),
    ],
)
def test_what_makes_no_sense_is_not_asked_for(cutover: Shell, arguments: tuple[str, ...]) -> None:
    assert cutover("token", "create", "ci", *arguments).code == 2
    assert cutover.admin.requests == []


def test_tokens_are_listed_and_revoked(cutover: Shell) -> None:
    for name in ("ci", "ops"):
        cutover("token", "create", name, "--role", "digits=operator")
    cutover.admin.tokens[0].expire_time.FromSeconds(1)
    assert cutover("token", "revoke", "ops", "--reason", "lost").out == "token ops is revoked\n"
    assert cutover.admin.requests[-1].reason == "lost"
    lines = cutover("token", "list").out.splitlines()
    assert "operator of digits" in lines[1]
    assert "expired 1970" in lines[1]
    assert "revoked 2" in lines[2]
    assert [one["name"] for one in cutover("token", "list", "-o", "json").json["tokens"]] == ["tokens/ci", "tokens/ops"]


def test_a_token_is_made_without_a_gateway(cutover: Shell, tmp_path: Path) -> None:
    assert cutover.local("token", "create", "x", "--role", "owner", "--state", str(tmp_path)).code == 2
    import asyncio

    async def make() -> None:
        store = SqliteStore(tmp_path / "cutover.db")
        await store.open()
        await store.close()

    asyncio.run(make())
    said = cutover.local("token", "create", "rescue", "--role", "owner", "--state", str(tmp_path))
    assert (said.code, said.out.startswith("cutover_rescue_")) == (0, True)
    again = cutover.local("token", "create", "rescue", "--role", "owner", "--state", str(tmp_path))
    assert (again.code, "there is, or was, a token rescue" in again.err) == (1, True)
    events = cutover.local("audit", "verify", "--state", str(tmp_path))
    assert events.out.startswith("1 event, every hash follows")
