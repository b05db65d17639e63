"""A Unix socket that gRPC makes."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import pytest

from gateway.controlplane.access.adminsocket import admin_socket
from gateway.errors import StartupError


@contextmanager
def binding() -> Iterator[Callable[[str], object]]:
    """What gRPC does, and whether anybody else could have come in meanwhile."""
    with socket.socket(socket.AF_UNIX) as made:

        def bind(address: str) -> None:
            path = Path(unquote(address.removeprefix("unix:")))
            assert path.parent.stat().st_mode & 0o777 == 0o700
            made.bind(str(path))
            made.listen()

        yield bind


def test_it_is_there_with_its_mode_and_goes_away(tmp_path: Path) -> None:
    path = tmp_path / "a b%20.sock"
    with binding() as bind, admin_socket(path, 0o660, bind):
        assert path.stat().st_mode & 0o777 == 0o660
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
    assert list(tmp_path.iterdir()) == []


def test_one_that_nobody_listens_on_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(path))
    with binding() as bind, admin_socket(path, 0o600, bind):
        assert path.is_socket()


def test_that_of_another_gateway_stays(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with binding() as bind, admin_socket(path, 0o600, bind):
        with (
            binding() as again,
            pytest.raises(StartupError, match=r"somebody listens.*\[admin\] socket"),
            admin_socket(path, 0o600, again),
        ):
            pass
        path.unlink()
        path.write_text("another's")
    assert path.read_text() == "another's"


@pytest.mark.parametrize("name", ["x" * 120, "no/folder"])
def test_a_path_that_cannot_be_is_named(tmp_path: Path, name: str) -> None:
    with (
        binding() as bind,
        pytest.raises(StartupError, match=r"\[admin\] socket"),
        admin_socket(tmp_path / name, 0o600, bind),
    ):
        pass


def test_a_bind_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def bind(address: str) -> None:
        raise RuntimeError("no")

    with pytest.raises(StartupError, match="cannot be made"), admin_socket(tmp_path / "a", 0o600, bind):
        pass
    assert list(tmp_path.iterdir()) == []
