"""Opens POSIX shared memory by its key, for the control process and the proxies alike.

It is never mapped: whoever made it may shrink it, and touching what is gone kills a process (SIGBUS). Errors say only
what the client sent, and the same whether an object is missing or is not to be touched: nobody may learn from them
what else there is (as with CVE-2025-23320, where an error told the name of the server's own region).
"""

import os
import stat
from pathlib import Path
from typing import Final

from gateway.errors import InvalidRequest

DIRECTORY: Final = Path("/dev/shm")  # noqa: S108 - where shm_open keeps its objects (shm_overview(7))
OFF: Final = "shared memory is off; the operator may set shared_memory = true in [triton]"
MAX_KEY_BYTES: Final = 255
"""NAME_MAX."""
RESERVED: Final = ("sem.", "triton_python_backend_shm_region_")
"""Semaphores of sem_open (sem_overview(7)), and what Triton's backend shares with its models: not for clients."""

_FLAGS: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def open_key(key: str, directory: Path = DIRECTORY) -> int:
    """A file descriptor of the object, to read and write. Raises InvalidRequest."""
    name = _file_name(key)
    try:
        number = os.open(directory / name, _FLAGS)
    except OSError as error:
        raise _not_usable(key) from error
    status = os.fstat(number)
    # Another file system may be mounted there, by a client at that (FUSE): whoever reads from it could wait for ever.
    if stat.S_ISREG(status.st_mode) and status.st_dev == directory.stat().st_dev:
        return number
    os.close(number)
    raise _not_usable(key)


def _file_name(key: str) -> str:
    """shm_open's rule: one leading slash, which may be left out, and no further one."""
    name = key.removeprefix("/")
    if not name or "/" in name or "\0" in name or name in {".", ".."} or len(key.encode()) > MAX_KEY_BYTES:
        raise InvalidRequest(
            f"shared memory key {key[:MAX_KEY_BYTES]!r}: it must be a name for shm_open, such as /input"
        )
    if name.startswith(RESERVED):
        raise InvalidRequest(f"shared memory key {key!r}: names that begin so are reserved")
    return name


def _not_usable(key: str) -> InvalidRequest:
    return InvalidRequest(
        f"shared memory key {key!r}: there is no such object of shm_open, or the gateway may not read and write it"
    )
