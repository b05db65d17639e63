"""What can go wrong with a command, as one line and an exit code."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every command."""

    OK = 0
    REFUSED = 1
    """The gateway answered, and its answer is no."""
    USAGE = 2
    """The command line is wrong, or what was asked for cannot start."""
    UNREACHABLE = 3
    VERDICT_FAILED = 4
    """A load test ran and missed its SLO."""
    DIFFERS = 5
    """`apply --dry-run`: the release is not what the file declares."""
    INTERRUPTED = 130


class Failure(Exception):
    """Ends a command with one line on stderr."""

    def __init__(self, code: Exit, message: str) -> None:
        super().__init__(message)
        self.code = code


class Lost(Failure):
    """The gateway was there and went away: whoever watches it can wait for it."""

    def __init__(self, message: str) -> None:
        super().__init__(Exit.UNREACHABLE, message)


def parse_address(text: str, option: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT` (IPv6 in brackets). Raises Failure naming the option."""
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not bare or (":" in bare and bare == host) or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise Failure(Exit.USAGE, f"{option} {text!r} is not HOST:PORT, such as 127.0.0.1:8003 or [::1]:8003")
    return bare, int(port)
