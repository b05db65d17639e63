"""What is particular to SQLite and needs no file; the rest: tests/integration/test_store.py."""

from pathlib import Path

import pytest

from gateway.controlplane.store.sqlite import SqliteStore, _identity, _remedy
from gateway.errors import StoreFailed


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        ("store x: database is locked", "another gateway uses it"),
        ("store x: file is not a database", "restore it from a backup"),
        ("store x: database disk image is malformed", "restore it from a backup"),
        ("the stored release of iris cannot be read: nonsense", "restore it from a backup"),
        ("store x: unable to open database file", "name a directory that can be written"),
        ("store x: database or disk is full", "on a disk that has room"),
    ],
)
def test_every_way_not_to_start_has_a_remedy(error: str, remedy: str) -> None:
    assert remedy in _remedy(error)


def test_a_file_is_known_by_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert _identity(path) == (0, 0)
    path.touch()
    before = _identity(path)
    path.rename(tmp_path / "old")
    path.touch()
    assert _identity(path) != before == _identity(tmp_path / "old")


async def test_a_store_that_was_never_opened_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed, match="closed"):
        await SqliteStore(tmp_path / "cutover.db").releases()
