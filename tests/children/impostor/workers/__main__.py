"""Stands in for a worker program: the real one for most models, one that misbehaves for models of these names.

garbage: answers what nobody has asked. late: answers when the deadline is long past. leaky: keeps 100 MiB of every
request. All that is well-formed is one row, 1.
"""

import json
import os
import runpy
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from workers import wire

_leaked: list[bytearray] = []


def garbage(_: tuple[int, ...]) -> bytes:
    """As many bytes as a header has, all of them wrong."""
    return b"\xee" * wire.HEADER.size


def late(header: tuple[int, ...]) -> bytes:
    """Well-formed, a second too late."""
    while header[5] and not wire.is_late(header[5], time.monotonic() - 1):
        time.sleep(0.01)
    return good(header)


def leaky(header: tuple[int, ...]) -> bytes:
    """Well-formed, at a price."""
    _leaked.append(bytearray(b"x") * (100 << 20))
    return good(header)


def good(header: tuple[int, ...]) -> bytes:
    """What was asked for."""
    body = b"".join(wire.section(b'[["value","INT64",[]]]', 1, [struct.pack("<q", 1)]))
    return wire.HEADER.pack(len(body), header[1], wire.RESULT, 0, 0, 1) + body


def main(answer: Callable[[tuple[int, ...]], bytes], path: str, status: int) -> None:
    """Plays the worker until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    ready = {
        "state": "ready",
        "inputs": [{"name": "X", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "value", "datatype": "INT64", "shape": [-1]}],
        "batched": True,
    }
    os.write(status, json.dumps(ready).encode() + b"\n")
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_serve, args=(connection, answer), daemon=True).start()


def _serve(connection: socket.socket, answer: Callable[[tuple[int, ...]], bytes]) -> None:
    while len(data := connection.recv(wire.HEADER.size, socket.MSG_WAITALL)) == wire.HEADER.size:
        header = wire.HEADER.unpack(data)
        if header[0]:
            connection.recv(header[0], socket.MSG_WAITALL)
        if header[2] == wire.RUN:
            connection.sendall(answer(header))


if __name__ == "__main__":
    given = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=False))
    manner = {"garbage": garbage, "late": late, "leaky": leaky}.get(Path(given["--model"]).parts[-3])
    if manner is None:
        runpy.run_path(str(Path(wire.__file__).with_name("__main__.py")), run_name="__main__")
    else:
        main(manner, given["--socket"], int(given["--status-fd"]))
