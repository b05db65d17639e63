"""Every difference between our server core and `h2`, by name: what both do, why we may, and how it is recognised.

"5.4.1" stands for: an endpoint may treat any stream error as a connection error, as h2 does nearly always.
"""

from typing import Final

from gateway.transport.h2.errors import ErrorCode
from gateway.transport.h2.frames import END_HEADERS, END_STREAM, FrameType, frame
from gateway.transport.h2.hpack import encode
from tests.properties.reference.header_lists import LAX, STRICT, liked
from tests.properties.reference.meeting import Difference, Meeting
from tests.properties.reference.ours import LIMITS
from tests.properties.reference.situations import (
    CLOSED,
    LIVE,
    carries,
    crowded,
    depends_on_itself,
    entries,
    increment,
    malformed_block,
    misdeclared,
    overlapping,
    updates,
)
from tests.properties.reference.theirs import Theirs
from tests.unit.gateway.transport.h2.peer import Frame

FINE: Final = ("fine", 0)


def stream(code: ErrorCode) -> tuple[str, int]:
    return "stream", code


def connection(code: ErrorCode) -> tuple[str, int]:
    return "connection", code


PROTOCOL: Final = connection(ErrorCode.PROTOCOL_ERROR)
SIZE: Final = connection(ErrorCode.FRAME_SIZE_ERROR)
WINDOW: Final = connection(ErrorCode.FLOW_CONTROL_ERROR)
RESET: Final = stream(ErrorCode.PROTOCOL_ERROR)
LATE: Final = stream(ErrorCode.STREAM_CLOSED)
REFUSED: Final = stream(ErrorCode.REFUSED_STREAM)


def lax(name: str) -> Difference:
    """A header list that h2 minds and we do not."""

    def is_it(meeting: Meeting) -> bool:
        pairs, phase = meeting.pairs, meeting.phase
        if meeting.block is None or pairs is None or phase not in ("idle", "open"):
            return False
        return meeting.said(FINE, PROTOCOL) and name in liked(pairs, trailers=phase == "open")[0]

    return Difference(LAX[name][0], is_it, as_liked)


def as_liked(meeting: Meeting, theirs: Theirs) -> None:
    """The reference gets the list as it likes it, and takes it for the one that was sent."""
    assert meeting.block is not None
    assert meeting.pairs is not None
    new, stream_id = meeting.phase == "idle", meeting.frame.stream_id
    theirs.h2.decoder.decode(meeting.block, raw=True)
    _, pairs = liked(meeting.pairs, trailers=not new)
    flags = END_HEADERS | (END_STREAM if meeting.ended else 0)
    verdict, _ = theirs.feed(frame(FrameType.HEADERS, flags, stream_id, encode(pairs)))
    assert verdict.agrees(meeting.ours)
    if new:
        theirs.requests[stream_id] = meeting.pairs


def strict(name: str) -> Difference:
    """A header list that we mind and h2 does not."""
    why, applies = STRICT[name]

    def is_it(meeting: Meeting) -> bool:
        pairs = meeting.pairs if meeting.block is not None and meeting.phase in ("idle", "open") else None
        return meeting.said(RESET, FINE) and pairs is not None and applies(pairs)

    return Difference(why, is_it)


def without_priority(meeting: Meeting, _: Theirs) -> Frame | None:
    frame = meeting.frame
    if frame.kind == FrameType.PRIORITY:
        return None
    flags = END_HEADERS | (END_STREAM if meeting.ended else 0)
    return Frame(FrameType.HEADERS, flags, frame.stream_id, meeting.block or b"")


def without_reserved_bit(meeting: Meeting, _: Theirs) -> Frame:
    frame = meeting.frame
    return Frame(frame.kind, frame.flags, frame.stream_id, bytes([frame.payload[0] & 0x7F]) + frame.payload[1:])


