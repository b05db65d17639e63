"""SETTINGS: what the server announces, and what it takes from its peer (RFC 9113 section 6.5)."""

import struct
from enum import IntEnum
from typing import Final

from gateway.transport.h2.errors import ConnectionFault, ErrorCode, Flood
from gateway.transport.h2.frames import FrameType, frame, window_update
from gateway.transport.h2.limits import (
    DEFAULT_WINDOW_BYTES,
    MAX_FRAME_BYTES,
    MAX_WINDOW_BYTES,
    MIN_FRAME_BYTES,
    Limits,
)

ENTRY: Final = struct.Struct(">HL")


class Setting(IntEnum):
    """Settings a server acts on; others are ignored, as section 6.5.2 demands."""

    HEADER_TABLE_SIZE = 0x1
    ENABLE_PUSH = 0x2
    MAX_CONCURRENT_STREAMS = 0x3
    INITIAL_WINDOW_SIZE = 0x4
    MAX_FRAME_SIZE = 0x5
    MAX_HEADER_LIST_SIZE = 0x6


def server_preface(limits: Limits) -> bytes:
    """The SETTINGS frame a server begins with, and the WINDOW_UPDATE that opens the connection's window."""
    values = {
        Setting.MAX_CONCURRENT_STREAMS: limits.max_streams,
        Setting.INITIAL_WINDOW_SIZE: limits.stream_window_bytes,
        Setting.MAX_FRAME_SIZE: limits.max_frame_bytes,
        Setting.MAX_HEADER_LIST_SIZE: limits.max_header_list_bytes,
    }
    preface = frame(FrameType.SETTINGS, 0, 0, b"".join(ENTRY.pack(*entry) for entry in values.items()))
    extra_bytes = limits.connection_window_bytes - DEFAULT_WINDOW_BYTES
    return preface + window_update(0, extra_bytes) if extra_bytes else preface


def parse(payload: bytes, max_entries: int = 32) -> list[tuple[int, int]]:
    """The entries of a SETTINGS payload, validated, in order; unknown identifiers are left out.

    Raises ConnectionFault with the code sections 6.5 and 6.5.2 name, Flood for more entries than make sense: RFC 9113
    defines six settings.
    """
    if len(payload) % ENTRY.size:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"SETTINGS of {len(payload)} bytes, must be a multiple of 6")
    if len(payload) > max_entries * ENTRY.size:
        raise Flood("chatter", f"SETTINGS with more than {max_entries} entries")
    entries = []
    for identifier, value in ENTRY.iter_unpack(payload):
        _validate(identifier, value)
        if Setting.HEADER_TABLE_SIZE <= identifier <= Setting.MAX_HEADER_LIST_SIZE:
            entries.append((identifier, value))
    return entries


def _validate(identifier: int, value: int) -> None:
    if identifier == Setting.ENABLE_PUSH and value > 1:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"SETTINGS_ENABLE_PUSH is {value}, must be 0 or 1")
    if identifier == Setting.INITIAL_WINDOW_SIZE and value > MAX_WINDOW_BYTES:
        raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, f"SETTINGS_INITIAL_WINDOW_SIZE is {value}, above 2^31-1")
    if identifier == Setting.MAX_FRAME_SIZE and not MIN_FRAME_BYTES <= value <= MAX_FRAME_BYTES:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"SETTINGS_MAX_FRAME_SIZE is {value}, must be 16384 to 2^24-1")
