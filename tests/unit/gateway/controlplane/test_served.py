import errno
import os
from pathlib import Path

import msgspec
import pytest
import structlog

from gateway.controlplane import served as module
from gateway.controlplane.served import Served, older
from gateway.errors import StartupError
from gateway.routing.snapshot import Policy, Release


def release(model: str, revision: int, sequence: int) -> Release:
    return Release(model, revision, Policy(revision), sequence=sequence)


def content(path: Path) -> bytes:
    return path.read_bytes()


def mode(path: Path) -> int:
    return path.stat().st_mode % 0o1000


def cut_off(path: Path, size: int) -> None:
    path.write_bytes(content(path)[:-size])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "served.jsonl"


async def test_what_is_kept_is_read_again(path: Path) -> None:
    served = Served(path)
    assert (served.releases, served.sequence) == ({}, 0)
    await served.keep([release("a", 1, 1), release("b", 1, 2)])
    await served.keep([release("a", 2, 3)])
    await served.keep([release("a", 2, 3)])
    assert len(content(path).splitlines()) == 3, "nothing is noted twice"
    again = Served(path)
    assert again.releases == {"a": release("a", 2, 3), "b": release("b", 1, 2)} == served.releases
    assert again.sequence == 3
    assert mode(path) == 0o600


async def test_the_file_does_not_grow_for_ever(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SPARE_BYTES", 1_000)
    served = Served(path)
    await served.keep([release(model, 1, number) for number, model in enumerate("abc", 1)])
    for revision in range(2, 200):
        await served.keep([release("a", revision, 2 + revision)])
        assert len(content(path)) < 3_000
    assert Served(path).releases == served.releases


@pytest.mark.parametrize("cut", [1, 20, 60])
async def test_half_a_line_is_none_and_nothing_is_written_behind_it(path: Path, cut: int) -> None:
    served = Served(path)
    await served.keep([release("a", 1, 1)])
    await served.keep([release("b", 1, 2)])
    cut_off(path, cut)
    with structlog.testing.capture_logs() as logged:
        again = Served(path)
    assert again.releases.keys() >= {"a"}
    assert len(logged) == (cut > 1)
    await again.keep([release("c", 1, 3)])
    assert Served(path).releases == again.releases


def test_a_line_that_was_changed_does_not_count(path: Path) -> None:
    path.write_bytes(b"".join(map(module._line, [release("a", 1, 1), release("b", 1, 2)])).replace(b'"b"', b'"c"'))
    with structlog.testing.capture_logs() as logged:
        assert list(Served(path).releases) == ["a"]
    assert [(line["line"], line["error"]) for line in logged] == [(2, "its check sum does not match")]


async def test_what_there_is_no_room_for_takes_none(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    served = Served(path)
    monkeypatch.setattr(os, "fsync", full)
    await served.keep([release("a", 1, 1)])
    assert not list(path.parent.iterdir())
    monkeypatch.undo()
    await served.keep([])
    assert Served(path).releases == served.releases


async def test_the_newest_is_known_however_it_came(path: Path) -> None:
    served = Served(path)
    await served.keep([release("a", 1, 1), release("b", 1, 3)])
    await served.keep([release("c", 1, 2)])
    assert served.newest == Served(path).newest == release("b", 1, 3)
    served.replace({"c": release("c", 1, 2)})
    assert served.newest == Served(path).newest == release("c", 1, 2)


async def test_a_file_that_cannot_be_written_is_told_once_and_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "state" / "served.jsonl"
    served = Served(path)
    with structlog.testing.capture_logs() as logged:
        await served.keep([release("a", 1, 1)])
        await served.keep([release("b", 1, 2)])
    assert [line["error"] for line in logged] == ["No such file or directory"]
    path.parent.mkdir()
    await served.keep([])
    assert Served(path).releases == {"a": release("a", 1, 1), "b": release("b", 1, 2)}


def test_one_that_cannot_be_read_is_no_start(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StartupError, match="cannot be read: Is a directory"):
        Served(path)


def test_it_can_be_replaced(path: Path) -> None:
    Served(path).replace({"a": release("a", 1, 1)})
    Served(path).replace({"b": release("b", 1, 1)})
    assert Served(path).releases == {"b": release("b", 1, 1)}


@pytest.mark.parametrize(
    ("stored", "why"),
    [
        ({"a": release("a", 3, 7)}, ""),
        ({"a": release("a", 4, 9), "b": release("b", 1, 8)}, ""),
        ({}, "it has no release of a, and revision 3 was served"),
        ({"a": release("a", 2, 6)}, "it has revision 2 of a (change 6), and revision 3 (change 7) was served"),
        ({"a": msgspec.structs.replace(release("a", 3, 7), paused=True)}, "change 7 of a is another one in it"),
    ],
)
def test_a_store_is_older_when_anything_that_was_served_is_not_in_it(stored: dict[str, Release], why: str) -> None:
    found = older(stored, {"a": release("a", 3, 7)})
    assert found.startswith(why)
    assert bool(found) == bool(why)
