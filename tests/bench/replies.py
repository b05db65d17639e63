"""Reads what a server sends to the raw client: counts answers by their frame headers, and believes none unseen.

An answer counts when its stream ended with HTTP status 200 and grpc-status 0. A header block is decoded when it is met
for the first time; while no block changes the dynamic table, the same bytes say the same and are looked up.
"""

import struct
from typing import Final

from hpack import Decoder

from tests.bench.load import BenchError
from tests.bench.raw_client import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADER,
    HEADER_BYTES,
    HEADERS,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    window_update,
)

RST_STREAM, PING, GOAWAY = 3, 6, 7
ACK, PADDED = 1, 8
REPLENISH_BYTES: Final = 1 << 30
"""So much of the connection's window (2 GiB) is used before it is opened again."""

_unpack_header = HEADER.unpack_from
_SETTING: Final = struct.Struct(">HL")
_INITIAL_WINDOW: Final = 4


class Replies:
    """The receiving side of one raw connection.

    ended: streams that ended with grpc-status 0. data_bytes: DATA bytes of all streams.
    control: what is to be written back (SETTINGS and PING acknowledgements, windows).
    window_bytes: what the server lets the connection send.
    stream_window_bytes: what it lets each stream send at first. stream_credit_bytes: what it added on streams since.
    """

    __slots__ = (
        "_decoder", "_known", "_replenished_bytes", "_rest", "control", "data_bytes", "ended", "greeted",
        "stream_credit_bytes", "stream_window_bytes", "window_bytes",
    )  # fmt: skip

    def __init__(self) -> None:
        self.ended = 0
        self.data_bytes = 0
        self.control = bytearray()
        self.greeted = False
        self.window_bytes = 65535
        self.stream_window_bytes = 65535
        self.stream_credit_bytes = 0
        self._replenished_bytes = 0
        self._rest = b""
        self._decoder = Decoder()
        self._known: dict[bytes, bool] = {}
        """Header blocks that are as they should be; whether they hold grpc-status 0."""

    def feed(self, data: bytes) -> None:
        """Takes what arrived. Raises BenchError for any answer but a good one."""
        if self._rest:
            data = self._rest + data
        known = self._known
        position, total = 0, len(data)
        while total - position >= HEADER_BYTES:
            word, flags, stream_id = _unpack_header(data, position)
            start = position + HEADER_BYTES
            end = start + (word >> 8)
            if end > total:
                break
            position = end
            kind = word & 0xFF
            if kind == DATA and not flags:
                self.data_bytes += word >> 8
            elif kind == HEADERS and flags & ~END_STREAM == END_HEADERS:
                block = data[start:end]
                good = known.get(block)
                if good is None:
                    good = self._read(block)
                if flags & END_STREAM:
                    if not good:
                        raise BenchError("a stream ended without a grpc-status")
                    self.ended += 1
            else:
                self._other(kind, flags, stream_id, data[start:end])
        self._rest = data[position:]
        if self.data_bytes - self._replenished_bytes > REPLENISH_BYTES:
            self.control += window_update(self.data_bytes - self._replenished_bytes)
            self._replenished_bytes = self.data_bytes

    def _read(self, block: bytes) -> bool:
        """Whether a header block holds grpc-status 0. Raises BenchError when it says that something went wrong."""
        table = self._decoder.header_table
        before = (table.dynamic_entries[0] if table.dynamic_entries else None, len(table.dynamic_entries))
        fields = dict(self._decoder.decode(block))
        status, http = fields.get("grpc-status"), fields.get(":status", "200")
        if http != "200" or status not in (None, "0"):
            raise BenchError(f"HTTP status {http}, grpc-status {status}: {fields.get('grpc-message', '')}")
        after = (table.dynamic_entries[0] if table.dynamic_entries else None, len(table.dynamic_entries))
        if after[0] is before[0] and after[1] == before[1]:
            self._known[block] = status == "0"
        else:
            self._known.clear()
        return status == "0"

    def _other(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == SETTINGS and not flags & ACK:
            self._settings(payload)
        elif kind == PING and not flags & ACK:
            self.control += frame(PING, ACK, 0, payload)
        elif kind == WINDOW_UPDATE:
            increment_bytes = int.from_bytes(payload, "big")
            if stream_id:
                self.stream_credit_bytes += increment_bytes
            else:
                self.window_bytes += increment_bytes
        elif kind == GOAWAY:
            raise BenchError(f"the server says goodbye: {payload[8:].decode(errors='replace')}")
        elif kind == RST_STREAM:
            raise BenchError(f"stream {stream_id} was reset with {int.from_bytes(payload, 'big')}")
        elif kind in (DATA, HEADERS):
            raise BenchError(f"frame of type {kind} with flags {flags:#x}, which this client does not read")

    def _settings(self, payload: bytes) -> None:
        for key, value in _SETTING.iter_unpack(payload):
            if key == _INITIAL_WINDOW:
                self.stream_window_bytes = value
        self.control += frame(SETTINGS, ACK, 0)
        self.greeted = True
