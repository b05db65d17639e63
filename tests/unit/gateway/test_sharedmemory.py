import os
import socket
from pathlib import Path

import pytest

from gateway.errors import InvalidRequest
from gateway.sharedmemory import open_key


def refused(key: str, directory: Path) -> str:
    with pytest.raises(InvalidRequest) as caught:
        open_key(key, directory)
    return str(caught.value)


@pytest.mark.parametrize("key", ["/object", "object"])
def test_an_object_is_opened_to_read_and_write(tmp_path: Path, key: str) -> None:
    (tmp_path / "object").write_bytes(b"content")
    number = open_key(key, tmp_path)
    try:
        assert os.pwrite(number, b"C", 0) == 1
        assert os.pread(number, 7, 0) == b"Content"
        assert not os.get_inheritable(number)
    finally:
        os.close(number)


@pytest.mark.parametrize("key", ["", "/", ".", "..", "/..", "//object", "/a/b", "../etc/passwd", "a\0b", "x" * 256])
def test_a_key_is_one_name(tmp_path: Path, key: str) -> None:
    assert "it must be a name for shm_open" in refused(key, tmp_path)


@pytest.mark.parametrize("key", ["sem.lock", "/sem.lock", "/triton_python_backend_shm_region_1"])
def test_what_belongs_to_others_is_reserved(tmp_path: Path, key: str) -> None:
    (tmp_path / key.removeprefix("/")).write_bytes(b"")
    assert "names that begin so are reserved" in refused(key, tmp_path)


def test_nobody_learns_why_an_object_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "object")
    (tmp_path / "object").write_bytes(b"content")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for name in ("missing", "folder", "link", "pipe", "socket"):
            assert refused(name, tmp_path) == (
                f"shared memory key '{name}': there is no such object of shm_open, or the gateway may not read and "
                "write it"
            )
    assert str(tmp_path) not in refused("missing", tmp_path)


def test_refused_objects_leave_nothing_open(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    refused("pipe", tmp_path)
    files = list(Path("/proc/self/fd").iterdir())
    assert tmp_path / "pipe" not in [file.readlink() for file in files if file.is_symlink()]


def test_an_object_lies_on_the_file_system_of_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client may mount one of its own over a file, and then keep readers waiting."""
    (tmp_path / "object").write_bytes(b"content")
    elsewhere = Path("/proc").stat()
    monkeypatch.setattr(Path, "stat", lambda _: elsewhere)
    assert "there is no such object of shm_open" in refused("object", tmp_path)
