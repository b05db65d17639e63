"""The Unix socket of the admin API, which gRPC makes: in a private folder first, so that nobody finds it with another
mode than it is to have.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

from gateway.controlplane.clientsocket import MAX_PATH_BYTES, require_free_path
from gateway.errors import StartupError

SETTING: Final = "[admin] socket"


@contextlib.contextmanager
def admin_socket(path: Path, mode: int, bind: Callable[[str], object]) -> Iterator[None]:
    """Lets `bind` listen on an address of gRPC, which is the socket at `path` when this returns; removed at the end.

    `mode`: who may connect. Raises StartupError when the path cannot be used.
    """
    path = path.absolute()
    folder = path.with_name(f".{os.getpid()}")
    made = folder / "s"
    if max(len(os.fsencode(name)) for name in (path, made)) > MAX_PATH_BYTES:
        raise StartupError(f"{path} is too long for a Unix socket ({MAX_PATH_BYTES} bytes); correct {SETTING}")
    require_free_path(path, SETTING)
    inode = _publish(folder, made, path, mode, bind)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if path.stat().st_ino == inode:  # else another gateway has put its own there
                path.unlink()


def _publish(folder: Path, made: Path, path: Path, mode: int, bind: Callable[[str], object]) -> int:
    """The inode of the socket."""
    try:
        folder.mkdir(mode=0o700)
        try:
            bind("unix:" + quote(str(made)))
            made.chmod(mode)
            inode = made.stat().st_ino
            made.replace(path)
        finally:
            made.unlink(missing_ok=True)
            folder.rmdir()
    except OSError as error:
        raise StartupError(f"Unix socket {path} cannot be made: {error.strerror}; correct {SETTING}") from None
    except RuntimeError as error:  # gRPC's, which does not say why
        raise StartupError(f"Unix socket {path} cannot be made; correct {SETTING}") from error
    return inode
