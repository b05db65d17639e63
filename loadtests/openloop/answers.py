"""Reads what a server sends to the load generator's client: which stream ended with which gRPC status. Pure.

A header block is decoded when it is met for the first time; while no block changes the dynamic table, the same bytes
say the same and are looked up. Answers with trailers only (one HEADERS frame that ends the stream) count like others.
"""

import struct
from collections.abc import Sequence
from typing import Final

from hpack import Decoder, HPACKError

from loadtests.openloop import frames
from loadtests.recorder import OK

CODES: Final = (
    OK, "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
_BY_HTTP: Final = {
    "400": "INTERNAL", "401": "UNAUTHENTICATED", "403": "PERMISSION_DENIED", "404": "UNIMPLEMENTED",
    "429": "UNAVAILABLE", "502": "UNAVAILABLE", "503": "UNAVAILABLE", "504": "UNAVAILABLE",
}  # fmt: skip
"""grpc/doc/http-grpc-status-mapping.md."""
_BY_RESET: Final = {7: "UNAVAILABLE", 8: "CANCELLED", 11: "RESOURCE_EXHAUSTED", 12: "PERMISSION_DENIED"}
"""By HTTP/2 error code: REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM, INADEQUATE_SECURITY (gRPC over HTTP/2, "Errors")."""
KNOWN_BLOCKS: Final = 4096
REPLENISH_BYTES: Final = 1 << 30
"""So much of the connection's window (2 GiB) is used before it is opened again."""

_SETTING: Final = struct.Struct(">HL")
_unpack_header = frames.HEADER.unpack_from


class Unreadable(Exception):
    """The server sent what no client could go on with; one line."""


class Answers:
    """The receiving side of one connection.

    ended: streams that ended since last asked, with the name of their status. data_bytes: DATA bytes of all streams.
    control: what is to be written back (acknowledgements, windows). window_bytes: what the connection may send.
    """

    __slots__ = (
        "_block", "_decoder", "_known", "_open_block", "_replenished_bytes", "_rest", "control", "data_bytes", "ended",
        "goaway", "greeted", "max_frame_bytes", "max_streams", "stream_window_bytes", "table_bytes", "window_bytes",
    )  # fmt: skip

    def __init__(self) -> None:
        self.ended: list[tuple[int, str]] = []
        self.data_bytes = 0
        self.control = bytearray()
        self.greeted = False
        self.goaway: int | None = None
        """The last stream that the server will answer, once it has said goodbye."""
        self.window_bytes = frames.DEFAULT_WINDOW_BYTES
        self.stream_window_bytes = frames.DEFAULT_WINDOW_BYTES
        self.max_frame_bytes = frames.DEFAULT_FRAME_BYTES
        self.max_streams = frames.MAX_WINDOW_BYTES
        self.table_bytes = frames.DEFAULT_TABLE_BYTES
        self._replenished_bytes = 0
        self._rest = b""
        self._decoder = Decoder()
        self._known: dict[bytes, str | None] = {}
        """The status that a block says, or None when it says none."""
        self._open_block = bytearray()
        self._block = (0, 0)

    def feed(self, data: bytes) -> None:
        """Takes what arrived. Raises Unreadable."""
        if self._rest:
            data = self._rest + data
        known, ended = self._known, self.ended
        position, total = 0, len(data)
        while total - position >= frames.HEADER_BYTES:
            word, flags, stream_id = _unpack_header(data, position)
            start = position + frames.HEADER_BYTES
            end = start + (word >> 8)
            if end > total:
                break
            position = end
            kind = word & 0xFF
            if kind == frames.HEADERS and flags & ~frames.END_STREAM == frames.END_HEADERS:
                block = data[start:end]
                status = known[block] if block in known else self._read(block)
                if flags & frames.END_STREAM:
                    ended.append((stream_id, status or "UNKNOWN"))
            elif kind == frames.DATA:
                self.data_bytes += word >> 8
                if flags & frames.END_STREAM:
                    ended.append((stream_id, "INTERNAL"))  # without trailers there is no status
            else:
                self._other(kind, flags, stream_id, data[start:end])
        self._rest = data[position:]
        if self.data_bytes - self._replenished_bytes > REPLENISH_BYTES:
            self.control += frames.window_update(self.data_bytes - self._replenished_bytes)
            self._replenished_bytes = self.data_bytes

    def _read(self, block: bytes) -> str | None:
        """The status that a header block says, if any: grpc-status, or what a status of HTTP other than 200 means."""
        table = self._decoder.header_table
        newest, count = _newest(table.dynamic_entries), len(table.dynamic_entries)
        try:
            found = {bytes(name): bytes(value) for name, value in self._decoder.decode(block, raw=True)}
        except HPACKError as error:
            raise Unreadable(f"a header block cannot be read: {error!r}") from error
        status = status_of(found)
        changed = _newest(table.dynamic_entries) is not newest or len(table.dynamic_entries) != count
        if changed or len(self._known) >= KNOWN_BLOCKS:
            self._known.clear()
        else:
            self._known[block] = status
        return status

    def _other(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind in (frames.HEADERS, frames.CONTINUATION):
            self._pieces(kind, flags, stream_id, payload)
        elif kind == frames.SETTINGS and not flags & frames.ACK:
            self._settings(payload)
        elif kind == frames.PING and not flags & frames.ACK:
            self.control += frames.frame(frames.PING, frames.ACK, 0, payload)
        elif kind == frames.WINDOW_UPDATE and not stream_id:
            self.window_bytes += int.from_bytes(payload, "big")
        elif kind == frames.RST_STREAM:
            self.ended.append((stream_id, _BY_RESET.get(int.from_bytes(payload, "big"), "INTERNAL")))
        elif kind == frames.GOAWAY:
            self.goaway = int.from_bytes(payload[:4], "big")
        elif kind == frames.PUSH_PROMISE:
            raise Unreadable("a push, which this client has forbidden")

    def _pieces(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """A header block that is padded, has a priority, or comes in several frames."""
        if kind == frames.HEADERS:
            padding = payload[0] if flags & frames.PADDED else 0
            start = bool(flags & frames.PADDED) + (5 if flags & frames.PRIORITY else 0)
            payload = payload[start : len(payload) - padding]
            self._open_block.clear()
            self._block = stream_id, flags
        self._open_block += payload
        if flags & frames.END_HEADERS:
            status = self._read(bytes(self._open_block))
            if self._block[1] & frames.END_STREAM:
                self.ended.append((self._block[0], status or "UNKNOWN"))

    def _settings(self, payload: bytes) -> None:
        for key, value in _SETTING.iter_unpack(payload):
            if key == frames.INITIAL_WINDOW:
                self.stream_window_bytes = value
            elif key == frames.MAX_STREAMS:
                self.max_streams = value
            elif key == frames.HEADER_TABLE_SIZE:
                self.table_bytes = value
        self.control += frames.frame(frames.SETTINGS, frames.ACK, 0)
        self.greeted = True


def status_of(found: dict[bytes, bytes]) -> str | None:
    """The name of the status that fields say; None for the headers of an answer that goes on."""
    if b"grpc-status" in found:
        number = found[b"grpc-status"]
        return CODES[int(number)] if number.isdigit() and int(number) < len(CODES) else "UNKNOWN"
    http = found.get(b":status", b"200").decode()
    return None if http == "200" else _BY_HTTP.get(http, "UNKNOWN")


def _newest(entries: Sequence[object]) -> object:
    """A table that is full keeps its length when it changes, but not its newest entry."""
    return entries[0] if entries else None