def without_unknown_settings(meeting: Meeting, _: Theirs) -> Frame:
    known = [pair for pair in entries(meeting) if pair[0] != 8]
    payload = b"".join(identifier.to_bytes(2, "big") + value.to_bytes(4, "big") for identifier, value in known)
    return Frame(FrameType.SETTINGS, 0, 0, payload)


def without_closed_streams(meeting: Meeting, theirs: Theirs) -> Frame:
    assert theirs.h2.open_inbound_streams >= 0  # counting them, h2 forgets those that are closed
    return meeting.frame


def without_content_length(meeting: Meeting, theirs: Theirs) -> Frame:
    theirs.h2.streams[meeting.frame.stream_id]._expected_content_length = None
    return meeting.frame


def nothing(_: Meeting, __: Theirs) -> None:
    return None


DIFFERENCES: Final = {
    # Stream errors that h2 makes connection errors.
    "malformed": Difference(
        "A malformed request is a stream error (8.1.1); h2: 5.4.1",
        lambda meeting: (
            meeting.said(RESET, PROTOCOL)
            and malformed_block(meeting)
            and (meeting.ended or meeting.phase == "idle")
            and not depends_on_itself(meeting)
        ),
    ),
    "trailers-without-end": Difference(
        "A second HEADERS frame has END_STREAM, or the request is malformed (8.1); h2: 5.4.1",
        lambda meeting: (
            meeting.said(RESET, PROTOCOL)
            and meeting.block is not None
            and meeting.phase == "open"
            and not meeting.ended
            and not depends_on_itself(meeting)
        ),
    ),
    "zero-increment": Difference(
        "WINDOW_UPDATE of 0 on a stream is a stream error (6.9); h2: 5.4.1",
        lambda meeting: meeting.said(RESET, PROTOCOL) and increment(meeting) == 0 and meeting.phase in LIVE,
    ),
    "stream-window": Difference(
        "DATA beyond the stream's window alone is a stream error (6.9.1); h2: 5.4.1",
        lambda meeting: (
            meeting.said(stream(ErrorCode.FLOW_CONTROL_ERROR), WINDOW)
            and meeting.frame.kind == FrameType.DATA
            and meeting.phase == "open"
            and len(meeting.frame.payload)
            > (meeting.before.state().live[meeting.frame.stream_id].receive_window_bytes or 0)
        ),
    ),
    "priority-size": Difference(
        "PRIORITY of a wrong length is a stream error (6.3); h2: 5.4.1",
        lambda meeting: (
            meeting.said(stream(ErrorCode.FRAME_SIZE_ERROR), SIZE)
            and meeting.frame.kind == FrameType.PRIORITY
            and meeting.phase in LIVE
        ),
    ),
    "content-length": Difference(
        "A content-length that proves wrong makes the request malformed, a stream error (8.1.1); h2: 5.4.1",
        lambda meeting: meeting.said(RESET, PROTOCOL) and meeting.frame.kind == FrameType.DATA and misdeclared(meeting),
    ),
    # What h2 looks at more closely, or sooner.
    "content-length-early": Difference(
        "We look at content-length when the request ends, or is refused before; h2 as soon as it is exceeded (8.1.1)",
        lambda meeting: (
            meeting.said(FINE, PROTOCOL)
            and meeting.theirs.error == "InvalidBodyLengthError"
            and meeting.frame.kind == FrameType.DATA
        ),
        without_content_length,
    ),
    "self-dependency": Difference(
        "Priorities of RFC 7540 mean nothing any more (5.3.2): we do not read them",
        lambda meeting: (
            meeting.they_said(PROTOCOL)
            and depends_on_itself(meeting)
            and meeting.ours.reach != "connection"
            and (meeting.block is not None or len(meeting.frame.payload) == 5)
        ),
        without_priority,
    ),
    "unknown-setting": Difference(
        "We offer no extended CONNECT: its setting (RFC 8441) is unknown to us, and ignored whatever its value (6.5.2)",
        lambda meeting: (
            meeting.said(FINE, PROTOCOL) and any(value > 1 for identifier, value in entries(meeting) if identifier == 8)
        ),
        without_unknown_settings,
    ),
    "alternative-service": Difference(
        "ALTSVC (RFC 7838) is of unknown type to us: ignored without a look (4.1); h2 wants it well-formed",
        lambda meeting: meeting.we_said(FINE) and meeting.frame.kind == 10,
        nothing,
    ),
    "closed-window": Difference(
        "SETTINGS move the windows of streams (6.9.2), of live ones; h2 lets those of closed ones overflow, too",
        lambda meeting: meeting.said(FINE, WINDOW) and any(identifier == 4 for identifier, _ in entries(meeting)),
        without_closed_streams,
    ),
    "reserved-increment-bit": Difference(
        "The reserved bit of WINDOW_UPDATE is ignored (6.9); h2 takes it for a number",
        lambda meeting: meeting.they_said(PROTOCOL) and (increment(meeting) or 0) >= 2**31,
        without_reserved_bit,
    ),
    "zero-increment-closed": Difference(
        "A WINDOW_UPDATE on a closed stream is ignored (5.1), of 0, too",
        lambda meeting: meeting.said(FINE, PROTOCOL) and increment(meeting) == 0 and meeting.phase in CLOSED,
        nothing,
    ),
    # What h2 lets pass.
    "first-frame": Difference(
        "A client's first frame is SETTINGS, or the connection ends with PROTOCOL_ERROR (3.4); h2 takes any",
        lambda meeting: (
            meeting.we_said(PROTOCOL)
            and not meeting.settled
            and (meeting.frame.kind != FrameType.SETTINGS or bool(meeting.frame.flags & 1))
        ),
    ),
    "reset-idle": Difference(
        "RST_STREAM on an idle stream is a connection error (6.4); h2 ignores it",
        lambda meeting: (
            meeting.said(PROTOCOL, FINE) and meeting.frame.kind == FrameType.RST_STREAM and meeting.phase == "idle"
        ),
    ),
    "content-length-at-end": Difference(
        "A request may also end with HEADERS: content-length holds then as well (8.1.1); h2 looks at it with DATA only",
        lambda meeting: meeting.said(RESET, FINE) and misdeclared(meeting),
    ),
    "padding-over-priority": Difference(
        "Padding that leaves too little of a frame is an error (6.2), of which code depends on what is read first",
        lambda meeting: meeting.we_said(PROTOCOL, SIZE) and overlapping(meeting),
    ),
    "settings-in-order": Difference(
        "SETTINGS are processed in the order they appear (6.5.3); h2 takes the last value of each, checking all first",
        lambda meeting: meeting.ours.reach == "connection" and len(entries(meeting)) > 1,
    ),
    "push-promise": Difference(
        "A client cannot push: PROTOCOL_ERROR (8.4), whatever is in it; h2 wants it complete and well-formed first",
        lambda meeting: meeting.we_said(PROTOCOL) and meeting.frame.kind == FrameType.PUSH_PROMISE,
    ),
    # Closed streams.
    "late-frame": Difference(
        "What comes after our RST_STREAM is ignored: it may have been on its way (5.1); h2 resets again",
        lambda meeting: meeting.said(FINE, LATE) and meeting.phase == "reset by us" and carries(meeting),
    ),
    "told-once": Difference(
        "What comes after the peer's RST_STREAM is a stream error (5.1), once; h2 resets each time",
        lambda meeting: (
            meeting.said(FINE, LATE) and meeting.phase == "reset by the peer" and meeting.told and carries(meeting)
        ),
    ),
    "data-on-closed": Difference(
        "DATA on a stream that was finished or skipped may be a connection error (5.1); h2 resets the stream",
        lambda meeting: (
            meeting.said(connection(ErrorCode.STREAM_CLOSED), LATE)
            and meeting.frame.kind == FrameType.DATA
            and meeting.phase in ("finished", "skipped")
        ),
    ),
    "interrupted-block": Difference(
        "Any frame inside a header block is a PROTOCOL_ERROR (6.10); h2 looks at its length first",
        lambda meeting: meeting.said(PROTOCOL, SIZE) and meeting.interrupts,
    ),
    "naked-continuation": Difference(
        "CONTINUATION that continues nothing is a PROTOCOL_ERROR (6.10); h2 finds the stream closed first",
        lambda meeting: (
            meeting.we_said(PROTOCOL)
            and meeting.theirs.code == ErrorCode.STREAM_CLOSED
            and meeting.frame.kind == FrameType.CONTINUATION
            and meeting.first is None
            and meeting.phase in CLOSED
        ),
    ),
    # Error codes.
    "compression": Difference(
        "A header block that is not HPACK is a COMPRESSION_ERROR (4.3); h2 says PROTOCOL_ERROR",
        lambda meeting: (
            meeting.said(connection(ErrorCode.COMPRESSION_ERROR), PROTOCOL)
            and meeting.block is not None
            and meeting.pairs is None
            and updates(meeting.block) <= 2
        ),
    ),
    "absurd-list": Difference(
        "A header list that is not even read to its end is a COMPRESSION_ERROR (RFC 7541 7.3); h2: ENHANCE_YOUR_CALM",
        lambda meeting: meeting.said(connection(ErrorCode.COMPRESSION_ERROR), connection(ErrorCode.ENHANCE_YOUR_CALM)),
    ),
    "table-size-updates": Difference(
        "More than two table size updates in front of a block are never needed: COMPRESSION_ERROR (RFC 7541 4.2)",
        lambda meeting: meeting.we_said(connection(ErrorCode.COMPRESSION_ERROR)) and updates(meeting.block or b"") > 2,
    ),
    "acknowledgement-size": Difference(
        "SETTINGS with ACK and a payload are a FRAME_SIZE_ERROR (6.5); h2 says PROTOCOL_ERROR",
        lambda meeting: (
            meeting.said(SIZE, PROTOCOL) and meeting.frame.kind == FrameType.SETTINGS and bool(meeting.frame.flags & 1)
        ),
    ),
    "two-faults": Difference(
        "Two connection errors in one frame, too large or of a wrong length (4.2, 6.4) besides: we look at that first",
        lambda meeting: (
            meeting.said(SIZE, PROTOCOL)
            and (
                len(meeting.frame.payload) > LIMITS.max_frame_bytes
                or (meeting.frame.kind == FrameType.RST_STREAM and len(meeting.frame.payload) != 4)
            )
        ),
    ),
    # Limits.
    "too-many-streams": Difference(
        "Streams above SETTINGS_MAX_CONCURRENT_STREAMS are REFUSED_STREAM (5.1.2); the reference here takes more",
        lambda meeting: meeting.said(REFUSED, FINE) and crowded(meeting) and not meeting.leaving,
    ),
    "after-goaway": Difference(
        "A client that says GOAWAY gets ours: later streams are refused (6.8); h2 reads nothing more",
        lambda meeting: meeting.said(REFUSED, FINE) and crowded(meeting) and meeting.leaving,
    ),
    "refused-unread": Difference(
        "A stream that is refused anyway (5.1.2, 6.8) is not looked at: neither is what is malformed about it",
        lambda meeting: (
            meeting.said(REFUSED, PROTOCOL)
            and crowded(meeting)
            and malformed_block(meeting)
            and not depends_on_itself(meeting)
        ),
    ),
    "many-continuations": Difference(
        "So many CONTINUATION frames are a flood: ENHANCE_YOUR_CALM (10.5); h2 takes 63",
        lambda meeting: (
            meeting.we_said(connection(ErrorCode.ENHANCE_YOUR_CALM))
            and meeting.frame.kind == FrameType.CONTINUATION
            and meeting.first is not None
        ),
    ),
    **{name: lax(name) for name in LAX},
    **{name: strict(name) for name in STRICT},
}
