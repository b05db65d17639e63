"""Both servers side by side: each frame goes to both, and what they make of it must be the same, or have a name."""

from collections import Counter
from dataclasses import dataclass, field, replace

import hpack

from gateway.transport.h2.frames import ACK, END_HEADERS, END_STREAM, HEADER, FrameType
from tests.properties.reference.differences import DIFFERENCES
from tests.properties.reference.meeting import Meeting, Retry, field_block
from tests.properties.reference.ours import FINE, Ours, Verdict, judge
from tests.properties.reference.theirs import Theirs
from tests.unit.gateway.transport.h2.peer import Frame


class Unnamed(AssertionError):
    """We differ from the reference, and nobody has said why we may."""


@dataclass
class Pair:
    """The two servers, and what is known of the connection besides."""

    ours: Ours = field(default_factory=Ours)
    theirs: Theirs = field(default_factory=Theirs)
    encoder: hpack.Encoder = field(default_factory=hpack.Encoder)
    named: Counter[str] = field(default_factory=Counter)
    """Differences that were met."""
    refusals: int = 0
    """Requests that are HTTP, but not calls we serve: answered, not reset."""
    over: bool = False
    """The connection has ended, for us or for both."""

    def __post_init__(self) -> None:
        self._decoder = hpack.Decoder()
        self._first: Frame | None = None
        self._fragments = b""
        self._settled = self._leaving = False
        self._told: set[int] = set()

    def feed(self, item: Frame) -> None:
        """Gives a frame to both."""
        if self.over:
            return
        inside = self._first is not None
        first, block = self._collect(item)
        sent = self.ours.feed(octets(item))
        before, verdict = self.theirs.copy(), judge(sent)
        theirs, replies = self.theirs.feed(octets(item))
        if not verdict.agrees(theirs):
            known = self._settled, self._leaving, item.stream_id in self._told, inside and first is None
            self._differ(Meeting(item, before, verdict, theirs, *known, first, block))
        elif verdict == FINE:
            assert _acknowledgements(sent) == _acknowledgements(replies)
        self._follow(item, sent, verdict, before)

    def answer(self, stream_id: int, size: int | None) -> None:
        """The service sends a message of so many bytes, None: the end."""
        if not self.over and not self._first:
            self._repeat(self.ours.answer(stream_id, size))
            self._compare()

    def _collect(self, item: Frame) -> tuple[Frame | None, bytes | None]:
        """The HEADERS frame that `item` belongs to, and the header block it completes."""
        if item.kind == FrameType.HEADERS and self._first is None:
            self._first, self._fragments = item, field_block(item)
        elif item.kind == FrameType.CONTINUATION and self._first and self._first.stream_id == item.stream_id:
            self._fragments += item.payload
        else:
            return None, None
        first = self._first
        if not item.flags & END_HEADERS:
            return first, None
        self._first = None
        return first, self._fragments

    def _differ(self, meeting: Meeting) -> None:
        """Finds the name of a difference, and makes the reference follow us."""
        names = [name for name, difference in DIFFERENCES.items() if difference.is_it(meeting)]
        if not names:
            raise Unnamed(f"no name for this, on a stream that is {meeting.phase}: {meeting}")
        self.named.update(names)
        if meeting.ours.reach == "connection":
            return
        retry = next((DIFFERENCES[name].retry for name in names if DIFFERENCES[name].retry), None)
        if retry is not None:
            self._retry(meeting, retry)
        elif meeting.theirs.reach == "connection":
            failed, self.theirs = self.theirs, meeting.before.copy()
            self.theirs.take_over(failed)
            if meeting.frame.kind == FrameType.DATA:
                self.theirs.spend(len(meeting.frame.payload))
        if meeting.ours.reach == "stream":
            self.theirs.reset(meeting.frame.stream_id, meeting.ours.code)

    def _retry(self, meeting: Meeting, retry: Retry) -> None:
        """Gives the reference something else, to which it is to say what we have said."""
        self.theirs = meeting.before.copy()
        if meeting.block is not None:
            self.theirs.h2.incoming_buffer._headers_buffer = []
        item = retry(meeting, self.theirs)
        if item is None:
            return
        before = self.theirs.copy()
        theirs, _ = self.theirs.feed(octets(item))
        if not theirs.agrees(meeting.ours):
            self._differ(replace(meeting, frame=item, before=before, theirs=theirs, first=None))

    def _follow(self, item: Frame, sent: list[Frame], verdict: Verdict, before: Theirs) -> None:
        """Keeps both going after a frame, and compares what they believe now."""
        if verdict.reach == "connection":
            self.over = True
            return
        if verdict.reach == "stream":
            self._told.add(item.stream_id)
        self.refusals += any(each.kind == FrameType.HEADERS and each.flags & END_STREAM for each in sent)
        if item.kind == FrameType.GOAWAY:
            self._leaving, self.theirs = True, before  # h2 reads nothing more: it is to think there was none
        self._settled = self._settled or (item.kind == FrameType.SETTINGS and not item.flags & ACK)
        self._repeat(sent)
        self._compare()
        self.over = self.ours.connection.finished

    def _repeat(self, sent: list[Frame]) -> None:
        self._told |= {each.stream_id for each in sent if each.kind == FrameType.RST_STREAM}
        self.theirs.repeat(sent, self._decoder)

    def _compare(self) -> None:
        assert self.ours.state() == self.theirs.state()


def octets(item: Frame) -> bytes:
    """The frame on the wire."""
    return HEADER.pack(len(item.payload) << 8 | item.kind, item.flags, item.stream_id) + item.payload


def _acknowledgements(output: list[Frame]) -> list[tuple[int, bytes]]:
    kinds = FrameType.PING, FrameType.SETTINGS
    return [(each.kind, each.payload) for each in output if each.kind in kinds and each.flags & ACK]
