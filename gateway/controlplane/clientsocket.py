"""The Unix socket that clients may use besides the port: bound once, inherited by every proxy.

It is bound under another name and moved into place when the proxies answer, in one step: a client finds the socket of
an earlier gateway there, or ours, and never nothing. Connections wait in it while proxies are replaced.
"""

import contextlib
import os
import socket
import stat
from pathlib import Path
from typing import Final, Self

from gateway.errors import StartupError

MAX_PATH_BYTES: Final = 107
"""Of `sockaddr_un`, whose 108 bytes end with a zero."""
BACKLOG: Final = 1024
OPTION: Final = "--grpc-socket"


class ClientSocket:
    """Listens from the start; whoever enters it removes it at the end."""

    def __init__(self, path: Path, mode: int, *, shared_with_orphans: bool = False) -> None:
        """Raises StartupError when the path cannot be used; proxies of an earlier gateway do not count."""
        self._path = path
        self._scratch = path.with_name(f".{os.getpid()}")
        for name in (path, self._scratch):
            if len(os.fsencode(name)) > MAX_PATH_BYTES:
                raise StartupError(
                    f"{path} is too long for a Unix socket (107 bytes); give a shorter one with {OPTION}"
                )
        require_free_path(path, OPTION, ask=not shared_with_orphans)
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._scratch.unlink(missing_ok=True)
            self._socket.bind(str(self._scratch))
            self._scratch.chmod(mode)
            self._socket.listen(BACKLOG)
            self._inode = self._scratch.stat().st_ino
        except OSError as error:
            self._socket.close()
            with contextlib.suppress(OSError):
                self._scratch.unlink()
            raise StartupError(f"Unix socket {path} cannot be made: {error.strerror}; correct {OPTION}") from None

    def fileno(self) -> int:
        """The file that proxies inherit."""
        return self._socket.fileno()

    def publish(self) -> None:
        """From here on clients find it. Raises StartupError."""
        try:
            self._scratch.replace(self._path)
        except OSError as error:
            raise StartupError(f"Unix socket {self._path} cannot be made: {error.strerror}; correct {OPTION}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Removes the socket, unless another gateway has put its own there."""
        self._socket.close()
        for path in (self._scratch, self._path):
            with contextlib.suppress(OSError):
                if path.stat().st_ino == self._inode:
                    path.unlink()


def require_free_path(path: Path, option: str, *, ask: bool = True) -> None:
    """Raises StartupError when there is anything but a socket, or, if it is to `ask`, one on which somebody listens."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise StartupError(f"Unix socket {path} cannot be made: {error.strerror}; correct {option}") from None
    if not stat.S_ISSOCK(found.st_mode):
        raise StartupError(f"{path} exists and is no socket; choose another path with {option}")
    if not ask:
        return
    with socket.socket(socket.AF_UNIX) as asking:
        asking.setblocking(False)
        try:
            asking.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except OSError:  # no right to ask, or a full queue: somebody is there
            pass
    raise StartupError(f"somebody listens on {path}; stop them or choose another path with {option}")
