"""What can be said of a meeting of a frame and a connection, by whoever names differences."""

from typing import Final

from gateway.transport.h2.frames import PADDED, PRIORITY, FrameType
from tests.properties.reference.header_lists import malformed
from tests.properties.reference.meeting import Meeting
from tests.properties.reference.ours import LIMITS
from tests.unit.gateway.transport.h2.peer import Frame

LIVE: Final = ("open", "half-closed")
CLOSED: Final = ("reset by us", "reset by the peer", "finished", "skipped")


def malformed_block(meeting: Meeting) -> bool:
    """It completes a header list that h2 calls malformed, of a request or as its trailers."""
    pairs, phase = meeting.pairs, meeting.phase
    if meeting.block is None or pairs is None or phase not in ("idle", "open"):
        return False
    return malformed(pairs, trailers=phase == "open")


def crowded(meeting: Meeting) -> bool:
    """No further stream is served."""
    return meeting.block is not None and meeting.phase == "idle" and (meeting.leaving or full(meeting))


def full(meeting: Meeting) -> bool:
    return len(meeting.before.state().live) >= LIMITS.max_streams


def increment(meeting: Meeting) -> int | None:
    """Of a WINDOW_UPDATE frame, with the reserved bit."""
    frame = meeting.frame
    right = frame.kind == FrameType.WINDOW_UPDATE and len(frame.payload) == 4
    return int.from_bytes(frame.payload, "big") if right else None


def entries(meeting: Meeting) -> list[tuple[int, int]]:
    """Of a SETTINGS frame."""
    frame = meeting.frame
    if frame.kind != FrameType.SETTINGS or frame.flags & 1 or len(frame.payload) % 6:
        return []
    pieces = [frame.payload[start : start + 6] for start in range(0, len(frame.payload), 6)]
    return [(int.from_bytes(piece[:2], "big"), int.from_bytes(piece[2:], "big")) for piece in pieces]


def declared(meeting: Meeting) -> int | None:
    """The content-length of the request, of whatever frame."""
    pairs = meeting.before.requests.get(meeting.frame.stream_id) or meeting.pairs or []
    return next((int(value) for name, value in pairs if name == b"content-length"), None)


def misdeclared(meeting: Meeting) -> bool:
    """The request ends, and content-length was wrong."""
    frame = meeting.frame
    body = meeting.before.bodies.get(frame.stream_id, b"") if meeting.phase == "open" else b""
    size = len(body) + (content_bytes(frame) if frame.kind == FrameType.DATA else 0)
    return meeting.ended and meeting.phase in ("idle", "open") and declared(meeting) not in (None, size)


def content_bytes(frame: Frame) -> int:
    """Of a DATA frame, without padding."""
    return len(frame.payload) - (1 + frame.payload[0] if frame.flags & PADDED else 0)


def updates(block: bytes) -> int:
    """How many HPACK table size updates the block begins with."""
    count = position = 0
    while position < len(block) and block[position] & 0xE0 == 0x20:
        count += 1
        long = block[position] == 0x3F
        position += 1
        while long and position < len(block):
            long = block[position] >= 0x80
            position += 1
    return count


def overlapping(meeting: Meeting) -> bool:
    """Padding leaves no room for the priority fields."""
    frame = meeting.frame
    both = frame.kind == FrameType.HEADERS and frame.flags & PADDED and frame.flags & PRIORITY
    return bool(both and frame.payload) and len(frame.payload) - 1 - frame.payload[0] < 5


def carries(meeting: Meeting) -> bool:
    """DATA, or a complete header block."""
    return meeting.frame.kind == FrameType.DATA or meeting.block is not None


def depends_on_itself(meeting: Meeting) -> bool:
    return meeting.dependency == meeting.frame.stream_id
