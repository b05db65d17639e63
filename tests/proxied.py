"""PROXY headers as proxies write them, and a proxy that does."""

import ipaddress
import socket
import struct
import threading
from contextlib import suppress
from typing import Self

from gateway.transport.proxy_header import SIGNATURE


def v1(address: str, port: int) -> bytes:
    """A line of version 1 for a client of this address."""
    family = "TCP4" if ipaddress.ip_address(address).version == 4 else "TCP6"
    other = "192.0.2.254" if family == "TCP4" else "2001:db8::fe"
    return f"PROXY {family} {address.partition('%')[0]} {other} {port} 8001\r\n".encode()


def v2(address: str, port: int, extensions: bytes = b"") -> bytes:
    """A header of version 2."""
    source = ipaddress.ip_address(address.partition("%")[0]).packed
    family = 0x11 if len(source) == 4 else 0x21
    body = source + bytes(len(source)) + struct.pack(">HH", port, 8001) + extensions
    return SIGNATURE + struct.pack(">BBH", 0x21, family, len(body)) + body


class Relay:
    """A proxy in front: sends a header before whatever its one client sends, and hands everything on."""

    def __init__(self, port: int, header: bytes) -> None:
        """Forwards to `port`; `target` is where its client connects to."""
        self._header = header
        self._port = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.target = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._open: list[socket.socket] = [self._listening]
        self._threads = [threading.Thread(target=self._serve)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self._open:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(timeout=30)
        for sock in self._open:
            sock.close()

    def _serve(self) -> None:
        try:
            client, _ = self._listening.accept()
        except OSError:
            return
        server = socket.create_connection(("127.0.0.1", self._port))
        self._open += [client, server]
        server.sendall(self._header)
        back = threading.Thread(target=_pump, args=(server, client))
        self._threads.append(back)
        back.start()
        _pump(client, server)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
