"""The audit log as a file: one changed byte is found."""

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.controlplane import audit
from gateway.controlplane.access.keeper import Access, Keeper
from gateway.controlplane.access.roles import ALL
from gateway.controlplane.api.tokens import Tokens
from gateway.controlplane.audit import ACCESS, GENESIS, REFUSAL, AuditEvent, Draft, link
from gateway.controlplane.auditfile import Damaged, File, events, line
from gateway.controlplane.commands import Command, Flip, PrepareStandby, Register, SetHoldout, SetOverrides
from gateway.controlplane.release import apply, unborn
from gateway.controlplane.statuses import Context
from gateway.controlplane.store.sqlite import SqliteStore
from protos import admin_pb2 as pb
from tests.unit.gateway.controlplane.api.conftest import FakeContext

COMMANDS: tuple[Command, ...] = (
    Register(1),
    SetOverrides({"ann": "stable", "Ünï": "stable"}),
    PrepareStandby(2),
    SetHoldout(500),
    Flip(),
    SetOverrides({}, ("ann", "Ünï")),
)


def drafts(model: str) -> list[Draft]:
    release, made = unborn(model), []
    for number, command in enumerate(COMMANDS):
        release, (fact,) = apply(release, command, number)
        made.append(audit.draft(fact, actor="ada", reason="Ünïcødé 😊\n", request_id=""))
    return made


def chain() -> list[AuditEvent]:
    found: list[AuditEvent] = []
    noted = [Draft(9, "bob", "flip", "iris", 0, "no", "", "", "", kind) for kind in (REFUSAL, ACCESS)]
    for number, made in enumerate([*drafts("iris"), *noted], 1):
        found.append(link(found[-1].hash if found else GENESIS, number, made))
    return found


WHOLE = b"".join(map(line, chain()))


def wrong(content: bytes) -> str | None:
    """What is found in a file."""
    try:
        return audit.verify(events(content.splitlines(keepends=True)))
    except Damaged as damage:
        return str(damage)


def test_lines_are_the_events() -> None:
    assert list(events(WHOLE.splitlines(keepends=True))) == chain()
    assert wrong(WHOLE) is None


def test_anybody_can_recompute_a_hash() -> None:
    """As the README and `cutover audit export --help` say."""
    before = "0" * 64
    for text in WHOLE.decode().splitlines():
        told = json.loads(text)
        found = told.pop("hash")
        if told["kind"] == "change":
            del told["kind"]
        plain = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert hashlib.sha256((before + plain).encode()).hexdigest() == found
        before = found


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_one_changed_byte_is_found(place: int, change: int) -> None:
    content = bytearray(WHOLE)
    content[place] ^= change
    assert wrong(bytes(content)) is not None


@given(st.integers(0, len(WHOLE) - 1))
def test_one_byte_that_is_missing_is_found(place: int) -> None:
    cut = WHOLE[:place] + WHOLE[place + 1 :]
    assert wrong(cut) is not None


@pytest.mark.parametrize(
    "more", [b" ", b'{"hash":"x"}\n', b"\xff\n", line(chain()[-1]), WHOLE.splitlines(keepends=True)[0]]
)
def test_what_was_put_behind_is_found(more: bytes) -> None:
    assert wrong(WHOLE + more) is not None


async def kept(folder: Path, models: Iterable[str]) -> Path:
    """A store with the releases and a refusal."""
    store = SqliteStore(folder / "cutover.db")
    await store.open()
    for model in models:
        release = unborn(model)
        for number, command in enumerate(COMMANDS):
            before = release.revision
            release, (fact,) = apply(release, command, number)
            await store.commit(before, release, audit.draft(fact, actor="a", reason="", request_id=""), None)
    await store.note(Draft(9, "bob", "flip", "iris", 0, "no", "", "", "", REFUSAL))
    await store.close()
    return folder / "cutover.db"


async def test_the_file_of_a_store_is_read_and_left_alone(tmp_path: Path) -> None:
    path = await kept(tmp_path, ("iris", "wine"))
    content = path.read_bytes()
    with File(path) as file:
        found = list(file.events())
        assert audit.verify(found) is None
        assert list(file.strange()) == []
    assert len(found) == 2 * len(COMMANDS) + 1
    assert path.read_bytes() == content


