"""The proxy process: `python -m gateway.dataplane --control SOCKET --index N`. Started by the control process."""

import argparse
import ctypes
import os
import resource
import signal
import socket
import sys
from typing import Final

import uvloop

from gateway.dataplane.proxy import Proxy
from gateway.transport.tls import TlsProblem

M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3


def main() -> int:
    """Parses the arguments and serves."""
    parser = argparse.ArgumentParser(
        prog="cutover-proxy", description="One proxy of a gateway; `cutover serve` starts it."
    )
    parser.add_argument("--control", required=True, help="Unix socket of the control process")
    parser.add_argument("--index", type=int, required=True, help="which proxy of the gateway this is")
    parser.add_argument("--client-socket", type=int, help="file number of a socket that listens for clients, too")
    arguments = parser.parse_args()
    # Ctrl-C reaches the whole process group; the control process decides who stops when.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    allow_files()
    keep_memory()

    async def run() -> int:
        proxy = Proxy(arguments.control, arguments.index, fall_silent)
        if arguments.client_socket is not None:
            proxy.client_socket = socket.socket(fileno=arguments.client_socket)
        return await proxy.run(os.getpid())

    try:
        return uvloop.run(run())
    except (OSError, TlsProblem) as error:
        sys.stderr.write(f"proxy {arguments.index}: {error}\n")
        return 1


def allow_files() -> None:
    """Every client connection is an open file; the usual limit is 1024, for the sake of programs that use select."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def keep_memory() -> None:
    """Has glibc's malloc keep what large messages had for the next ones: getting each page anew costs more than a copy.

    It would come to that by itself after a few messages of the largest kind (mallopt(3), M_MMAP_THRESHOLD).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # others have none
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 32 << 20)
        mallopt(M_TRIM_THRESHOLD, 64 << 20)


def fall_silent() -> None:
    """Without a control process nobody reads what we print, and printing into a pipe without a reader raises."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)


if __name__ == "__main__":
    sys.exit(main())
