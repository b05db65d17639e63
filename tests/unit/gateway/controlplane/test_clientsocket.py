import os
import socket
import stat
from pathlib import Path

import pytest

from gateway.controlplane.clientsocket import ClientSocket
from gateway.errors import StartupError


@pytest.fixture
def path(run_dir: Path) -> Path:
    return run_dir / "clients"


def reachable(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True


def test_clients_find_it_once_it_is_published_and_nothing_is_left(path: Path) -> None:
    with ClientSocket(path, 0o660) as made:
        assert not path.exists()
        made.publish()
        assert reachable(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert os.get_inheritable(made.fileno()) is False
    assert list(path.parent.iterdir()) == []


def test_nothing_is_left_of_one_that_was_never_published(path: Path) -> None:
    with ClientSocket(path, 0o600):
        pass
    assert list(path.parent.iterdir()) == []


def test_a_socket_on_which_nobody_listens_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with ClientSocket(path, 0o600) as made:
        made.publish()
        assert reachable(path)


def test_one_on_which_somebody_listens_is_not_but_for_orphans(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(StartupError, match=r"somebody listens on .*; stop them or choose"):
            ClientSocket(path, 0o600)
        with ClientSocket(path, 0o600, shared_with_orphans=True) as made:
            assert reachable(path)
            made.publish()
            client, peer = socket.socket(socket.AF_UNIX), socket.socket(fileno=os.dup(made.fileno()))
            client.connect(str(path))
            peer.accept()[0].close()
            client.close()
            peer.close()
    assert not path.exists()


def test_anything_else_at_the_path_is_left_alone(path: Path) -> None:
    path.write_text("precious")
    for orphans in (False, True):
        with pytest.raises(StartupError, match="exists and is no socket"):
            ClientSocket(path, 0o600, shared_with_orphans=orphans)
    assert path.read_text() == "precious"


def test_the_socket_of_another_gateway_is_not_removed(path: Path) -> None:
    with ClientSocket(path, 0o600) as made:
        made.publish()
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
    assert path.exists()


@pytest.mark.parametrize(
    ("name", "why"), [("x" * 120, "too long for a Unix socket"), ("missing/clients", "No such file or directory")]
)
def test_paths_that_cannot_be(run_dir: Path, name: str, why: str) -> None:
    with pytest.raises(StartupError, match=why):
        ClientSocket(run_dir / name, 0o600)
