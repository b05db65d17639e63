import asyncio
from pathlib import Path

import pytest

from gateway.controlplane import audit
from gateway.controlplane.commands import Register
from gateway.controlplane.release import apply, unborn
from gateway.controlplane.store.memory import MemoryStore
from gateway.controlplane.store.sqlite import SqliteStore
from gateway.routing.snapshot import Release
from tests.unit.gateway.cli.fake import FakeAdmin, Shell


async def lines() -> list[bytes]:
    """A backup of a store with one release."""
    store = MemoryStore()
    after, (fact,) = apply(unborn("iris"), Register(1), now_ms=1)
    await store.enrol([(after, audit.draft(fact, actor="ada", reason="", request_id=""))])
    return [line async for line in store.dump()]


async def releases(state: Path) -> dict[str, Release]:
    store = SqliteStore(state / "cutover.db")
    await store.open()
    try:
        return await store.releases()
    finally:
        await store.close()


@pytest.fixture
def copy(admin: FakeAdmin) -> list[bytes]:
    admin.backup = asyncio.run(lines())
    return admin.backup


def test_a_backup_is_written_and_restored(cutover: Shell, copy: list[bytes], tmp_path: Path) -> None:
    file, state = tmp_path / "copy.jsonl", tmp_path / "state"
    said = cutover("backup", str(file))
    assert (said.code, said.out) == (0, f"{file}: 2 lines, {sum(map(len, copy))} bytes\n")
    assert file.read_bytes() == b"".join(copy)
    assert file.stat().st_mode & 0o777 == 0o600
    said = cutover("backup", str(file), "-o", "json")
    assert said.json["lines"] == 2
    assert [each.name for each in tmp_path.iterdir()] == ["copy.jsonl"]
    said = cutover.local("restore", str(file), "--state", str(state))
    assert (said.code, said.out) == (0, "1 releases are restored\n")
    assert list(asyncio.run(releases(state))) == ["iris"]
    said = cutover.local("restore", "--accept", "--state", str(state), "--reason", "mine")
    assert (said.code, said.out) == (0, "1 releases are restored\n")


def test_half_a_backup_replaces_nothing(cutover: Shell, admin: FakeAdmin, copy: list[bytes], tmp_path: Path) -> None:
    file = tmp_path / "copy.jsonl"
    file.write_text("of yesterday")
    admin.backup = copy[:-1]
    said = cutover("backup", str(file))
    assert said.code == 3
    assert "ends after line" in said.err
    assert file.read_text() == "of yesterday"
    assert [each.name for each in tmp_path.iterdir()] == ["copy.jsonl"]


def test_what_cannot_be_done_is_one_line(cutover: Shell, copy: list[bytes], tmp_path: Path) -> None:
    said = cutover("backup", str(tmp_path / "nowhere" / "copy"))
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert "cannot be written: No such file or directory" in said.err
    said = cutover.local("restore", str(tmp_path / "none"), "--state", str(tmp_path / "state"))
    assert (said.code, "cannot be read: No such file" in said.err) == (2, True)
    said = cutover.local("restore", "--state", str(tmp_path / "state"))
    assert (said.code, "either a FILE or --accept" in said.err) == (2, True)
    damaged = tmp_path / "damaged"
    damaged.write_bytes(b"".join(copy).replace(b"iris", b"rose"))
    said = cutover.local("restore", str(damaged), "--state", str(tmp_path / "state"))
    assert said.code == 1
    assert "backup" in said.err