async def test_a_byte_changed_in_the_file_is_found(tmp_path: Path) -> None:
    path = await kept(tmp_path, ("iris",))
    content = path.read_bytes()
    place = content.rindex(b'{"model":"iris","revision":3')
    for where, change in ((content.index(b"bob"), b"rob"), (place, b'{"model":"irix')):
        path.write_bytes(content[:where] + change + content[where + len(change) :])
        with File(path) as file:
            assert audit.verify(file.events()) is not None or list(file.strange())


async def test_a_release_that_the_log_does_not_tell_of_is_found(tmp_path: Path) -> None:
    path = await kept(tmp_path, ("iris", "wine"))
    content = path.read_bytes()
    with File(path) as file:
        (body,) = [row[0] for row in file._rows("SELECT body FROM releases WHERE model = 'wine'")]
    told = body.encode()
    changed = told.replace(b'"stable":2', b'"stable":3', 1)
    path.write_bytes(content.replace(told, changed))
    with File(path) as file:
        assert audit.verify(file.events()) is None
        found, *_ = file.strange()
        assert found == "the release of wine is not what the last change in the audit log made of it"


def wrote(path: Path, statement: str) -> list[str]:
    """What is found strange once somebody has written into the file, which leaves the chain whole."""
    with closing(sqlite3.connect(path)) as db:
        db.execute(statement)
        db.commit()
    with File(path) as file:
        assert audit.verify(file.events()) is None
        return list(file.strange())


async def with_tokens(folder: Path) -> Path:
    """A store with a release, a token that holds and one that was revoked."""
    path = await kept(folder, ("iris",))
    store = SqliteStore(path)
    await store.open()
    room = Tokens(Keeper(store, Access(), lambda: 5), lambda: 5)
    for name in ("boss", "lost"):
        await room.create(pb.CreateTokenRequest(token_id=name, roles={ALL: pb.OWNER}), "ada")
    await room.RevokeToken(pb.RevokeTokenRequest(name="tokens/lost"), cast("Context", FakeContext(cutover_actor="ada")))
    await store.close()
    with File(path) as file:
        assert list(file.strange()) == []
    return path


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        (
            "UPDATE revisions SET body = replace(body, '\"stable\":1', '\"stable\":9') WHERE revision = 2",
            "revision 2 of",
        ),
        ("DELETE FROM releases", "the release of iris"),
        ("UPDATE tokens SET revoked_ms = 0 WHERE id = 'lost'", "token lost"),
        ("UPDATE tokens SET roles = '{\"iris\":\"owner\"}' WHERE id = 'boss'", "token boss"),
        ("UPDATE tokens SET roles = 'x' WHERE id = 'boss'", "token boss"),
        (
            "INSERT INTO tokens SELECT 'mallory', hash, roles, 'ada', 5, 0, 0 FROM tokens WHERE id = 'boss'",
            "token mallory",
        ),
        ("DELETE FROM tokens WHERE id = 'lost'", "token lost"),
    ],
)
async def test_what_was_written_past_the_log_is_found(tmp_path: Path, statement: str, found: str) -> None:
    (said,) = wrote(await with_tokens(tmp_path), statement)
    assert said.startswith(found)


async def test_a_store_in_use_is_not_read(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "cutover.db")
    await store.open()
    with File(tmp_path / "cutover.db") as file, pytest.raises(Damaged, match="a gateway uses it"):
        list(file.events())
    await store.close()


async def test_what_a_killed_gateway_has_left_is_read_whole(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "cutover.db")
    await store.open()
    for made in drafts("iris"):
        await store.note(made)
    left = shutil.copytree(tmp_path, tmp_path / "left")
    await store.close()
    assert (left / "cutover.db-wal").stat().st_size
    with File(left / "cutover.db") as file:
        assert len(list(file.events())) == len(COMMANDS)


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(Damaged, match="does not exist"):
        File(tmp_path / "cutover.db")
    (tmp_path / "cutover.db").write_bytes(b"nonsense" * 100)
    with File(tmp_path / "cutover.db") as file, pytest.raises(Damaged, match="not a database"):
        list(file.events())
