"""Frames: the header all of them share, and the ones a server writes (RFC 9113 sections 4 and 6)."""

import struct
from enum import IntEnum
from typing import Final

from gateway.transport.h2.errors import ConnectionFault, ErrorCode

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What every client sends first (RFC 9113 section 3.4)."""

HEADER: Final = struct.Struct(">LBL")
"""length << 8 | type, flags, stream id with its reserved bit: three integers where the RFC draws five fields."""
HEADER_BYTES: Final = 9
STREAM_ID_MASK: Final = 0x7FFF_FFFF


class FrameType(IntEnum):
    """Frame types (RFC 9113 section 6)."""

    DATA = 0x0
    HEADERS = 0x1
    PRIORITY = 0x2
    RST_STREAM = 0x3
    SETTINGS = 0x4
    PUSH_PROMISE = 0x5
    PING = 0x6
    GOAWAY = 0x7
    WINDOW_UPDATE = 0x8
    CONTINUATION = 0x9


ACK: Final = 0x1
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITY: Final = 0x20

WORD: Final = struct.Struct(">L")
"""Payload of RST_STREAM and WINDOW_UPDATE."""
_ONE_WORD = struct.Struct(">LBLL")
_TWO_WORDS = struct.Struct(">LBLLL")


def frame(kind: FrameType, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Any frame."""
    return HEADER.pack(len(payload) << 8 | kind, flags, stream_id) + payload


def rst_stream(stream_id: int, code: ErrorCode) -> bytes:
    """RST_STREAM (section 6.4)."""
    return _ONE_WORD.pack(4 << 8 | FrameType.RST_STREAM, 0, stream_id, code)


def window_update(stream_id: int, increment_bytes: int) -> bytes:
    """WINDOW_UPDATE (section 6.9); stream 0 is the connection."""
    return _ONE_WORD.pack(4 << 8 | FrameType.WINDOW_UPDATE, 0, stream_id, increment_bytes)


def goaway(last_stream_id: int, code: ErrorCode, debug: str = "") -> bytes:
    """GOAWAY (section 6.8) with the reason in words."""
    text = debug.encode("ascii", "replace")[:256]
    return _TWO_WORDS.pack((8 + len(text)) << 8 | FrameType.GOAWAY, 0, 0, last_stream_id, code) + text


def unpadded(flags: int, data: bytes, start: int, end: int) -> tuple[int, int]:
    """Where the content of a DATA or HEADERS payload at `data[start:end]` lies without its padding (section 6.1).

    Raises ConnectionFault: PROTOCOL_ERROR when the padding is as long as the payload, FRAME_SIZE_ERROR when there is no
    pad length.
    """
    if not flags & PADDED:
        return start, end
    if start == end:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "padded frame without a pad length")
    padding = data[start]
    if padding > end - start - 1:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "padding is longer than the frame")
    return start + 1, end - padding


def unprioritised(flags: int, start: int, end: int) -> int:
    """Where the field block of a HEADERS payload begins behind its priority fields.

    They mean nothing any more (section 5.3.2). Raises ConnectionFault FRAME_SIZE_ERROR when the frame cannot hold them.
    """
    if not flags & PRIORITY:
        return start
    if end - start < 5:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS too short for its priority fields")
    return start + 5


def expect_size(kind: FrameType, expected_bytes: int, size: int) -> None:
    """Raises ConnectionFault FRAME_SIZE_ERROR unless the payload has the one size its type allows."""
    if size != expected_bytes:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"{kind.name} of {size} bytes, must be {expected_bytes}")
